"""Metrics on the test edges: of all users, of groups of them, and of groups
of items.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch_geometric.metrics import LinkPredMetricCollection
from torch_geometric.utils import coalesce

from pyg_sea._rows import Rows
from pyg_sea.evaluate import METRICS
from pyg_sea.recommend import Scorer, top_k
from pyg_sea.report._groups import Groups, by_degree
from pyg_sea.report._lists import Lists, Split, held_out

# Users whose lists are held at a time.
MAX_USERS = 2**15


class Group(NamedTuple):
    """A row of a table.

    Args:
        label: The train edges of its users or items.
        num: How many users, all of them with a test edge, or items.
        num_pairs: How many test edges.
        values: The metrics by name.
    """

    label: str
    num: int
    num_pairs: int
    values: dict[str, float]


class Ranking(NamedTuple):
    """All that is measured on the test edges.

    Args:
        k: The cut-off of the tables.
        shown: The metrics of the tables.
        total: Metrics by name and cut-off, over all users.
        users: By activity.
        items: By popularity.
        lists: What the lists of length `k` hold.
        held_out: The same of the test edges.
    """

    k: int
    shown: list[str]
    total: dict[str, float]
    users: list[Group]
    items: list[Group]
    lists: dict[str, float]
    held_out: dict[str, float]


class _Table:
    # Metrics for each group of users or items.
    def __init__(self, groups: Groups, names: Sequence[str]) -> None:
        self.groups = groups
        self.metrics = [collection(names) for _ in groups.labels]

    def rows(
        self, num: Sequence[int], of_pair: Tensor, more: list[dict[str, float]]
    ) -> list[Group]:
        num_pairs = of_pair.bincount(minlength=len(num)).tolist()
        return [
            Group(label, size, pairs, values(metrics) | extra)
            for label, size, pairs, metrics, extra in zip(
                self.groups.labels, num, num_pairs, self.metrics, more
            )
        ]


@torch.no_grad()
def measure(scorer: Scorer, split: Split, names: Sequence[str]) -> Ranking:
    """Ranks all items for all users with a test edge, in chunks of users.

    Args:
        scorer: The scores of all items for some users.
        split: The edges.
        names: Metrics with their cut-offs, e.g. `recall@20`.
    """
    k = max(cutoff_of(name) for name in names)
    shown = [name for name in names if cutoff_of(name) == k]
    labels = coalesce(split.test)
    labels = labels[:, torch.isin(labels[0], split.train[0])]
    pairs, users = Rows(labels, split.num_users), labels[0].unique()
    total, lists = collection(names), Lists(split, k)
    by_user = _Table(by_degree(split.user_degree), shown)
    by_item = _Table(by_degree(split.item_degree), shown)
    lists_of = [Lists(split, k) for _ in by_user.metrics]

    for chunk in users.split(MAX_USERS):
        found = top_k(scorer, chunk, k, split.train).items.cpu()
        position, entry = pairs.of(chunk)
        item = pairs.col[entry]
        # PyG reads -1 as the last item of the row before.
        ranked = found.where(found >= 0, split.num_items)
        total.update(ranked, torch.stack([position, item]))
        lists.update(found)
        for group, metrics in enumerate(by_user.metrics):
            mask = by_user.groups.of[chunk] == group
            keep, place = mask[position], mask.cumsum(0) - 1
            own = torch.stack([place[position[keep]], item[keep]])
            metrics.update(ranked[mask], own)
            lists_of[group].update(found[mask])
        for group, metrics in enumerate(by_item.metrics):
            keep = by_item.groups.of[item] == group
            # Users without an item of the group do not count for it.
            metrics.update(ranked, torch.stack([position, item])[:, keep])

    user_of, item_of = by_user.groups.of, by_item.groups.of
    num_users = user_of[users].bincount(minlength=len(lists_of)).tolist()
    return Ranking(
        k,
        shown,
        values(total),
        by_user.rows(
            num_users, user_of[labels[0]], [own.compute() for own in lists_of]
        ),
        by_item.rows(
            by_item.groups.sizes,
            item_of[labels[1]],
            exposure(by_item.groups, split, lists.counts),
        ),
        lists.compute(),
        held_out(split, labels[1]),
    )


def exposure(
    groups: Groups, split: Split, counts: Tensor
) -> list[dict[str, float]]:
    """Per group of items: its share of the train edges (`train`), its share
    of all recommendations (`slots`), and the share of its items that anybody
    is recommended (`coverage`).

    Args:
        groups: The groups.
        split: The edges.
        counts: How often each item is recommended.

    Shapes: `counts` is `[I]`.
    """
    num = len(groups.labels)
    size, train, slots, seen = (
        groups.of.bincount(weight.double(), minlength=num)
        for weight in (
            torch.ones_like(counts),
            split.item_degree,
            counts,
            counts > 0,
        )
    )
    table = {
        'train': train / train.sum().clamp(min=1),
        'slots': slots / slots.sum().clamp(min=1),
        'coverage': seen / size,
    }
    return [
        {name: float(column[group]) for name, column in table.items()}
        for group in range(num)
    ]


def cutoff_of(name: str) -> int:
    """The 20 of `recall@20`."""
    return int(name.rpartition('@')[2])


def collection(names: Sequence[str]) -> LinkPredMetricCollection:
    """PyG's metrics by names such as `recall@20`."""
    return LinkPredMetricCollection(
        {
            name: METRICS[name.partition('@')[0]](cutoff_of(name))
            for name in names
        }
    )


def values(metrics: LinkPredMetricCollection) -> dict[str, float]:
    """What was measured, by name."""
    return {name: float(value) for name, value in metrics.compute().items()}
