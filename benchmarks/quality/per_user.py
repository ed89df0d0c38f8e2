"""The metrics of every single user, for paired tests."""

import torch
from torch import Tensor

from pyg_sea._rows import Rows
from pyg_sea.evaluate import with_history
from pyg_sea.recommend import Scorer, top_k


def per_user(
    scorer: Scorer,
    edge_label_index: Tensor,
    train_edge_index: Tensor,
    k: int = 20,
) -> dict[str, Tensor]:
    """Recall and NDCG at `k` of every user with a held-out item and a train
    edge, in the order of their ids. Their means are what
    :func:`pyg_sea.evaluate.evaluate` returns.

    Args:
        scorer: The scores of all items for some users.
        edge_label_index: Held-out (user, item) pairs `[2, L]`.
        train_edge_index: Train (user, item) pairs `[2, E]`, masked.
        k: The cut-off.
    """
    labels = with_history(edge_label_index, train_edge_index).unique(dim=1)
    users = labels[0].unique()
    items = top_k(scorer, users, k, train_edge_index).items.cpu()

    position, entry = Rows(labels, int(users[-1]) + 1).of(users)
    stride = int(max(items.max(), labels[1].max())) + 1
    held_out = position * stride + labels[1, entry]
    row = torch.arange(users.numel()).unsqueeze(1)
    hit = torch.isin(row * stride + items, held_out) & (items >= 0)

    num = torch.bincount(position, minlength=users.numel())
    gain = 1 / torch.arange(2, k + 2, dtype=torch.double).log2()
    ideal = gain.cumsum(0)[num.clamp(max=k) - 1]
    return {
        f'recall@{k}': hit.sum(1) / num.double(),
        f'ndcg@{k}': (hit * gain).sum(1) / ideal,
    }
