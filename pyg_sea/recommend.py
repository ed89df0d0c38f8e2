"""The top of the ranking, for embeddings or any other scorer."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch_geometric.utils import cumsum

from pyg_sea._count import check_count
from pyg_sea._rows import Rows, check_pairs

__all__ = [
    'EmbeddingScorer',
    'Scorer',
    'TopK',
    'top_k',
    'top_k_items',
]

classes = __all__

#: Takes local user ids `[B]`, returns the scores of all items `[B, I]` as
#: floats, in a tensor of its own that the caller may overwrite.
Scorer = Callable[[Tensor], Tensor]

# Scores held at a time: few enough for a cache, enough to feed the cores.
_MAX_SCORES = {'cpu': 2**22, 'cuda': 2**28}


class TopK(NamedTuple):
    """The best items per user.

    Args:
        items: Local item ids, best first, -1 where candidates ran out.
        scores: Their scores, -inf where candidates ran out.

    Shapes:
        - `items`: `[B, k]`
        - `scores`: `[B, k]`

    Example:
        >>> import torch
        >>> from pyg_sea.recommend import TopK
        >>> top = TopK(torch.tensor([[3, 1]]), torch.tensor([[0.9, 0.2]]))
        >>> top.items.tolist()
        [[3, 1]]
    """

    items: Tensor
    scores: Tensor


class EmbeddingScorer:
    """Scores by inner products, as every model of `pyg_sea` does.

    Args:
        user_embedding: One row per user.
        item_embedding: One row per item.

    Shapes:
        - `user_embedding`: `[U, D]`
        - `item_embedding`: `[I, D]`
        - a call: users `[B]`, their scores `[B, I]`

    Raises a `ValueError` if the two are not matrices of equal width.

    Example:
        >>> import torch
        >>> from pyg_sea.recommend import EmbeddingScorer
        >>> embedding = torch.eye(5)  # of a model with 2 users and 3 items
        >>> scorer = EmbeddingScorer(*embedding.split([2, 3]))
        >>> scorer(torch.tensor([1])).tolist()
        [[0.0, 0.0, 0.0]]
    """

    def __init__(self, user_embedding: Tensor, item_embedding: Tensor) -> None:
        if (
            user_embedding.dim() != 2
            or item_embedding.dim() != 2
            or user_embedding.size(1) != item_embedding.size(1)
        ):
            raise ValueError(
                "'user_embedding' and 'item_embedding' need to be matrices "
                f'of equal width (got shapes {list(user_embedding.shape)} '
                f'and {list(item_embedding.shape)})'
            )
        self.user_embedding = user_embedding
        self.item_embedding = item_embedding

    def __call__(self, users: Tensor) -> Tensor:
        """The scores `[B, I]` of all items for the users `[B]`."""
        users = users.to(self.user_embedding.device)
        return self.user_embedding[users] @ self.item_embedding.t()

    def __repr__(self) -> str:
        return (
            f'{self.__class__.__name__}({self.user_embedding.size(0)}, '
            f'{self.item_embedding.size(0)})'
        )


@torch.no_grad()
def top_k(
    scorer: Scorer,
    users: Tensor | Sequence[int],
    k: int = 20,
    exclude: Tensor | None = None,
    batch_size: int | None = None,
) -> TopK:
    """The best items per user under any scorer, in chunks of users: neither
    time nor memory grows with a U x I matrix held at once.

    Args:
        scorer: The scores of all items for some users.
        users: Local ids of the users to serve, in any order, repeated or not.
        k: Items per user (default: 20).
        exclude: (user, item) pairs never to recommend, e.g. the train edges;
            best sorted by user, which saves a sort (default: `None`).
        batch_size: Users scored at a time (default: `None`, as many as keep
            the scores within 16 MiB on CPU and 1 GiB on GPU).

    Shapes:
        - `users`: `[B]`
        - `exclude`: `[2, E]`
        - output: items `[B, k]` and scores `[B, k]`

    Returns items and scores, both on the scorer's device; users with fewer
    than `k` candidates get -1 and -inf behind them. A score of -inf excludes
    an item, too.

    Raises a `ValueError` if an argument has the wrong shape or range, a
    `TypeError` if `users` are no numbers, and a `FloatingPointError` if a
    score is NaN or +inf.

    Example:
        >>> import torch
        >>> from pyg_sea.recommend import top_k
        >>> scores = torch.tensor([[0.1, 0.5, 0.3], [0.9, 0.8, 0.7]])
        >>> exclude = torch.tensor([[0, 1, 1], [1, 0, 2]])
        >>> top_k(scores.__getitem__, torch.arange(2), 2, exclude).items
        tensor([[ 2,  0],
                [ 1, -1]])
    """
    check_count('k', k)
    users = _to_ids(users)
    if users.dim() != 1 or users.dtype != torch.long:
        raise ValueError(
            f"'users' needs to be an int64 vector (got {users.dtype} of shape "
            f'{list(users.shape)})'
        )
    num_users = users.numel()
    num_items, device = probe(scorer, users)
    if batch_size is None:
        limit = _MAX_SCORES.get(device.type, _MAX_SCORES['cpu'])
        batch_size = max(1, limit // max(1, num_items))
    if batch_size < 1:
        raise ValueError(
            f"'batch_size' needs to be positive (got {batch_size})"
        )

    users = users.to(device)
    starts = range(0, num_users, batch_size)
    if exclude is not None:
        check_pairs('exclude', exclude, None, num_items)
        row, col, bounds = _mask_of(exclude.to(device), users, batch_size)

    width = min(k, num_items)
    items = torch.full((num_users, k), -1, device=device)
    scores = torch.full((num_users, k), float('-inf'), device=device)
    for i, start in enumerate(starts):
        chunk = scorer(users[start : start + batch_size])
        if exclude is not None:
            part = slice(bounds[i], bounds[i + 1])
            # A number would be copied to the device, which waits for it.
            chunk.index_put_(
                (row[part] - start, col[part]),
                chunk.new_full((), float('-inf')),
            )
        value, index = chunk.topk(width, dim=1)
        items[start : start + batch_size, :width] = index
        scores[start : start + batch_size, :width] = value

    # NaN and +inf rank first, so looking at the top finds them all.
    if not bool((scores < float('inf')).all()):
        bad = ~(scores < float('inf')).all(dim=1)
        raise FloatingPointError(
            f"'scorer' needs to return finite scores (got NaN or inf for "
            f'{int(bad.sum())} users, user {int(users[bad][0])} first): check '
            f'the embeddings or features it was made from'
        )
    return TopK(items.masked_fill(scores == float('-inf'), -1), scores)


def top_k_items(
    user_embedding: Tensor,
    item_embedding: Tensor,
    k: int = 20,
    users: Tensor | Sequence[int] | None = None,
    exclude: Tensor | None = None,
    batch_size: int | None = None,
) -> Tensor:
    """The local ids of the items with the largest inner products, best first.

    Args:
        user_embedding: One row per user.
        item_embedding: One row per item.
        k: Items per user (default: 20).
        users: Local ids of the users to serve, rows of `user_embedding`
            (default: `None`, all of them).
        exclude: (user, item) pairs never to recommend, e.g. the train edges
            (default: `None`).
        batch_size: Users scored at a time (default: `None`, as memory allows).

    Shapes:
        - `user_embedding`: `[U, D]`
        - `item_embedding`: `[I, D]`
        - `users`: `[B]`
        - `exclude`: `[2, E]`
        - output: `[B, k]`

    Users with fewer than `k` candidates get -1 behind them. :func:`top_k`
    returns the scores, too.

    Raises a `ValueError` if an argument has the wrong shape or range, a
    `TypeError` if `users` are no numbers, and a `FloatingPointError` if a
    score is NaN or inf.

    Example:
        >>> import torch
        >>> from pyg_sea.recommend import top_k_items
        >>> item = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
        >>> exclude = torch.tensor([[0], [2]])
        >>> top_k_items(torch.tensor([[2.0, 1.0]]), item, 2, exclude=exclude)
        tensor([[0, 1]])
    """
    scorer = EmbeddingScorer(user_embedding, item_embedding)
    num_users = user_embedding.size(0)
    if users is None:
        users = torch.arange(num_users, device=user_embedding.device)
    elif (users := _to_ids(users)).numel() > 0:
        low, high = torch.stack(torch.aminmax(users)).tolist()
        if not 0 <= low <= high < num_users:
            raise ValueError(
                f"'users' needs local ids from 0 to {num_users - 1} "
                f'(got {int(low)} to {int(high)})'
            )
    return top_k(scorer, users, k, exclude, batch_size).items


@torch.no_grad()
def probe(scorer: Scorer, users: Tensor) -> tuple[int, torch.device]:
    """The number of items that `scorer` ranks, and its device."""
    scores = scorer(users[:1])
    if (
        scores.dim() != 2
        or scores.size(0) != min(1, users.numel())
        or not scores.is_floating_point()
    ):
        raise ValueError(
            f"'scorer' needs to return floats of shape [B, I] for B users "
            f'(got {scores.dtype} of shape {list(scores.shape)} for '
            f'{min(1, users.numel())} users)'
        )
    return scores.size(1), scores.device


def _to_ids(users: Tensor | Sequence[int]) -> Tensor:
    if isinstance(users, Tensor):
        return users
    try:
        ids = torch.as_tensor(users)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(
            f"'users' needs to be a tensor or list of local ids (got "
            f"{users!r}); data['user'].external_id holds your own ids by "
            f'local id'
        ) from error
    return ids if ids.numel() > 0 else ids.long()


def _mask_of(
    exclude: Tensor, users: Tensor, batch_size: int
) -> tuple[Tensor, Tensor, list[int]]:
    last = int(exclude[0].max()) if exclude.numel() > 0 else -1
    rows = Rows(exclude, last + 2)
    # An empty row serves all users after the last one with a pair.
    users = users.clamp(max=last + 1)
    starts = torch.arange(
        0, users.numel() + batch_size, batch_size, device=users.device
    ).clamp_(max=users.numel())
    bounds = cumsum(rows.degree[users])[starts].tolist()
    position, entry = rows.of(users, bounds[-1])
    return position, rows.col[entry], bounds
