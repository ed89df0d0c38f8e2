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
from pyg_sea.transforms._unit_rows import UnitRows

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

    def __init__(self, unit: UnitRows, generator: torch.Generator) -> None:
        faiss = import_faiss()
        num = len(unit)
        self.num = max(1, min(int(4 * num**0.5), num // _ROWS_PER_CELL))
        self.index = faiss.IndexIVFFlat(
            faiss.IndexFlatIP(unit.width),
            unit.width,
            self.num,
            faiss.METRIC_INNER_PRODUCT,
        )
        # Its random numbers start from a constant.
        sample = _sample(num, _ROWS_PER_CELL * self.num, generator)
        self.index.train(_to_numpy(unit[sample]))
        for _, x in unit.blocks():
            self.index.add(_to_numpy(x))

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
    out = torch.full((x.size(0), k), -1)
    if include_self:
        out[:, 0] = torch.arange(x.size(0))
    others = out[:, int(include_self) :]
    num_others = min(others.size(1), len(unit) - 1)
    if num_others < 1:
        return Approximate(out.to(x.device), 1.0, 0, 0, 0)

    generator = torch.Generator().manual_seed(0)
    cells = _Cells(unit, generator)
    queries = _sample(len(unit), _NUM_QUERIES, generator)
    num_probes, found = _tune(cells, unit, queries, num_others, recall)
    rows = unit.rows.cpu()
    for own, query in unit.blocks():
        query = query.cpu()
        probes = num_probes
        missing = torch.arange(own.numel())
        while missing.numel() > 0:
            _, index = cells.search(
                query[missing], own[missing], num_others, probes
            )
            is_none = index < 0
            others[rows[own[missing]], :num_others] = rows[index].masked_fill(
                is_none, -1
            )
            # Cells that are searched may hold too few rows.
            missing = missing[is_none.any(dim=1)]
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
        queries,
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


def _sample(num_rows: int, num: int, generator: torch.Generator) -> Tensor:
    chosen = torch.randperm(num_rows, generator=generator)[:num]
    return chosen.sort().values


def _to_numpy(x: Tensor) -> Any:
    return x.float().cpu().numpy()
