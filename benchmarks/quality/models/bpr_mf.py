"""Matrix factorization, trained by BPR (arXiv 1205.2618)."""

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.nn.init import xavier_uniform_

from pyg_sea.nn import BPRLoss, Recommender


class BPRMF(Recommender):
    """A free row per user and per item; features and graphs are not used.

    `lambda_reg` weighs half the squares of the batch's rows, per triplet.
    """

    def __init__(
        self,
        num_users: int,
        num_items: int,
        hidden_channels: int = 64,
        lambda_reg: float = 1e-3,
    ) -> None:
        super().__init__(num_users, num_items)
        self.lambda_reg = lambda_reg
        self.user_embedding = Parameter(
            torch.empty(num_users, hidden_channels)
        )
        self.item_embedding = Parameter(
            torch.empty(num_items, hidden_channels)
        )
        self.bpr = BPRLoss()
        xavier_uniform_(self.user_embedding)
        xavier_uniform_(self.item_embedding)

    def get_embedding(self, modal_x, edge_index, *args, **kwargs) -> Tensor:
        return torch.cat([self.user_embedding, self.item_embedding])

    def loss(
        self, modal_x, edge_index, triplets, *args, **kwargs
    ) -> tuple[Tensor, dict[str, Tensor]]:
        x = self.get_embedding(modal_x, edge_index, *args, **kwargs)
        x = x.split([self.num_users, self.num_items])
        bpr = self.bpr(*self.triplet_scores(*x, triplets))
        reg = half_squares(self.user_embedding, self.item_embedding, triplets)
        return bpr + self.lambda_reg * reg, {'bpr': bpr, 'reg': reg}


def in_batch(triplets: Tensor) -> Tensor:
    """The triplets, with the place of each user in the batch for his id."""
    return torch.cat(
        [
            torch.arange(triplets.size(1), device=triplets.device)[None],
            triplets[1:],
        ]
    )


def half_squares(x_user: Tensor, x_item: Tensor, triplets: Tensor) -> Tensor:
    """Half the squares of the rows of a batch, per triplet."""
    users, *items = triplets
    rows = [x_user.index_select(0, users)]
    rows += [x_item.index_select(0, index) for index in items]
    return torch.cat(rows).square().sum() / (2 * triplets.size(1))
