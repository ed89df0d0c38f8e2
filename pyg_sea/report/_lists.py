"""What lists of recommendations hold beside hits."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch_geometric.metrics import (
    LinkPredAveragePopularity,
    LinkPredCoverage,
)


class Split(NamedTuple):
    """The edges that a ranking is about.

    Args:
        train: Train (user, item) pairs, local ids.
        test: Held-out ones.
        num_users: The number of users.
        num_items: The number of items.

    Shapes: `train` is `[2, E]`, `test` is `[2, L]`.
    """

    train: Tensor
    test: Tensor
    num_users: int
    num_items: int

    @property
    def user_degree(self) -> Tensor:
        """The train edges of each user, `[U]`."""
        return self.train[0].bincount(minlength=self.num_users)

    @property
    def item_degree(self) -> Tensor:
        """The train edges of each item, `[I]`."""
        return self.train[1].bincount(minlength=self.num_items)

    @property
    def surprise(self) -> Tensor:
        """The self-information of each item in bits, `[I]`: minus the binary
        logarithm of the share of users who chose it. An item that nobody
        chose counts as chosen by one.
        """
        share = self.item_degree.clamp(min=1) / self.num_users
        return -share.log2()


class Lists:
    """Collects the lists of some users. Those that are cut short, for want of
    candidates, do not count.

    Args:
        split: The edges.
        k: The length of the lists.
    """

    def __init__(self, split: Split, k: int) -> None:
        self.k = min(k, split.num_items)
        self.num_users = 0
        self.counts = torch.zeros(split.num_items, dtype=torch.long)
        popularity = split.item_degree.float()
        self.metrics = {
            'coverage': LinkPredCoverage(self.k, split.num_items),
            'popularity': LinkPredAveragePopularity(self.k, popularity),
            'novelty': LinkPredAveragePopularity(self.k, split.surprise),
        }

    def update(self, items: Tensor) -> None:
        """Takes the lists `[B, K]` of users, -1 where there is no item."""
        items = items[:, : self.k]
        items = items[(items >= 0).all(dim=1)]
        self.num_users += items.size(0)
        self.counts += items.flatten().bincount(minlength=self.counts.numel())
        for metric in self.metrics.values():
            metric.update(items, items.new_empty(2, 0))

    def compute(self) -> dict[str, float]:
        """The values by name."""
        return {
            **{name: float(m.compute()) for name, m in self.metrics.items()},
            'personalization': self._personalization(),
            'gini': gini(self.counts),
        }

    def _personalization(self) -> float:
        # That of PyG, which goes through pairs of users. Those who share an
        # item can be counted: each of them is a pair with all others.
        pairs = self.k * self.num_users * (self.num_users - 1)
        shared = int((self.counts * (self.counts - 1)).sum())
        return 1 - shared / pairs if pairs > 0 else 0.0


def held_out(split: Split, items: Tensor) -> dict[str, float]:
    """The same of items that users have chosen themselves.

    Args:
        split: The edges.
        items: The chosen items, one per test edge.

    Shapes: `items` is `[L]`.
    """
    counts = items.bincount(minlength=split.num_items)
    return {
        'coverage': float((counts > 0).float().mean()),
        'popularity': float(split.item_degree[items].float().mean()),
        'novelty': float(split.surprise[items].mean()),
        'gini': gini(counts),
    }


def gini(counts: Tensor) -> float:
    """The Gini coefficient: 0 if all are equal, close to 1 if one has all.

    Args:
        counts: Numbers that are not negative.

    Shapes: `counts` is `[N]`.
    """
    counts = counts.sort().values.double()
    total, n = float(counts.sum()), counts.numel()
    if total == 0:
        return 0.0
    rank = torch.arange(1, n + 1, dtype=torch.double)
    return float(((2 * rank - n - 1) * counts).sum()) / (n * total)
