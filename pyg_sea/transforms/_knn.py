"""Exact nearest neighbours by cosine, in tiles of bounded size."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from pyg_sea.transforms._unit_rows import UnitRows

# Scores that are held at a time, 64 MiB of them.
_TILE_NUMEL = 2**24

# From queries `[B, F]` and rows `[C, F]` to the `k` largest inner products of
# each query and the positions of their rows, `[B, k]` both, in falling order.
TopK = Callable[[Tensor, Tensor, int], tuple[Tensor, Tensor]]


def import_faiss() -> Any:
    """Return the module, or say which extra brings it."""
    try:
        import faiss
    except ImportError as error:
        raise ImportError(
            'backend=\'faiss\' needs faiss: pip install "pyg_sea[knn]"'
        ) from error
    return faiss


def top_torch(query: Tensor, x: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Compare by a matrix product; the lower of equal rows comes first."""
    score = query @ x.t()
    value, index = score.topk(min(k + 1, score.size(1)))
    # `topk` alone picks among equal scores as it pleases.
    tied = value[:, k - 1 : -1].eq(value[:, k:]).squeeze(1)
    index = index[:, :k]
    if bool(tied.any()):
        order = score[tied].sort(dim=1, descending=True, stable=True).indices
        index[tied] = order[:, :k]
    index = index.sort(dim=1).values
    value, order = score.gather(1, index).sort(
        dim=1, descending=True, stable=True
    )
    return value, index.gather(1, order)


def top_faiss(query: Tensor, x: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Compare by faiss, on the CPU and in single precision."""
    faiss = import_faiss()
    value, index = faiss.knn(
        query.float().cpu().numpy(),
        x.float().cpu().numpy(),
        k,
        metric=faiss.METRIC_INNER_PRODUCT,
    )
    return torch.from_numpy(value), torch.from_numpy(index)


def nearest(
    unit: UnitRows, rows: slice | Tensor, k: int, top: TopK, num_columns: int
) -> tuple[Tensor, Tensor]:
    """Compare some rows with all of them.

    Args:
        unit: All rows.
        rows: Which to compare, by position.
        k: How many to find, at most as many as there are.
        top: How to compare.
        num_columns: With how many at a time.

    Shapes: the output, scores in falling order and positions, is `[B, k]`.
    """
    query = unit[rows]
    value, index = query[:, :0], query[:, :0].long()
    for start in range(0, len(unit), num_columns):
        part = unit[start : start + num_columns]
        more, where = top(query, part, min(k, part.size(0)))
        # What came before has the lower positions, so it goes first.
        value = torch.cat([value.to(more), more], dim=1)
        index = torch.cat([index.to(where), where + start], dim=1)
        value, order = value.sort(dim=1, descending=True, stable=True)
        value, index = value[:, :k], index.gather(1, order[:, :k])
    return value, index


def drop_own(
    value: Tensor, index: Tensor, own: Tensor
) -> tuple[Tensor, Tensor]:
    """Move the row itself to the end of what was found for it.

    Shapes: `value`, `index` and the output are `[B, k]`, `own` is `[B]`.
    """
    is_own = index == own.to(index.device).view(-1, 1)
    order = is_own.byte().sort(dim=1, stable=True).indices
    return value.gather(1, order), index.gather(1, order)


def knn_exact(
    x: Tensor, k: int, include_self: bool, top: TopK, block_size: int | None
) -> Tensor:
    """Find nearest neighbours by comparing all rows with all rows. All-zero
    rows have no neighbours and are none, but for themselves.

    Args:
        x: Rows of any length.
        k: How many.
        include_self: Whether a row is its own first neighbour, or none.
        top: How to compare.
        block_size: Rows per block; `None` for tiles of 64 MiB.

    Shapes: `x` is `[N, F]`, the output `[N, k]`, -1 where there is none.
    """
    unit = UnitRows(x)
    num = len(unit)
    out = torch.full((x.size(0), k), -1, device=x.device)
    if include_self:
        out[:, 0] = torch.arange(x.size(0))
    if num == 0:
        return out
    # Large blocks are worth it where rows are scaled anew for every one, and
    # to faiss, which is slow below 1024 queries but needs no table of scores.
    faiss = top is top_faiss
    least = 4096 if faiss or unit.is_large else 256
    block_size = block_size or max(_TILE_NUMEL // num, least)
    num_columns = max(1, _TILE_NUMEL // (unit.width if faiss else block_size))
    first = int(include_self)
    last = min(k, first + num - 1)
    for own in torch.arange(num).tensor_split(-(-num // block_size)):
        rows = slice(int(own[0]), int(own[-1]) + 1)
        found = nearest(unit, rows, min(k + 1, num), top, num_columns)
        _, index = drop_own(*found, own)
        others = unit.rows[index[:, : last - first].to(x.device)]
        out[unit.rows[rows], first:last] = others
    return out
