"""What is known of items beside their rows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pyg_sea.datasets._features import normalize_of
from pyg_sea.datasets._matrix import Matrix
from pyg_sea.datasets._moments import Moments
from pyg_sea.datasets._npy import read_npy
from pyg_sea.runs._data import DEMO, PREPARED, prepared
from pyg_sea.runs._features import Recipe
from pyg_sea.runs._files import read_json, replacing, write_json
from pyg_sea.runs._tables import read_table, write_table

TITLES = 'titles.csv'
_MOMENTS = 'moments.npz'


@dataclass(frozen=True)
class Catalogue:
    """Titles of items, and how features of new ones are made.

    Args:
        recipes: Where the features of each modality come from.
        item_id: The column of ids in the table of items, if known.
        title: The column of titles, if known.
        normalize: How features are scaled, by modality.
        moments: The moments of what is standardised, by modality.
        titles: The titles, by id.
    """

    recipes: Mapping[str, Recipe]
    item_id: str | None = None
    title: str | None = None
    normalize: Mapping[str, str | None] = field(default_factory=dict)
    moments: Mapping[str, Moments] = field(default_factory=dict)
    titles: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of_data(
        cls, settings: Mapping[str, Any], modalities: Sequence[str]
    ) -> 'Catalogue':
        """The catalogue behind the data of a run.

        Args:
            settings: The entry `'data'` of the settings of a run.
            modalities: Their names.
        """
        recipes = dict.fromkeys(modalities, Recipe('features'))
        if settings['folder'] == DEMO:
            return cls(recipes, normalize=dict.fromkeys(modalities))
        folder = Path(settings['folder'])
        known = prepared(folder) or {'modalities': {}}
        for name, content in known['modalities'].items():
            # Files may have been exchanged for others since.
            if settings['modalities'].get(name) == f'{name}_feat.npy':
                recipes[name] = Recipe.of(content)
        how = {
            name: normalize_of(name, settings['normalize'])
            for name in modalities
        }
        return cls(
            recipes,
            known.get('item_id'),
            known.get('title'),
            how,
            {
                name: _moments(name, folder / settings['modalities'][name])
                for name in modalities
                if how[name] == 'standard'
            },
            read_titles(folder / TITLES),
        )

    def scaled(self, name: str, x: NDArray[Any]) -> NDArray[np.float32]:
        """Features of new items, scaled as those of training were; NaN for
        items that lack the modality.

        Args:
            name: The modality.
            x: The features, `[N, F]`.
        """
        x = np.array(x, dtype=np.float64)
        missing = np.isnan(x).all(axis=1) | ~x.any(axis=1)
        how = self.normalize.get(name)
        if how == 'l2':
            norm = np.linalg.norm(x, axis=1, keepdims=True)
            x /= np.where(missing[:, None], 1, norm)
        elif how == 'standard':
            width = np.shape(self.moments[name].mean)[0]
            if x.shape[1] != width:
                raise ValueError(
                    f"the features of modality '{name}' need the {width} "
                    f'columns of those in training (got {x.shape[1]})'
                )
            x = self.moments[name].standardize(x)
        x[missing] = np.nan
        return x.astype(np.float32)

    def save(self, folder: Path) -> None:
        """Write the catalogue.

        Args:
            folder: Where to.
        """
        # First: with it the folder is known to be ours.
        write_json(
            folder / PREPARED,
            {
                'item_id': self.item_id,
                'title': self.title,
                'normalize': dict(self.normalize),
                'modalities': {
                    name: recipe.to_json()
                    for name, recipe in self.recipes.items()
                },
            },
        )
        write_titles(folder / TITLES, self.titles)
        arrays: dict[str, Any] = {
            f'{name}/{key}': np.asarray(value)
            for name, moments in self.moments.items()
            for key, value in vars(moments).items()
        }
        with replacing(folder / _MOMENTS) as scratch:
            np.savez(scratch, **arrays)

    @classmethod
    def load(cls, folder: Path) -> 'Catalogue':
        """Read what :meth:`save` wrote.

        Args:
            folder: Where it is.
        """
        content = read_json(folder / PREPARED)
        return cls(
            {
                name: Recipe.of(recipe)
                for name, recipe in content['modalities'].items()
            },
            content['item_id'],
            content['title'],
            content['normalize'],
            _read_moments(folder / _MOMENTS),
            read_titles(folder / TITLES),
        )


def read_titles(path: Path) -> dict[str, str]:
    """Return the titles of a file, by id; none if there is no file."""
    if not path.is_file():
        return {}
    table = read_table(path, texts=['item', 'title']).dropna()
    return dict(zip(table['item'], table['title']))


def write_titles(path: Path, titles: Mapping[str, str]) -> None:
    """Write the titles of items."""
    columns = {'item': list(titles), 'title': list(titles.values())}
    write_table(path, pd.DataFrame(columns, dtype=object))


def _read_moments(path: Path) -> dict[str, Moments]:
    moments: dict[str, Moments] = {}
    try:
        with np.load(path, allow_pickle=False) as arrays:
            for key in arrays:
                name, attribute = key.rsplit('/', 1)
                moment = moments.setdefault(name, Moments())
                setattr(moment, attribute, arrays[key])
    except (BadZipFile, EOFError, ValueError) as error:
        raise ValueError(
            f"'{path}' is cut short or was changed: {error}"
        ) from error
    return moments


def _moments(name: str, path: Path) -> Moments:
    moments = Moments()
    for _, x in Matrix(name, read_npy(path)).chunks():
        # As on loading: rows of NaN and of zeros do not count.
        there = ~np.isnan(x).all(axis=1) & x.any(axis=1)
        moments.add(x[there].astype(np.float64))
    return moments
