"""Some users: what they had, what they get, and why."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import pandas as pd
import torch
from torch import Tensor

from pyg_sea.nn.modal_graph_encoder import ID
from pyg_sea.nn.models.sea import BIAS
from pyg_sea.report._lists import Split
from pyg_sea.serving import Explanation, Recommender

NUM_SHOWN = 10  # Recommendations.
MAX_HISTORY = 30  # Items of a user.
MAX_BECAUSE = 5  # Items that a recommendation is due to.

_LABELS = {(ID, 'unique'): 'own vector', BIAS: 'popularity'}


class Item(NamedTuple):
    """An item as people know it.

    Args:
        id: Its external id.
        title: What it is called; empty if that is not known.
        hit: Whether it is among the test items of the user.
    """

    id: str
    title: str
    hit: bool


class Segment(NamedTuple):
    """A piece of a bar.

    Args:
        source: `'own'` or `'similar'`.
        left: Where it starts, in percent of the widest.
        width: How wide it is.
    """

    source: str
    left: float
    width: float


class Bar(NamedTuple):
    """What one modality and part adds to a score.

    Args:
        label: Modality and part.
        value: What they add.
        segments: The pieces.
    """

    label: str
    value: float
    segments: list[Segment]


class Why(NamedTuple):
    """A recommendation and its reasons.

    Args:
        item: The item.
        score: Its score.
        bars: By modality and part; empty for models without parts.
        zero: Where bars start, in percent.
        because: Items of the user, with what they add or how similar they
            are.
    """

    item: Item
    score: float
    bars: list[Bar]
    zero: float
    because: list[tuple[Item, float]]


class User(NamedTuple):
    """A user.

    Args:
        id: The external id.
        num_train: How many train items.
        history: Some of them.
        test: The test items.
        recommended: The best items.
    """

    id: str
    num_train: int
    history: list[Item]
    test: list[Item]
    recommended: list[Why]


class Reader:
    """Looks up users.

    Args:
        recommender: The recommender of the run.
        split: The edges.
        titles: What items are called, by external id as a string.
    """

    def __init__(
        self,
        recommender: Recommender,
        split: Split,
        titles: Mapping[str, str],
    ) -> None:
        self.recommender = recommender
        self.split = split
        self.titles = titles
        self.user_ids = recommender.user_ids
        self.item_ids = recommender.item_ids

    def choose(self, num: int, seed: int) -> list[int]:
        """Draws users with train and test items."""
        generator = torch.Generator().manual_seed(seed)
        users = self.split.test[0].unique()
        users = users[torch.isin(users, self.split.train[0])]
        order = torch.randperm(users.numel(), generator=generator)[:num]
        chosen: list[int] = users[order].tolist()
        return chosen

    def read(self, user: int) -> User:
        """All about a user.

        Args:
            user: The local id.
        """
        history, test = (
            self.item_ids.take(_items_of(edges, user).numpy())
            for edges in (self.split.train, self.split.test)
        )
        name = self.user_ids[user]
        best = self.recommender.recommend([name], NUM_SHOWN, method='exact')[
            'item'
        ].tolist()
        wanted, got = set(test), set(best)
        return User(
            str(name),
            len(history),
            [self._item(item, set()) for item in history[:MAX_HISTORY]],
            [self._item(item, got) for item in test],
            [self._why(name, item, wanted) for item in best],
        )

    def _item(self, item: Any, hits: set[Any]) -> Item:
        return Item(str(item), self.titles.get(str(item), ''), item in hits)

    def _why(self, user: Any, item: Any, hits: set[Any]) -> Why:
        found = self.recommender.explain(user, item)
        bars, zero = bars_of(found)
        exact = found.user_vector is not None
        top = found.because.head(MAX_BECAUSE)
        values = top['contribution' if exact else 'similarity']
        because = [
            (self._item(name, set()), float(value))
            for name, value in zip(top['item'], values)
        ]
        return Why(self._item(item, hits), found.score, bars, zero, because)


def bars_of(found: Explanation) -> tuple[list[Bar], float]:
    """The bars of an explanation, and where they start: negative pieces
    stand on each other to the left of it, positive ones to the right.

    Args:
        found: The explanation.
    """
    table = found.contributions
    if set(table['part']) == {'all'}:
        return [], 0.0
    value = table['contribution']
    key = [table['modality'], table['part']]
    high = float(value.clip(lower=0).groupby(key).sum().max())
    low = float(value.clip(upper=0).groupby(key).sum().min())
    scale = 100 / ((high - low) or 1.0)
    zero = -low * scale
    bars = [
        Bar(
            _LABELS.get((str(modality), str(part)), f'{modality} {part}'),
            float(rows['contribution'].sum()),
            _segments(rows, scale, zero),
        )
        for (modality, part), rows in table.groupby(
            ['modality', 'part'], sort=False
        )
    ]
    return bars, zero


def _segments(rows: pd.DataFrame, scale: float, zero: float) -> list[Segment]:
    left = right = zero
    out = []
    for source, value in zip(rows['source'], rows['contribution']):
        width = abs(float(value)) * scale
        left -= width if value < 0 else 0.0
        kind = 'similar' if source == 'similar items' else 'own'
        out.append(Segment(kind, left if value < 0 else right, width))
        right += width if value > 0 else 0.0
    return out


def _items_of(edges: Tensor, user: int) -> Tensor:
    return edges[1, edges[0] == user].unique()
