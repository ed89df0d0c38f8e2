"""External ids, and the local ids that they stand for."""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from torch import Tensor


class Ids:
    """What the outside calls users or items.

    Args:
        kind: `'user'` or `'item'`, for messages.
        values: One id per local id, of any hashable type.

    Raises a `ValueError` if ids repeat or are missing.
    """

    def __init__(self, kind: str, values: Any) -> None:
        self.kind = kind
        self.index = as_index(values)
        if self.index.hasnans:
            raise ValueError(
                f"'{kind}_ids' needs an id for every {kind} (some are missing)"
            )
        if not self.index.is_unique:
            repeated = self.index[self.index.duplicated()].unique()
            raise ValueError(
                f"'{kind}_ids' needs ids that differ (repeated: "
                f'{_first(repeated)})'
            )

    def __len__(self) -> int:
        return len(self.index)

    def local(self, values: Any) -> NDArray[np.int64]:
        """The local ids of external ones, in their order, repeated or not.

        Raises a `KeyError` that names the first unknown ones.
        """
        index = as_index(values)
        out = np.asarray(self.index.get_indexer(index), dtype=np.int64)
        if (out < 0).any():
            unknown = index[out < 0].unique()
            raise KeyError(
                f'{len(unknown):,} unknown {self.kind} ids: '
                f'{_first(unknown)} (known are {len(self):,} ids such as '
                f'{_first(self.index, 2)})'
            )
        return out

    def external(self, local: NDArray[np.int64]) -> 'pd.Index[Any]':
        """The external ids of local ones."""
        return self.index.take(local)

    def plus(self, values: Any) -> 'Ids':
        """These and further ids, which have to be new and of the same type.

        Raises a `ValueError` or a `TypeError` if they are not.
        """
        more = as_index(values)
        old = self.index.inferred_type
        if len(more) > 0 and len(self) > 0 and more.inferred_type != old:
            raise TypeError(
                f'ids of new {self.kind}s need the type of the old ones, '
                f'{old} (got {more.inferred_type})'
            )
        known = more[self.index.get_indexer(more) >= 0]
        if len(known) > 0:
            raise ValueError(
                f'ids of new {self.kind}s need to be new (there already: '
                f'{_first(known)})'
            )
        try:
            same = more.astype(self.index.dtype)
            fits = bool((same == more).all())
        except OverflowError:
            fits = False
        if not fits:
            raise TypeError(
                f'ids of new {self.kind}s need to fit into the type of the '
                f'old ones, {self.index.dtype} (got {_first(more)})'
            )
        return Ids(self.kind, self.index.append(same))


def as_index(values: Any) -> 'pd.Index[Any]':
    """One or several ids as an index of pandas' own type for what they are."""
    if isinstance(values, Tensor):
        values = values.tolist()
    if pd.api.types.is_scalar(values):
        values = [values]
    if isinstance(values, set | frozenset | dict):
        values = list(values)
    index = pd.Index(values, tupleize_cols=False)
    if index.inferred_type == 'string':
        index = pd.Index(index.tolist())
    return index


def _first(index: 'pd.Index[Any]', num: int = 5) -> str:
    rest = ', ...' if len(index) > num else ''
    return ', '.join(repr(value) for value in index[:num].tolist()) + rest
