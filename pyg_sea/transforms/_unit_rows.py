"""Rows of unit length, in blocks where a copy of all would be large."""

from collections.abc import Iterator

import torch
from torch import Tensor

# Up to 256 MiB, all rows are scaled once and kept.
_LARGE_NUMEL = 2**26
_BLOCK_NUMEL = 2**22


def directions(x: Tensor) -> Tensor:
    """Scale rows to unit length; all-zero rows stay zero.

    Shapes: `x` and the output are `[N, F]`.
    """
    x = x.detach().to(torch.promote_types(x.dtype, torch.float32))
    largest = torch.linalg.vector_norm(x, float('inf'), 1, keepdim=True)
    x = x / largest.where(largest > 0, torch.ones_like(largest))
    norm = torch.linalg.vector_norm(x, dim=1, keepdim=True)
    return x.div_(norm.where(norm > 0, torch.ones_like(norm)))


def is_nonzero(x: Tensor) -> Tensor:
    """Return which rows are not all zero.

    Shapes: `x` is `[N, F]`, the output `[N]`.
    """
    # All at once would make booleans of the whole matrix.
    blocks = x.split(max(1, _BLOCK_NUMEL // x.size(1)))
    return torch.cat([block.any(dim=1) for block in blocks])


class UnitRows:
    """The rows of a matrix that have a direction, those that are not all
    zero, scaled to unit length.

    Args:
        x: The matrix, which may be mapped from a file: unless it is small,
            only rows that are asked for are read and copied.

    Shapes: `x` is `[N, F]`; `rows`, where in it these rows are, is `[R]`.
    """

    def __init__(self, x: Tensor) -> None:
        self.width = x.size(1)
        self.rows = is_nonzero(x).nonzero().view(-1)
        self.is_large = x.numel() > _LARGE_NUMEL
        self._all = len(self) == x.size(0)
        self._x = x.detach()
        if not self.is_large:
            self._x = directions(x if self._all else x[self.rows])

    def __len__(self) -> int:
        return self.rows.numel()

    def __getitem__(self, rows: slice | Tensor) -> Tensor:
        if not self.is_large:
            return self._x[rows]
        return directions(self._x[rows if self._all else self.rows[rows]])

    def blocks(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield some after the other: which, `[B]`, and the rows, `[B, F]`."""
        block_size = max(1, _BLOCK_NUMEL // self.width)
        for own in torch.arange(len(self)).split(block_size):
            yield own, self[int(own[0]) : int(own[-1]) + 1]
