from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import ModuleDict, Parameter
from torch.nn.init import xavier_uniform_
from torch_geometric.nn import LGConv
from torch_geometric.typing import Adj, OptTensor
from torch_geometric.utils import is_sparse

from ..adjacency import AdjacencyCache, propagation_dtype
from ..chunked_linear import FeatureLinear
from ..distributed import broadcast, world_size
from ..hop_sum import hop_sum
from ..loss import BPRLoss
from ..modality import check_channels, check_modal_x, modality_key
from ..thinned_adjacency import ThinnedAdjacency
from ..triplet_counter import TripletCounter
from .recommender import Recommender


class FREEDOM(Recommender):
    r"""The recommender from the `"A Tale of Two Graphs: Freezing and
    Denoising Graph Structures for Multimodal Recommendation"
    <https://arxiv.org/abs/2211.06924>`_ paper, for any number of modalities.

    Free rows of users and items are averaged over the hops of a thinned
    interaction graph, and the free rows of items smoothed over the frozen
    item-item graph :math:`\mathbf{S}`:

    .. math::
        [\mathbf{e}_u \,\Vert\, \hat{\mathbf{h}}_i] = \frac{1}{L + 1}
        \sum_{l=0}^{L} \hat{\mathbf{A}}_\rho^l \mathbf{X}, \qquad
        \mathbf{e}_i = \hat{\mathbf{h}}_i +
        \big( \mathbf{S}^{L_S} \mathbf{X}_\mathrm{item} \big)_i

    Features enter through :math:`\mathbf{S}` and through a ranking loss of
    their own per modality, :math:`\mathbf{e}_i^m = \mathbf{W}_m
    \mathbf{f}_i^m + \mathbf{b}_m`:

    .. math::
        \mathcal{L} = \mathrm{BPR}(\mathbf{e}_u^\top \mathbf{e}_i) + \lambda
        \sum_m \mathrm{BPR}(\mathbf{e}_u^\top \mathbf{e}_i^m)

    In training mode :math:`\hat{\mathbf{A}}_\rho` holds a share
    :math:`1 - \rho` of the interactions, drawn without replacement with
    probabilities in proportion to :math:`1 / \sqrt{d_u d_i}` and normalized
    again. They are drawn anew as often as the loss has seen as many triplets
    as there are interactions: once per epoch. In evaluation mode the whole
    graph is used.

    Where the processes of :mod:`torch.distributed` run, triplets in training
    mode are shares of one batch, and all processes have to call :meth:`loss`:
    its mean over them is the loss of one process on the joined batch. All of
    them leave out the same interactions.

    The graph :math:`\mathbf{S}` is that of
    :class:`pyg_sea.transforms.ModalKNNGraph`, in which each of the
    :math:`k` neighbors weighs :math:`1 / k`. The paper writes
    :math:`\mathbf{D}^{-1/2} \mathbf{K} \mathbf{D}^{-1/2}` with the row sums
    in :math:`\mathbf{D}`, all of them :math:`k`, which is the same.

    Args:
        num_users (int): The number of users :math:`U`.
        num_items (int): The number of items :math:`I`.
        in_channels (dict[str, int]): The number of features :math:`F_m` of
            each modality.
        hidden_channels (int, optional): Embedding size :math:`D`.
            (default: :obj:`64`)
        num_layers (int, optional): Hops :math:`L` over the interaction
            graph. (default: :obj:`2`)
        num_item_layers (int, optional): Hops :math:`L_S` over the item-item
            graph. (default: :obj:`1`)
        dropout (float, optional): The share :math:`\rho` of interactions that
            is left out. (default: :obj:`0.8`)
        lambda_modal (float, optional): Weight :math:`\lambda` of the ranking
            by single modalities. (default: :obj:`1e-3`)

    Shapes:
        - **input:** as of :class:`Recommender`; without an item-item graph
          its term is left out
        - **output:** embeddings :math:`(U + I, D)`

    Raises:
        ValueError: If an option is out of range or the input does not fit.

    Example:
        >>> import torch
        >>> from pyg_sea.nn import FREEDOM
        >>> model = FREEDOM(num_users=3, num_items=20,
        ...                 in_channels={'image': 16, 'text': 8})
        >>> modal_x = {'image': torch.randn(20, 16),
        ...            'text': torch.randn(20, 8)}
        >>> edge_index = torch.tensor([[0, 1, 3, 4], [3, 4, 0, 1]])
        >>> triplets = torch.tensor([[0, 1], [0, 1], [7, 9]])
        >>> loss, terms = model.loss(modal_x, edge_index, triplets)
        >>> list(terms)
        ['bpr', 'bpr/image', 'bpr/text']
        >>> model.get_embedding(modal_x, edge_index).shape
        torch.Size([23, 64])
    """

    #: Losses are shares of that of a joined batch.
    sync = True

    def __init__(
        self,
        num_users: int,
        num_items: int,
        in_channels: Mapping[str, int],
        hidden_channels: int = 64,
        num_layers: int = 2,
        num_item_layers: int = 1,
        dropout: float = 0.8,
        lambda_modal: float = 1e-3,
    ) -> None:
        super().__init__(num_users, num_items)

        for name, value, least in (
            ('hidden_channels', hidden_channels, 1),
            ('num_layers', num_layers, 0),
            ('num_item_layers', num_item_layers, 0),
            ('lambda_modal', lambda_modal, 0),
        ):
            if value < least:
                raise ValueError(
                    f"'{name}' needs to be at least {least} (got {value})"
                )
        if not 0 <= dropout < 1:
            raise ValueError(
                f"'dropout' needs to be at least 0 and below 1 (got {dropout})"
            )
        self.in_channels = check_channels(in_channels)
        self.modalities = list(self.in_channels)
        self.hidden_channels = hidden_channels
        self.num_layers = num_layers
        self.num_item_layers = num_item_layers
        self.dropout = dropout
        self.lambda_modal = lambda_modal

        self.user_embedding = Parameter(
            torch.empty(num_users, hidden_channels)
        )
        self.item_embedding = Parameter(
            torch.empty(num_items, hidden_channels)
        )
        self.linears = ModuleDict(
            {
                modality_key(name): FeatureLinear(size, hidden_channels)
                for name, size in self.in_channels.items()
            }
        )
        self.conv = LGConv(normalize=False)
        self.bpr = BPRLoss(sync=True)
        self._whole = AdjacencyCache(normalize=True)
        self._thinned = ThinnedAdjacency(num_users, dropout)
        self._similar = AdjacencyCache(normalize=False)

        self.reset_parameters()

    def reset_parameters(self) -> None:
        r"""Resets all learnable parameters of the module, and draws other
        interactions from now on.
        """
        xavier_uniform_(self.user_embedding)
        xavier_uniform_(self.item_embedding)
        for linear in self.linears.values():
            if isinstance(linear, FeatureLinear):
                linear.reset_parameters()
        self._seed = int(torch.randint(2**31, (1,)))
        self._seen, self._agreed = TripletCounter(0), False

    def get_extra_state(self) -> Tensor:
        r"""Returns what decides the interactions of each epoch: a seed and
        the number of triplets so far.
        """
        return torch.tensor([self._seed, self._seen.total()])

    def set_extra_state(self, state: Tensor) -> None:
        r"""Goes on where :meth:`get_extra_state` was taken."""
        self._seed, num_seen = state.tolist()
        self._seen, self._agreed = TripletCounter(num_seen), False

    def get_embedding(
        self,
        modal_x: Mapping[str, Tensor],
        edge_index: Adj,
        edge_weight: OptTensor = None,
        item_edge_index: Adj | None = None,
        item_edge_weight: OptTensor = None,
    ) -> Tensor:
        r"""Returns the embedding of all nodes, :math:`(U + I, D)`, of the
        thinned graph in training mode. The arguments are those of
        :class:`Recommender`; of :obj:`modal_x` nothing is used.
        """
        x = torch.cat([self.user_embedding, self.item_embedding])
        dtype = propagation_dtype(x)
        thin = self.training and self.dropout > 0
        if thin:
            epoch = self._seen.known // _num_interactions(edge_index)
            self._thinned.start(self._seed + epoch)
        adjacency = self._thinned if thin else self._whole
        adj = adjacency(edge_index, edge_weight, x.size(0), dtype)
        with torch.autocast(x.device.type, enabled=False):
            out = h = x.to(dtype)
            adj_t = adjacency.transposed(adj[0])
            if isinstance(adj[0], Tensor) and adj_t is not None:
                out = hop_sum(h, adj[0], adj_t, self.num_layers)
            else:
                for _ in range(self.num_layers):
                    h = self.conv(h, *adj)
                    out = out + h
            out = out / (self.num_layers + 1)
            if item_edge_index is not None:
                h = self.item_embedding.to(dtype)
                adj = self._similar(
                    item_edge_index, item_edge_weight, h.size(0), dtype
                )
                for _ in range(self.num_item_layers):
                    h = self.conv(h, *adj)
                user, item = out.split([self.num_users, self.num_items])
                out = torch.cat([user, item + h])
        return out.to(x.dtype)

    def loss(
        self,
        modal_x: Mapping[str, Tensor],
        edge_index: Adj,
        triplets: Tensor,
        edge_weight: OptTensor = None,
        item_edge_index: Adj | None = None,
        item_edge_weight: OptTensor = None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        r"""Returns the loss of one batch and its terms :obj:`"bpr"` and
        :obj:`"bpr/<modality>"`, unweighted. The arguments are those of
        :meth:`Recommender.loss`.
        """
        check_modal_x(modal_x, self.modalities, self.num_items)
        if self.training and world_size() > 1 and not self._agreed:
            state = self.get_extra_state().to(triplets.device)
            self.set_extra_state(broadcast(state))
            self._agreed = True
        x_user, x_item = self.get_embedding(
            modal_x, edge_index, edge_weight, item_edge_index, item_edge_weight
        ).split([self.num_users, self.num_items])
        if self.training:
            self._seen.add(triplets, _num_interactions(edge_index))
        loss = self.bpr(*self.triplet_scores(x_user, x_item, triplets))
        terms = {'bpr': loss}
        if self.lambda_modal > 0:
            for name in self.modalities:
                x = self.linears[modality_key(name)](modal_x[name])
                term = self.bpr(*self.triplet_scores(x_user, x, triplets))
                terms[f'bpr/{name}'] = term
                loss = loss + self.lambda_modal * term
        return loss, terms

    def __repr__(self) -> str:
        return (
            f'{self.__class__.__name__}({self.num_users}, {self.num_items}, '
            f'{self.in_channels}, hidden_channels={self.hidden_channels}, '
            f'num_layers={self.num_layers}, dropout={self.dropout})'
        )


def _num_interactions(edge_index: Adj) -> int:
    if not is_sparse(edge_index):
        return max(1, int(edge_index.size(1)) // 2)
    sparse = isinstance(edge_index, Tensor)
    return max(1, int(edge_index._nnz() if sparse else edge_index.nnz()) // 2)
