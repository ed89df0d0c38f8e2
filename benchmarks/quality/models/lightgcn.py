"""PyG's LightGCN (arXiv 2002.02126), with the interface of `pyg_sea`."""

import torch
from torch import Tensor
from torch_geometric.nn import LightGCN as PyGLightGCN

from pyg_sea.nn import BPRLoss, Recommender
from pyg_sea.nn.adjacency import AdjacencyCache

from .bpr_mf import half_squares


class LightGCN(Recommender):
    """Features and the item-item graph are not used.

    `lambda_reg` weighs half the squares of the batch's rows before
    propagation, per triplet.
    """

    def __init__(
        self,
        num_users: int,
        num_items: int,
        hidden_channels: int = 64,
        num_layers: int = 2,
        lambda_reg: float = 1e-3,
    ) -> None:
        super().__init__(num_users, num_items)
        self.lambda_reg = lambda_reg
        self.gcn = PyGLightGCN(
            num_users + num_items, hidden_channels, num_layers, normalize=False
        )
        self.bpr = BPRLoss()
        self._adjacency = AdjacencyCache(normalize=True)

    def get_embedding(
        self, modal_x, edge_index, edge_weight=None, *args, **kwargs
    ) -> Tensor:
        return self.propagate(edge_index, edge_weight)

    def propagate(self, edge_index, edge_weight=None) -> Tensor:
        """The mean of the hops, of users and items."""
        num_nodes = self.num_users + self.num_items
        return self.gcn.get_embedding(
            *self._adjacency(edge_index, edge_weight, num_nodes, torch.float32)
        )

    def loss(
        self, modal_x, edge_index, triplets, edge_weight=None, *args, **kwargs
    ) -> tuple[Tensor, dict[str, Tensor]]:
        x = self.propagate(edge_index, edge_weight)
        return self.rank(*x.split([self.num_users, self.num_items]), triplets)

    def rank(
        self, x_user: Tensor, x_item: Tensor, triplets: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of a batch, given the rows of all users and items."""
        bpr = self.bpr(*self.triplet_scores(x_user, x_item, triplets))
        free = self.gcn.embedding.weight.split(
            [self.num_users, self.num_items]
        )
        reg = half_squares(*free, triplets)
        return bpr + self.lambda_reg * reg, {'bpr': bpr, 'reg': reg}
