"""PyG's LightGCN (arXiv 2002.02126), with the interface of `pyg_sea`."""

from torch import Tensor
from torch_geometric.nn import LightGCN as PyGLightGCN

from pyg_sea.nn import Recommender
from pyg_sea.nn.adjacency import AdjacencyCache
from pyg_sea.nn.hop_sum import hop_sum
from pyg_sea.nn.models.ranking import Ranking

from .bpr_mf import half_squares


class LightGCN(Recommender):
    """Features and the item-item graph are not used.

    `lambda_reg` weighs half the squares of the batch's rows before
    propagation, per triplet. Embeddings are those of PyG's class; the hops are
    added up by :func:`hop_sum`, as PyG's loop over them sorts all edges anew
    in every step to transpose the graph. Takes graphs as edges only.
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
        self.ranking = Ranking('bpr')
        self._adjacency = AdjacencyCache(normalize=True)

    def get_embedding(
        self, modal_x, edge_index, edge_weight=None, *args, **kwargs
    ) -> Tensor:
        return self.propagate(edge_index, edge_weight)

    def propagate(self, edge_index, edge_weight=None) -> Tensor:
        """The mean of the hops, of users and items."""
        x, num_layers = self.gcn.embedding.weight, self.gcn.num_layers
        adj, _ = self._adjacency(edge_index, edge_weight, x.size(0), x.dtype)
        adj_t = self._adjacency.transposed(adj)
        return hop_sum(x, adj, adj_t, num_layers) / (num_layers + 1)

    def loss(
        self, modal_x, edge_index, triplets, edge_weight=None, *args, **kwargs
    ) -> tuple[Tensor, dict[str, Tensor]]:
        x = self.propagate(edge_index, edge_weight)
        x_user, x_item = x.split([self.num_users, self.num_items])
        users = x_user.index_select(0, triplets[0])
        return self.rank(users, x_item, triplets)

    def rank(
        self, x_user: Tensor, x_item: Tensor, triplets: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of a batch, given the rows of its users `[B, D]`, in their
        order, and of all items.
        """
        bpr = self.ranking(x_user, x_item, triplets)
        free_user, free_item = self.gcn.embedding.weight.split(
            [self.num_users, self.num_items]
        )
        users = free_user.index_select(0, triplets[0])
        reg = half_squares(users, free_item, triplets)
        return bpr + self.lambda_reg * reg, {'bpr': bpr, 'reg': reg}
