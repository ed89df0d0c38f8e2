"""Rows of unit length, in blocks where a copy of all would be large."""

from collections.abc import Iterator

import torch
from torch import Tensor

# Up to 256 MiB, all rows are scaled once and kept.
_LARGE_NUMEL = 2**26
_BLOCK_NUMEL = 2**22


def unit_rows(x: Tensor) -> Tensor:
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
    """A matrix whose rows come scaled to unit length.

    Args:
        x: The rows, which may be mapped from a file: unless they are few,
            only those that are asked for are read and copied.

    Shapes: `x` is `[N, F]`.
    """

    def __init__(self, x: Tensor) -> None:
        self.device, self.width = x.device, x.size(1)
        self._x = x.detach()
        self.is_large = x.numel() > _LARGE_NUMEL
        if not self.is_large:
            self._x = unit_rows(x)

    def __len__(self) -> int:
        return self._x.size(0)

    def __getitem__(self, rows: slice | Tensor) -> Tensor:
        x = self._x[rows]
        return unit_rows(x) if self.is_large else x

    def blocks(self, rows: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield some of `rows`, `[B]`, and what they hold, `[B, F]`."""
        for block in rows.split(max(1, _BLOCK_NUMEL // self.width)):
            yield block, self[block]
