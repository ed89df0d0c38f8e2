"""MGCN, "Multi-View Graph Convolutional Network for Multimedia
Recommendation" (arXiv 2308.03588), from the equations of its paper, but one.
"""

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import Linear, Module, ModuleDict, Parameter, Sequential, Tanh
from torch.nn.init import xavier_uniform_
from torch_geometric.nn import LGConv

from pyg_sea.nn import Recommender, SoloSimLoss
from pyg_sea.nn.adjacency import AdjacencyCache
from pyg_sea.nn.hop_sum import hop_sum
from pyg_sea.nn.modality import check_modal_x, modality_key
from pyg_sea.nn.models.ranking import Ranking

from .bpr_mf import half_squares


class Modality(Module):
    """What belongs to one modality.

    Args:
        in_channels: The width of its features.
        hidden_channels: The width of embeddings.
        item_graph: Its item-item graph, normalised: edges `[2, E]` from
            neighbour to item, and their weights `[E]`.
    """

    def __init__(
        self,
        in_channels: int,
        hidden_channels: int,
        item_graph: tuple[Tensor, Tensor],
    ) -> None:
        super().__init__()
        self.map = Linear(in_channels, hidden_channels)
        self.gate = Linear(hidden_channels, hidden_channels)
        self.preference = Linear(hidden_channels, hidden_channels)
        edge_index, edge_weight = item_graph
        self.register_buffer('edge_index', edge_index, persistent=False)
        self.register_buffer('edge_weight', edge_weight, persistent=False)
        self.conv = LGConv(normalize=False)
        self._adjacency = AdjacencyCache(normalize=False)

    def encode(self, x: Tensor, item_embedding: Tensor, num_layers: int):
        """The behaviour-guided purifier, and the item-item view `[I, D]`."""
        x = item_embedding * self.gate(self.map(x)).sigmoid()
        adj = self._adjacency(
            self.edge_index, self.edge_weight, x.size(0), x.dtype
        )
        for _ in range(num_layers):
            x = self.conv(x, *adj)
        return x


