"""Feature matrices as they are found, read in chunks of rows."""

from collections.abc import Iterator, Sequence
from mmap import mmap
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

# Numbers per chunk, so that a few float64 copies of it are small.
_CHUNK_SIZE = 2**20


class Matrix:
    """Rows of floats: an array, in memory or mapped, a tensor, or a list.

    Args:
        name: The modality that messages name.
        x: `[num_rows, width]`, floats of any type.
        rows: Which rows are wanted, in which order (default: `None`, all).
        source: The file that `x` is all of (default: `None`).

    Raises a `TypeError` or `ValueError` for other shapes and types.
    """

    def __init__(
        self,
        name: str,
        x: Any,
        rows: NDArray[np.int64] | None = None,
        source: Path | None = None,
    ) -> None:
        x = x.detach() if isinstance(x, Tensor) else np.asanyarray(x)
        if x.ndim != 2 or x.shape[1] == 0:
            raise ValueError(
                f"the features of modality '{name}' need the shape [num_items,"
                f' width] with a width of at least 1 (got {list(x.shape)})'
            )
        if not (
            x.is_floating_point()
            if isinstance(x, Tensor)
            else np.issubdtype(x.dtype, np.floating)
        ):
            raise TypeError(
                f"the features of modality '{name}' need to be floats (got "
                f'{x.dtype}); if these numbers are no ids or codes, convert '
                'them with .astype(np.float32)'
            )
        if rows is not None and np.array_equal(rows, np.arange(len(x))):
            rows = None
        self.name = name
        self.source = source
        self.shape = (len(x) if rows is None else len(rows), int(x.shape[1]))
        self._x = x
        self._rows = rows

    def __len__(self) -> int:
        return self.shape[0]

    def chunks(self) -> Iterator[tuple[slice, NDArray[np.float32]]]:
        """Yield copies of some rows after the other, as float32."""
        step = max(1, _CHUNK_SIZE // self.shape[1])
        for start in range(0, len(self), step):
            rows = slice(start, min(start + step, len(self)))
            part = self._x[rows if self._rows is None else self._rows[rows]]
            if isinstance(part, Tensor):
                # NumPy has no bfloat16.
                part = part.float().cpu().numpy()
            with np.errstate(over='ignore'):
                part = np.array(part, dtype=np.float32, order='C')
            yield rows, part

    @property
    def is_half(self) -> bool:
        """Whether nothing is lost in float16."""
        return isinstance(self._x, np.ndarray) and self._x.itemsize == 2

    def mapped(self) -> Tensor | None:
        """Return the matrix as a tensor over its file, if there is one that
        holds just that: native float32 or float16, row after row.
        """
        x = self._x
        if not (
            isinstance(x, np.memmap)
            and isinstance(x.base, mmap)
            and self._rows is None
            and x.dtype in (np.float32, np.float16)
            and x.flags.c_contiguous
            and x.flags.aligned
        ):
            return None
        if not x.flags.writeable:
            # Writing to it would kill the process; to this, changes a copy.
            x = np.memmap(x.filename, x.dtype, 'c', x.offset, x.shape)
        return torch.from_numpy(x)


def select_rows(
    name: str,
    x: pd.DataFrame | ArrayLike | Tensor,
    items: NDArray[Any],
    item_ids: Sequence[Any] | NDArray[Any] | None,
) -> Matrix:
    """Return the rows of some items.

    Args:
        name: The modality that messages name.
        x: All rows; those of a `DataFrame` belong to the ids in its index.
        items: The ids that are wanted, in their order.
        item_ids: Whose rows those of arrays are (default: rows are ids).

    Raises a `ValueError` if there is not exactly one row per item.
    """
    matrix: Any
    if isinstance(x, pd.DataFrame):
        index, matrix, what = x.index, x.to_numpy(), 'the index'
    else:
        matrix = x if isinstance(x, Tensor) else np.asanyarray(x)
        rows = range(len(matrix)) if item_ids is None else item_ids
        index, what = pd.Index(rows), "'item_ids'"
        if len(index) != len(matrix):
            raise ValueError(
                f"'item_ids' needs one id per row of modality '{name}' (got "
                f'{len(index):,} ids and {len(matrix):,} rows)'
            )
    if index.has_duplicates:
        repeated = index[index.duplicated()].tolist()[0]
        raise ValueError(
            f"{what} of modality '{name}' repeats the item id {repeated!r}"
        )
    position = index.get_indexer(pd.Index(items))
    lost = items[position < 0]
    if len(lost) > 0:
        hint = (
            "; say with 'item_ids' which item each row belongs to"
            if item_ids is None and not isinstance(x, pd.DataFrame)
            else ''
        )
        raise ValueError(
            f"modality '{name}' has no features for {len(lost):,} of "
            f'{len(items):,} items, such as {lost.tolist()[0]!r} (known ids: '
            f'{index[:3].tolist()}, ...). Add rows (of NaN if these items '
            f'lack the modality) or drop the items{hint}'
        )
    return Matrix(name, matrix, position)
