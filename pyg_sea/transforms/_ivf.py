"""Approximate nearest neighbours by cosine, through cells of faiss."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from pyg_sea.transforms._knn import (
    drop_own,
    import_faiss,
    nearest,
    top_faiss,
)
from pyg_sea.transforms._unit_rows import UnitRows, is_nonzero

_NUM_QUERIES = 2000
# What faiss wants at least to find the centre of a cell.
_ROWS_PER_CELL = 40
# Rounding of inner products of unit rows.
_EPSILON = 1e-6


class Approximate(NamedTuple):
    """Neighbours, and how they were found.

    Shapes: `neighbors` is `[N, k]`, -1 where there is none.
    """

    neighbors: Tensor
    recall: float
    num_queries: int
    num_probes: int
    num_cells: int


class _Cells:
    """Unit rows in cells around centres, of which some are searched.

    Holds one copy of the rows, in single precision.
    """

    def __init__(
        self, unit: UnitRows, rows: Tensor, generator: torch.Generator
    ) -> None:
        faiss = import_faiss()
        num = rows.numel()
        self.num = max(1, min(int(4 * num**0.5), num // _ROWS_PER_CELL))
        self.index = faiss.IndexIVFFlat(
            faiss.IndexFlatIP(unit.width),
            unit.width,
            self.num,
            faiss.METRIC_INNER_PRODUCT,
        )
        # Its random numbers start from a constant.
        sample = _sample(rows, _ROWS_PER_CELL * self.num, generator)
        self.index.train(_to_numpy(unit[sample]))
        for block, x in unit.blocks(rows):
            self.index.add_with_ids(_to_numpy(x), block.cpu().numpy())

    def search(
        self, query: Tensor, own: Tensor, k: int, num_probes: int
    ) -> tuple[Tensor, Tensor]:
        """Return scores and rows of the `k` nearest others, `[B, k]`."""
        self.index.nprobe = num_probes
        value, index = map(
            torch.from_numpy, self.index.search(_to_numpy(query), k + 1)
        )
        value, index = drop_own(value, index, own.cpu())
        return value[:, :k], index[:, :k]


def knn_ivf(
    x: Tensor, k: int, include_self: bool, recall: float
) -> Approximate:
    """Find most of the nearest neighbours without comparing all rows.

    As many cells are searched as find the wanted share of the true neighbours
    of a sample of rows. The result is the same every time. All-zero rows
    have no neighbours and are none, but for themselves.

    Args:
        x: Rows of any length.
        k: How many.
        include_self: Whether a row is its own first neighbour, or none.
        recall: The wanted share of neighbours other than the row itself.

    Shapes: `x` is `[N, F]`.
    """
    unit = UnitRows(x)
    rows = is_nonzero(x).nonzero().view(-1)
    out = torch.full((len(unit), k), -1)
    if include_self:
        out[:, 0] = torch.arange(len(unit))
    others = out[:, int(include_self) :]
    num_others = others.size(1)
    if rows.numel() == 0 or num_others == 0:
        return Approximate(out.to(x.device), 1.0, 0, 0, 0)

    generator = torch.Generator().manual_seed(0)
    cells = _Cells(unit, rows, generator)
    queries = _sample(rows, _NUM_QUERIES, generator)
    num_probes, found = _tune(cells, unit, queries, num_others, recall)
    for own, query in unit.blocks(rows):
        own, query = own.cpu(), query.cpu()
        probes = num_probes
        missing = torch.arange(own.numel())
        while missing.numel() > 0:
            _, index = cells.search(
                query[missing], own[missing], num_others, probes
            )
            others[own[missing]] = index
            # Cells that are searched may hold too few rows.
            missing = missing[(index < 0).any(dim=1)]
            if probes == cells.num:
                break
            probes = min(2 * probes, cells.num)
    return Approximate(
        out.to(x.device), found, queries.numel(), num_probes, cells.num
    )


def _tune(
    cells: _Cells, unit: UnitRows, queries: Tensor, k: int, recall: float
) -> tuple[int, float]:
    query = unit[queries]
    num_columns = max(1, 2**22 // unit.width)
    true, _ = drop_own(
        *nearest(unit, queries, min(k + 1, len(unit)), top_faiss, num_columns),
        queries.cpu(),
    )
    # Of equally near rows any will do.
    least = true[:, k - 1 : k] - _EPSILON
    num_probes = 1
    while True:
        value, _ = cells.search(query, queries, k, num_probes)
        found = float((value >= least).double().mean())
        if found >= recall or num_probes == cells.num:
            return num_probes, found
        num_probes = min(2 * num_probes, cells.num)


def _sample(rows: Tensor, num: int, generator: torch.Generator) -> Tensor:
    chosen = torch.randperm(rows.numel(), generator=generator)[:num]
    return rows[chosen.sort().values.to(rows.device)]


def _to_numpy(x: Tensor) -> Any:
    return x.float().cpu().numpy()
