"""How the features of items are made, and made again for new items."""

import contextlib
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pyg_sea.datasets._npy import read_npy, write_npy
from pyg_sea.runs._tables import count, guess_column, read_table, text_of


class NoFeaturesError(ValueError):
    """No item has features of a modality; the message says why."""


@dataclass(frozen=True)
class Recipe:
    """Where the features of one modality come from.

    Args:
        kind: `'text'`, `'images'` or `'features'`.
        source: Columns of texts, one column or folder of images, or one file
            of vectors; empty for vectors that have to be given anew.
        model: The model that encodes, a name or a folder; none for vectors.
    """

    kind: str
    source: tuple[str, ...] = ()
    model: str | None = None

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> 'Recipe':
        """The recipe that :meth:`to_json` stored."""
        return cls(content['kind'], tuple(content['source']), content['model'])

    def to_json(self) -> dict[str, Any]:
        """What :meth:`of` reads. Files of vectors hold no new items."""
        source = () if self.kind == 'features' else self.source
        return {'kind': self.kind, 'source': [*source], 'model': self.model}

    def found(self, table: pd.DataFrame) -> 'Recipe':
        """The same, with folders and models that can be found from anywhere.

        Args:
            table: The items.

        Raises a `ValueError` or `FileNotFoundError` if there is no such
        column or folder.
        """
        model = self.model
        if model is not None and Path(model).expanduser().is_dir():
            model = str(Path(model).expanduser().absolute())
        if self.kind == 'text':
            for column in self.source:
                if column not in table:
                    raise ValueError(
                        f"the items have no column '{column}' for texts "
                        f'(columns: {list(table)})'
                    )
        if self.kind == 'images' and self.source[0] not in table:
            folder = Path(self.source[0]).expanduser().absolute()
            if not folder.is_dir():
                raise FileNotFoundError(
                    f"'{self.source[0]}' is neither a column of the items "
                    f'({list(table)}) nor a folder of images'
                )
            return replace(self, source=(str(folder),), model=model)
        return replace(self, model=model)


@dataclass(frozen=True)
class Written:
    """Which items have features, and why others have none.

    Args:
        missing: Which rows are NaN, `[I]`.
        reasons: Why, by row.
    """

    missing: NDArray[np.bool_]
    reasons: Mapping[int, str]

    def describe(self, ids: Sequence[str]) -> str:
        """What to say about it."""
        num, lacking = len(self.missing), int(self.missing.sum())
        text = f'{num - lacking:,} of {count(num)} have features'
        if lacking > 0:
            some = [
                f'{ids[i]} ({self.reasons.get(i, "not there")})'
                for i in self.missing.nonzero()[0][:3]
            ]
            text += f', not {", ".join(some)}'
            text += ', ...' if lacking > 3 else ''
        return text


def write_features(
    recipe: Recipe,
    table: pd.DataFrame,
    ids: Sequence[str],
    out: Path,
    base: Path,
    device: str = 'auto',
    progress: bool = True,
) -> Written:
    """Write the feature file of some items, NaN for those that lack it.

    Args:
        recipe: Where they come from.
        table: The items, with ids as its index.
        ids: The items that are wanted, in their order.
        out: The `.npy` file.
        base: What paths in the table are relative to.
        device: Where models compute (default: `'auto'`).
        progress: Whether to show progress bars (default: `True`).

    Raises a `NoFeaturesError` if no item has features.
    """
    if recipe.kind == 'features':
        return _write_vectors(recipe, table, ids, out)
    # To load the encoders takes seconds.
    from pyg_sea.encode.image import encode_images
    from pyg_sea.encode.text import encode_text

    rows = table.reindex(list(ids))
    common: dict[str, Any] = {
        'device': device,
        'ids': ids,
        'progress': progress,
    }
    model = str(recipe.model)
    with _bars(progress), warnings.catch_warnings():
        # What it says of missing items is said better here.
        warnings.filterwarnings('ignore', '.*their rows are NaN')
        if recipe.kind == 'text':
            texts = text_of(rows, recipe.source)
            if not any(texts):
                raise NoFeaturesError(
                    f'no item has a text in {list(recipe.source)}'
                )
            done = encode_text(texts, model, out, **common)
        else:
            paths = _image_paths(recipe.source[0], rows, base)
            if not any(path and path.is_file() for path in paths):
                raise NoFeaturesError(
                    'no item has an image: there is no file such as '
                    f"'{next(filter(None, paths), None)}'"
                )
            done = encode_images(paths, model, out, **common)
    return Written(done.missing, done.reasons)


