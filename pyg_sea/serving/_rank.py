"""The best items of many users, some users at a time."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from pyg_sea._count import check_count
from pyg_sea._rows import Rows
from pyg_sea.recommend import EmbeddingScorer, TopK, top_k
from pyg_sea.serving._ids import Ids
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
        chunk_size: Users at a time.

    Raises a `ValueError` for a `k` or a `chunk_size` that is not positive.
    """

    search: Search
    k: int
    seen: bool = True
    exclude: Rows | None = None
    candidates: Local | None = None
    chunk_size: int = 1

    def __post_init__(self) -> None:
        for name in ('k', 'chunk_size'):
            check_count(name, getattr(self, name))


def rank(
    state: State, users: Local, request: Request
) -> Iterator[tuple[Local, TopK]]:
    """Yield some users after the other, and their best items."""
    for start in range(0, len(users), request.chunk_size):
        some = users[start : start + request.chunk_size]
        chunk = torch.from_numpy(some)
        pairs = []
        if request.seen:
            pairs.append(torch.stack(state.seen.of(chunk)[:2]))
        if request.exclude is not None:
            position, entry = request.exclude.of(chunk)
            pairs.append(torch.stack([position, request.exclude.col[entry]]))
        yield some, rank_rows(state, state.user[chunk], pairs, request)


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


def frame(
    of: str, ids: Ids, local: Local, found: str, items: Ids, top: TopK
) -> pd.DataFrame:
    """A table of what was found for whom, with rank and score.

    Args:
        of: The column of those who were asked about.
        ids: Their ids.
        local: Their local ids.
        found: The column of what was found.
        items: The ids of items.
        top: The best items.

    Shapes: `local` is `[B]`.
    """
    there = top.items >= 0
    count = there.sum(dim=1).numpy()
    ranks = torch.arange(1, there.size(1) + 1).expand_as(there)
    return pd.DataFrame(
        {
            of: ids.external(local.repeat(count)),
            found: items.external(top.items[there].numpy()),
            'rank': ranks[there].numpy(),
            'score': top.scores[there].numpy(),
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
