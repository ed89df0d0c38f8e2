"""Large inner products without comparing all rows, through cells of faiss."""

import torch
from torch import Tensor

from pyg_sea.recommend import TopK
from pyg_sea.serving._rank import ExactSearch
from pyg_sea.transforms._knn import import_faiss

_NUM_QUERIES = 1000
_NUM_NEAREST = 20
# What faiss wants at least to find the centre of a cell.
_ROWS_PER_CELL = 40
# Users with more to leave out than this are served exactly.
_MAX_EXCLUDED = 512
# Rounding, relative to the largest score.
_EPSILON = 1e-6


class FaissSearch:
    """Searches as many cells as find the wanted share of the best items of
    1,000 users. The result is the same every time.

    Args:
        x: The rows to search.
        queries: The rows of users to measure with.
        recall: The wanted share of their 20 best items.

    Shapes: `x` is `[I, D]`, `queries` are `[U, D]`.
    """

    def __init__(self, x: Tensor, queries: Tensor, recall: float) -> None:
        faiss = import_faiss()
        generator = torch.Generator().manual_seed(0)
        num, width = x.shape
        self.exact = ExactSearch(x)
        self.num_cells = max(1, min(int(4 * num**0.5), num // _ROWS_PER_CELL))
        self.index = faiss.IndexIVFFlat(
            faiss.IndexFlatIP(width),
            width,
            self.num_cells,
            faiss.METRIC_INNER_PRODUCT,
        )
        sample = torch.randperm(num, generator=generator)
        sample = sample[: _ROWS_PER_CELL * self.num_cells].sort().values
        self.index.train(x[sample].numpy())
        self.index.add(x.numpy())
        chosen = torch.randperm(queries.size(0), generator=generator)
        self.recall = self._tune(queries[chosen[:_NUM_QUERIES]], recall)

    @property
    def num_probes(self) -> int:
        """How many cells are searched."""
        return int(self.index.nprobe)

    def __call__(self, query: Tensor, k: int, exclude: Tensor) -> TopK:
        """The best `k` rows per query but for the pairs to exclude.

        Shapes: `query` is `[B, D]`, `exclude` `[2, E]`, the output `[B, k]`.
        """
        num, size = query.size(0), self.exact.x.size(0)
        count = exclude[0].bincount(minlength=num)
        simple = count <= _MAX_EXCLUDED
        most = int(count[simple].max()) if bool(simple.any()) else 0
        found, items = self._search(query, min(k + most, size))

        row = torch.arange(num).unsqueeze(1)
        taken = torch.isin(row * size + items, exclude[0] * size + exclude[1])
        is_none = taken | (items < 0)
        # A stable order keeps the best ones that are left in front.
        order = is_none.byte().sort(dim=1, stable=True).indices[:, :k]
        items = items.gather(1, order)
        out = torch.full((num, k), -1)
        scores = torch.full((num, k), float('-inf'))
        out[:, : order.size(1)] = items
        scores[:, : order.size(1)] = found.gather(1, order)

        # Cells may hold too few rows.
        left = (~is_none).sum(dim=1)
        short = ~simple | (left < (size - count).clamp(max=k))
        again = short.nonzero().view(-1)
        if again.numel() > 0:
            place = torch.full((num,), -1)
            place[again] = torch.arange(again.numel())
            pairs = torch.stack([place[exclude[0]], exclude[1]])
            best = self.exact(query[again], k, pairs[:, pairs[0] >= 0])
            out[again], scores[again] = best.items, best.scores
        none = torch.arange(k) >= left.clamp(max=k).unsqueeze(1)
        none[again] = out[again] < 0
        return TopK(
            out.masked_fill(none, -1),
            scores.masked_fill(none, float('-inf')),
        )

    def _search(self, query: Tensor, k: int) -> tuple[Tensor, Tensor]:
        value, index = self.index.search(query.numpy(), k)
        return torch.from_numpy(value), torch.from_numpy(index)

    def _tune(self, query: Tensor, recall: float) -> float:
        k = min(_NUM_NEAREST, self.exact.x.size(0))
        none = torch.empty(2, 0, dtype=torch.long)
        true = self.exact(query, k, none).scores
        # Of equally good rows any will do.
        least = true[:, -1:] - _EPSILON * true.abs().max()
        self.index.nprobe = 1
        while True:
            value, _ = self._search(query, k)
            found = float((value >= least).double().mean())
            if found >= recall or self.num_probes == self.num_cells:
                return found
            self.index.nprobe = min(2 * self.num_probes, self.num_cells)