@contextlib.contextmanager
def _bars(shown: bool) -> Iterator[None]:
    # Transformers draws some of its own while it loads weights.
    try:
        from transformers.utils import logging
    except ImportError:
        yield  # The encoders say what is missing.
        return
    before = logging.is_progress_bar_enabled()
    if not shown:
        logging.disable_progress_bar()
    try:
        yield
    finally:
        if before:
            logging.enable_progress_bar()


def _image_paths(
    source: str, rows: pd.DataFrame, base: Path
) -> list[Path | None]:
    if source in rows:
        return [
            None
            if pd.isna(value) or not str(value).strip()
            # An absolute path stays what it is.
            else base / Path(str(value).strip()).expanduser()
            for value in rows[source]
        ]
    files: dict[str, list[Path]] = {}
    for path in sorted(Path(source).iterdir()):
        if path.is_file():
            files.setdefault(path.stem, []).append(path)
    found = [files.get(item, []) for item in rows.index]
    for item, paths in zip(rows.index, found):
        if len(paths) > 1:
            raise ValueError(
                f"the item '{item}' has several images, "
                f'{[path.name for path in paths]}: leave one in {source}'
            )
    if not any(found):
        raise NoFeaturesError(
            f"no file in '{source}' is named by an item: it holds "
            f'{[path.name for paths in files.values() for path in paths][:3]},'
            f' and items are {rows.index[:3].tolist()}'
        )
    # A file that is not there says best why there are no features.
    return [
        paths[0] if paths else Path(source, item)
        for item, paths in zip(rows.index, found)
    ]


def _write_vectors(
    recipe: Recipe, table: pd.DataFrame, ids: Sequence[str], out: Path
) -> Written:
    path = Path(recipe.source[0]).expanduser()
    if path.suffix == '.npy':
        x = read_npy(path)
        if x.ndim != 2 or len(x) != len(table):
            raise ValueError(
                f"'{path}' needs one row for each of the {len(table):,} items "
                f'of the table of items, in their order (got {list(x.shape)})'
            )
        index, values = table.index, x.astype(np.float32)
    else:
        frame = read_table(path)
        column = (
            guess_column(frame, 'item')
            or guess_column(frame, 'id')
            or frame.columns[0]
        )
        try:
            values = frame.drop(columns=column).to_numpy(np.float32)
        except ValueError as error:
            raise ValueError(
                f"'{path}' needs numbers in all columns but '{column}', the "
                f'ids of items: {error}'
            ) from error
        index = pd.Index(frame[column])
    if index.has_duplicates:
        raise ValueError(
            f"'{path}' repeats the item '{index[index.duplicated()][0]}'"
        )
    if values.size == 0:
        raise ValueError(
            f"'{path}' needs one row of numbers per item (got "
            f'{len(values):,} rows with {values.shape[1]} numbers)'
        )
    position = index.get_indexer(pd.Index(ids))
    x = np.where((position < 0)[:, None], np.nan, values[position])
    missing = np.isnan(x).all(axis=1) | ~x.any(axis=1)
    if missing.all():
        raise NoFeaturesError(
            f"'{path}' has no vector of any item: it holds "
            f'{index[:3].tolist()}, and items are {list(ids[:3])}'
        )
    broken = ~missing & ~np.isfinite(x).all(axis=1)
    if broken.any():
        raise ValueError(
            f"'{path}' holds NaN, infinite or larger than float32 values in "
            f'the vectors of {count(int(broken.sum()))}, such as '
            f'{ids[int(broken.argmax())]}. Repair them, or leave the whole '
            'vector empty (NaN) for an item that has none'
        )
    write_npy(out, x.shape, np.float32, [x])
    return Written(missing, {})
