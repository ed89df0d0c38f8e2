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
        users = self.user_embedding.index_select(0, triplets[0])
        reg = half_squares(users, self.item_embedding, triplets)
        return bpr + self.lambda_reg * reg, {'bpr': bpr, 'reg': reg}


def half_squares(users: Tensor, x_item: Tensor, triplets: Tensor) -> Tensor:
    """Half the squares of the rows of a batch, per triplet.

    Args:
        users: The rows of its users `[B, D]`, in their order.
        x_item: The rows of all items `[I, D]`.
        triplets: Users, positive and negative items `[3, B]`.
    """
    rows = [users, *(x_item.index_select(0, index) for index in triplets[1:])]
    return torch.cat(rows).square().sum() / (2 * triplets.size(1))
