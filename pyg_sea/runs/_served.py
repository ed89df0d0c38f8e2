"""A recommender with its catalogue: what answers requests."""

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pyg_sea.runs._catalogue import Catalogue
from pyg_sea.runs._data import PREPARED
from pyg_sea.runs._features import NoFeaturesError, Recipe, write_features
from pyg_sea.runs._prepare import titles_of
from pyg_sea.runs._tables import count
from pyg_sea.runs.run import CATALOGUE, RECOMMENDER, Run
from pyg_sea.serving import Recommender


class Served:
    """A folder with a recommender and the catalogue behind it.

    Args:
        recommender: The recommender.
        catalogue: What is known of its items.
    """

    def __init__(self, recommender: Recommender, catalogue: Catalogue) -> None:
        self.recommender = recommender
        self.catalogue = catalogue

    @classmethod
    def open(cls, path: Path) -> 'Served':
        """Read a run folder, what :meth:`save` wrote, or a recommender alone.

        Raises a `FileNotFoundError` or `ValueError` if it is none of them.
        """
        path = path.expanduser()
        if (path / 'recommender.json').is_file():
            return cls(Recommender.load(path), Catalogue({}))
        if (path / 'run.json').is_file() or not (path / RECOMMENDER).is_dir():
            Run.open(path)
        return cls(
            Recommender.load(path / RECOMMENDER),
            Catalogue.load(path / CATALOGUE),
        )

    @staticmethod
    def check_out(path: Path) -> Path:
        """Return the folder that :meth:`save` may write.

        Args:
            path: Where to; not a run, which stays as it was trained.

        Raises a `FileExistsError` if there is something else.
        """
        path = path.expanduser().absolute()
        if path.exists() and not (
            path.is_dir()
            and not (path / 'run.json').exists()
            and (
                (path / CATALOGUE / PREPARED).is_file()
                or not any(path.iterdir())
            )
        ):
            raise FileExistsError(
                f"'{path}' is there already and was not written by 'pyg-sea "
                "add-items': choose another folder"
            )
        return path

    def save(self, path: Path) -> None:
        """Write the folder.

        Args:
            path: Where to, see :meth:`check_out`.
        """
        path = self.check_out(path)
        self.catalogue.save(path / CATALOGUE)
        self.recommender.save(path / RECOMMENDER)

    def with_titles(self, table: pd.DataFrame) -> pd.DataFrame:
        """The table with a column of titles behind that of items, if there
        are any.
        """
        titles = self.catalogue.titles
        if not titles:
            return table
        place = list(table).index('item') + 1
        column = [titles.get(str(item), '') for item in table['item']]
        out = table.copy()
        out.insert(place, 'title', column)
        return out

    def ids(self, kind: str, values: list[str]) -> list[Any]:
        """Ids as they were typed, in the type that the recommender knows.

        Args:
            kind: `'user'` or `'item'`.
            values: The ids.
        """
        known = getattr(self.recommender, f'{kind}_ids')
        if known.inferred_type != 'integer':
            return values
        try:
            return [int(value) for value in values]
        except ValueError as error:
            raise KeyError(
                f'{kind} ids are integers here, such as {known[0]} ({error})'
            ) from None

    def add_items(
        self,
        items: pd.DataFrame,
        given: Mapping[str, Recipe],
        base: Path,
        title: str | None = None,
        device: str = 'auto',
        progress: bool = True,
        say: Callable[[str], None] = print,
    ) -> 'Served':
        """Return the same with the items of a table that are not there yet.

        Args:
            items: One row per item, with ids as its index.
            given: Where features come from, where not from where they came
                on preparing, by modality.
            base: What paths in `items` are relative to.
            title: The column of titles (default: `None`, as on preparing).
            device: Where models compute (default: `'auto'`).
            progress: Whether to show progress bars (default: `True`).
            say: Tells what is done (default: `print`).

        Raises a `ValueError` if the model cannot take new items, nothing is
        new, or no new item has features.
        """
        # Before what may take hours.
        self.recommender.state.require_terms('add_items')
        recipes = self._recipes(given)
        known = {str(item) for item in self.recommender.item_ids}
        ids = [item for item in items.index if item not in known]
        if not ids:
            raise ValueError(
                'nothing to add: all of the table is there already '
                f'({count(len(items))})'
            )
        if len(ids) < len(items):
            say(
                f'{len(items) - len(ids):,} of {count(len(items))} there '
                'already: left as they are'
            )
        features = self._features(
            items, ids, recipes, base, device, progress, say
        )
        there = np.zeros(len(ids), dtype=bool)
        for x in features.values():
            there |= ~np.isnan(x).all(axis=1)
        if not there.any():
            raise ValueError(
                'none of the new items has features: see that the table and '
                f'the files name them as {ids[:3]}'
            )
        if not there.all():
            out = [item for item, ok in zip(ids, there) if not ok]
            say(
                f'{count(len(out))} left out, without features, such as '
                f'{out[0]}'
            )
        new = [item for item, ok in zip(ids, there) if ok]
        recommender = self.recommender.add_items(
            {name: x[there] for name, x in features.items()},
            self.ids('item', new),
        )
        total = len(recommender.item_ids)
        say(f'{count(len(new))} added, {total:,} in all')
        column = title or self.catalogue.title
        column = column if column in items else None
        titles = {**self.catalogue.titles, **titles_of(items, new, column)}
        return Served(recommender, replace(self.catalogue, titles=titles))

    def _recipes(self, given: Mapping[str, Recipe]) -> dict[str, Recipe]:
        known = self.catalogue.recipes
        if not known:
            raise ValueError(
                'nothing is known of how the features of items were made: '
                "name a run folder or what 'pyg-sea add-items' wrote"
            )
        out = dict(known)
        for name, recipe in given.items():
            old = known.get(name)
            if old is None or recipe.kind not in (old.kind, 'features'):
                kinds = {key: value.kind for key, value in known.items()}
                raise ValueError(
                    f"the modality '{name}' of new items needs to be made as "
                    f'those of training were: {kinds} (got {recipe.kind})'
                )
            # The same model, or vectors would mean something else.
            model = None if recipe.kind == 'features' else old.model
            out[name] = replace(recipe, model=model)
        return out

    def _features(
        self,
        items: pd.DataFrame,
        ids: list[str],
        recipes: Mapping[str, Recipe],
        base: Path,
        device: str,
        progress: bool,
        say: Callable[[str], None],
    ) -> dict[str, Any]:
        features = {}
        for name, recipe in recipes.items():
            if not recipe.source:
                say(f'{name}: no file of vectors is given, new items lack it')
                continue
            try:
                with tempfile.TemporaryDirectory() as folder:
                    file = Path(folder, 'new.npy')
                    recipe = recipe.found(items)
                    written = write_features(
                        recipe, items, ids, file, base, device, progress
                    )
                    x = np.load(file, allow_pickle=False)
            except NoFeaturesError as error:
                say(f'{name}: {error}, new items lack it')
                continue
            say(f'{name}: {written.describe(ids)}')
            features[name] = self.catalogue.scaled(name, x)
        return features
