"""The best items of many users, some users at a time."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from pyg_sea._rows import Rows
from pyg_sea.recommend import EmbeddingScorer, TopK, top_k
from pyg_sea.serving._state import State

Local = NDArray[np.int64]


class Search(Protocol):
    """Finds the largest inner products."""

    def __call__(self, query: Tensor, k: int, exclude: Tensor) -> TopK:
        """The best `k` rows per query but for the pairs to exclude."""


class ExactSearch:
    """Compares with all rows.

    Args:
        x: The rows.
    """

    def __init__(self, x: Tensor) -> None:
        self.x = x

    def __call__(self, query: Tensor, k: int, exclude: Tensor) -> TopK:
        """The best `k` rows per query but for the pairs to exclude.

        Shapes: `query` is `[B, D]`, `exclude` `[2, E]`, the output `[B, k]`.
        """
        scorer = EmbeddingScorer(query, self.x)
        return top_k(scorer, torch.arange(query.size(0)), k, exclude)


@dataclass(frozen=True)
class Request:
    """What to rank for whom.

    Args:
        search: Finds items among the candidates.
        k: Items per user.
        seen: Whether to leave out what users have.
        exclude: Further pairs of local ids to leave out, by user.
        candidates: Local ids of the items to choose from; `None` for all.
    """

    search: Search
    k: int
    seen: bool = True
    exclude: Rows | None = None
    candidates: Local | None = None


def rank(
    state: State, users: Local, request: Request, chunk_size: int
) -> Iterator[tuple[Local, TopK]]:
    """Yield the positions of some users, and their best items."""
    for start in range(0, len(users), chunk_size):
        chunk = torch.from_numpy(users[start : start + chunk_size])
        pairs = []
        if request.seen:
            pairs.append(torch.stack(state.seen.of(chunk)[:2]))
        if request.exclude is not None:
            position, entry = request.exclude.of(chunk)
            pairs.append(torch.stack([position, request.exclude.col[entry]]))
        positions = np.arange(start, start + len(chunk))
        yield positions, rank_rows(state, state.user[chunk], pairs, request)


def rank_rows(
    state: State, query: Tensor, pairs: list[Tensor], request: Request
) -> TopK:
    """The best items of users that have these rows.

    Args:
        state: The recommender.
        query: The rows.
        pairs: Positions of rows and local ids of items to leave out.
        request: What to rank.

    Shapes: `query` is `[B, D]`, `pairs` are `[2, E]`, the output `[B, k]`.
    """
    exclude = torch.cat([torch.empty(2, 0, dtype=torch.long), *pairs], dim=1)
    if request.candidates is None:
        return request.search(query, request.k, exclude)
    place = torch.full((len(state.items),), -1)
    candidates = torch.from_numpy(request.candidates)
    place[candidates] = torch.arange(candidates.numel())
    column = place[exclude[1]]
    exclude = torch.stack([exclude[0], column])[:, column >= 0]
    found = request.search(query, request.k, exclude)
    # The last one stands for none, -1.
    items = torch.cat([candidates, torch.tensor([-1])])[found.items]
    return TopK(items, found.scores)


def frame(state: State, users: Local, items: Tensor, scores: Tensor) -> Any:
    """A table of what was found: user, item, rank, score.

    Shapes: `users` is `[B]`, `items` and `scores` are `[B, k]`.
    """
    there = items >= 0
    count = there.sum(dim=1).numpy()
    ranks = torch.arange(1, items.size(1) + 1).expand_as(items)
    return pd.DataFrame(
        {
            'user': state.users.external(users.repeat(count)),
            'item': state.items.external(items[there].numpy()),
            'rank': ranks[there].numpy(),
            'score': scores[there].numpy(),
        }
    )


def to_pairs(state: State, exclude: Any) -> Rows | None:
    """Pairs to exclude, from a table or a dictionary of external ids."""
    if exclude is None:
        return None
    if isinstance(exclude, Mapping):
        exclude = pd.DataFrame(
            {
                'user': pd.Series([*exclude], dtype=object),
                'item': pd.Series([*exclude.values()], dtype=object),
            }
        ).explode('item')
    if not isinstance(exclude, pd.DataFrame) or not (
        {'user', 'item'} <= set(exclude)
    ):
        raise TypeError(
            "'exclude' needs to be a DataFrame with the columns 'user' and "
            f"'item', or a dictionary of users and their items (got "
            f'{type(exclude).__name__})'
        )
    exclude = exclude.dropna(subset='item')
    user = state.users.local(exclude['user'].tolist())
    item = state.items.local(exclude['item'].tolist())
    pairs = torch.from_numpy(np.stack([user, item]))
    return Rows(pairs, len(state.users))