class MGCN(Recommender):
    r"""Users and items in an interaction view and one view per modality.

    With free rows e, features f and, per modality m, its own graph S_m:

    * purifier: x_i^m = e_i * sigmoid(W_2 (W_1 f_i^m + b_1) + b_2)
    * interaction view: b = the mean of e over the hops of LightGCN
    * item-item view: z_i^m = (S_m x^m)_i, and for users
      z_u^m = sum_i z_i^m / sqrt(d_u d_i) over their items
    * fuser: a = softmax_m(q' tanh(W_4 z^m + b_4)), s = sum_m a_m z^m,
      side = (s + sum_m (z^m - s) * sigmoid(W_3^m b + b_3^m)) / (1 + |M|)
    * output: b + side
    * loss: BPR + lambda_cl (InfoNCE(side, b) of the users + of the items in
      the batch, by cosine) + lambda_reg (half the squares of the batch's
      rows of the output, per triplet)

    The side is that of the authors' code, which ranks better; that of the
    paper, s + (1 / |M|) sum_m ..., is there with `side_mean=False`.
    `item_graphs` are the S_m, see :func:`normalized`; the mixed item-item
    graph of the other models is not used.
    """

    def __init__(
        self,
        num_users: int,
        num_items: int,
        in_channels: Mapping[str, int],
        item_graphs: Mapping[str, tuple[Tensor, Tensor]],
        hidden_channels: int = 64,
        num_layers: int = 2,
        num_item_layers: int = 1,
        lambda_cl: float = 0.01,
        lambda_reg: float = 1e-4,
        temperature: float = 0.2,
        side_mean: bool = True,
    ) -> None:
        super().__init__(num_users, num_items)
        self.modalities = list(in_channels)
        self.num_layers = num_layers
        self.num_item_layers = num_item_layers
        self.lambda_cl = lambda_cl
        self.lambda_reg = lambda_reg
        self.side_mean = side_mean

        size = hidden_channels
        self.user_embedding = Parameter(torch.empty(num_users, size))
        self.item_embedding = Parameter(torch.empty(num_items, size))
        xavier_uniform_(self.user_embedding)
        xavier_uniform_(self.item_embedding)
        self.by_modality = ModuleDict(
            {
                modality_key(name): Modality(width, size, item_graphs[name])
                for name, width in in_channels.items()
            }
        )
        self.attention = Sequential(
            Linear(size, size), Tanh(), Linear(size, 1, bias=False)
        )
        self.ranking = Ranking('bpr')
        self.info_nce = SoloSimLoss(temperature)
        self._adjacency = AdjacencyCache(normalize=True)

    def get_embedding(
        self, modal_x, edge_index, edge_weight=None, *args, **kwargs
    ) -> Tensor:
        behaviour, side = self.views(modal_x, edge_index, edge_weight)
        return behaviour + side

    def views(
        self, modal_x, edge_index, edge_weight=None, users=None
    ) -> tuple[Tensor, Tensor]:
        """The interaction view and the fused modalities, `[U + I, D]`, or
        `[B + I, D]` if only the rows of some `users` are wanted.
        """
        check_modal_x(modal_x, self.modalities, self.num_items)
        x = torch.cat([self.user_embedding, self.item_embedding])
        adj, _ = self._adjacency(edge_index, edge_weight, x.size(0), x.dtype)
        adj_t = self._adjacency.transposed(adj)
        behaviour = hop_sum(x, adj, adj_t, self.num_layers)
        behaviour = behaviour / (self.num_layers + 1)

        parts = [self.by_modality[modality_key(m)] for m in self.modalities]
        items = [
            part.encode(modal_x[m], self.item_embedding, self.num_item_layers)
            for m, part in zip(self.modalities, parts)
        ]
        # Users start from nothing and take up the rows of their items, which
        # keep theirs: all of it one hop, for all modalities at once.
        item = torch.cat(items, dim=1)
        nobody = item.new_zeros(self.num_users, item.size(1))
        z = hop_sum(torch.cat([nobody, item]), adj, adj_t, K=1)
        if users is not None:
            # Propagation needs all rows, what follows does not.
            items_at = torch.arange(self.num_users, x.size(0), device=x.device)
            chosen = torch.cat([users, items_at])
            behaviour = behaviour.index_select(0, chosen)
            z = z.index_select(0, chosen)
        z = z.unflatten(1, (len(items), -1))

        shared = (self.attention(z).softmax(dim=1) * z).sum(dim=1)
        preference = torch.stack(
            [part.preference(behaviour).sigmoid() for part in parts], dim=1
        )
        own = (z - shared.unsqueeze(1)) * preference
        if self.side_mean:
            return behaviour, (shared + own.sum(dim=1)) / (1 + own.size(1))
        return behaviour, shared + own.mean(dim=1)

    def loss(
        self, modal_x, edge_index, triplets, edge_weight=None, *args, **kwargs
    ) -> tuple[Tensor, dict[str, Tensor]]:
        users, items = triplets[0], triplets[1]
        own, side = self.views(modal_x, edge_index, edge_weight, users)
        sizes = [users.numel(), self.num_items]
        loss, terms = self.rank(*(own + side).split(sizes), triplets)
        if self.lambda_cl > 0:
            by_user, by_item = zip(side.split(sizes), own.split(sizes))
            chosen = [x.index_select(0, items) for x in by_item]
            terms['cl'] = self.info_nce(*by_user) + self.info_nce(*chosen)
            loss = loss + self.lambda_cl * terms['cl']
        return loss, terms

    def rank(
        self, x_user: Tensor, x_item: Tensor, triplets: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of a batch, given the rows of its users `[B, D]`, in their
        order, and of all items.
        """
        bpr = self.ranking(x_user, x_item, triplets)
        reg = half_squares(x_user, x_item, triplets)
        return bpr + self.lambda_reg * reg, {'bpr': bpr, 'reg': reg}


def normalized(
    edge_index: Tensor, similarity: Tensor, num_items: int
) -> tuple[Tensor, Tensor]:
    """The graph of nearest neighbours, `D^-1/2 K D^-1/2` with the similarities
    in `K` and its row sums in `D`.

    Args:
        edge_index: From neighbour to item, `[2, E]`.
        similarity: Their cosines, `[E]`, as 0 where they are negative.
        num_items: The number of items.
    """
    neighbour, item = edge_index
    similarity = similarity.clamp(min=0)
    total = similarity.new_zeros(num_items).index_add(0, item, similarity)
    scale = total.where(total > 0, torch.inf).rsqrt()
    return edge_index, scale[neighbour] * similarity * scale[item]
