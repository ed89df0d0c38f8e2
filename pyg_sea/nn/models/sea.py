from collections.abc import Mapping
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn import ModuleDict, Parameter
from torch.nn.init import xavier_normal_
from torch_geometric.nn import LGConv
from torch_geometric.typing import Adj, OptTensor

from ..adjacency import AdjacencyCache
from ..conv import ModalGCNConv
from ..loss import BPRLoss
from ..modality import check_channels, check_modal_x, modality_key
from ..separate_learning import SeparateLearning
from ..split import ModalParts
from .recommender import Recommender


class SEA(Recommender):
    r"""The recommender of the `"It is Never Too Late to Mend: Separate
    Learning for Multimedia Recommendation"
    <https://arxiv.org/abs/2406.08270>`_ paper, for any number of modalities.

    Users and items are learned per modality on the interaction graph
    (:class:`ModalGCNConv`, eq. 6-7), all modalities in one propagation. Each
    modality of an item falls into a generic and a unique part, the generic
    parts are aligned and the unique parts driven away from them
    (:class:`SeparateLearning`, eq. 13-16). Items are smoothed over the
    item-item graph (eq. 8-12) and joined (eq. 17):

    .. math::
        \mathbf{e}_i &= \mathbf{h}_i + \sum_j S_{ij} \mathbf{h}_j, \quad
        \mathbf{h}_i = \big\Vert_m \, [\mathbf{g}_i^m \,\Vert\,
        \mathbf{u}_i^m], \qquad
        \mathbf{e}_u = \big\Vert_m \, w_{um} \mathbf{x}_u^m

        \mathcal{L} &= - \tfrac{1}{B} \sum \ln \sigma(\hat{y}^+ - \hat{y}^-)
        + \alpha \sum_{a > b} \mathcal{L}_\mathrm{align}^{ab}
        + \beta \sum_m \mathcal{L}_\mathrm{distance}^m

    (eq. 18-19), where :math:`\hat{y} = \mathbf{e}_u^\top \mathbf{e}_i`. A
    score is thus a sum of one term per modality and part. Items have no
    parameters of their own: an item that was not there in training is placed
    by its features, see :meth:`get_item_embedding`.

    Args:
        num_users (int): The number of users :math:`U`.
        num_items (int): The number of items :math:`I`.
        in_channels (dict[str, int]): The number of features :math:`F_m` of
            each modality. Its order is the order of the modalities.
        hidden_channels (int, optional): Embedding size :math:`D` per
            modality. (default: :obj:`64`)
        generic_channels (int, optional): Size of the generic part; the
            unique part is the rest. If set to :obj:`None`, is half of
            :obj:`hidden_channels`. (default: :obj:`None`)
        encoder_channels (int, optional): Hidden size of the item encoders;
            :obj:`0` makes them linear. If set to :obj:`None`, is
            :obj:`4 * hidden_channels`. (default: :obj:`None`)
        num_layers (int, optional): Hops over the interaction graph.
            (default: :obj:`2`)
        mode (str, optional): How :class:`GenericUniqueSplit` splits the
            rows of the graph convolution. :obj:`"slice"` keeps items in the
            space of the users; the paper learns linear maps.
            (default: :obj:`"slice"`)
        alpha (float, optional): Weight :math:`\alpha` of the alignment.
            (default: :obj:`0.1`)
        beta (float, optional): Weight :math:`\beta` of the distancing.
            (default: :obj:`0.003`)
        num_anchors (int, optional): Items that :class:`SoloSimLoss` draws
            per training step, ranked against all items; :obj:`None` takes
            all. (default: :obj:`2048`)
        normalize (bool, optional): If set to :obj:`False`, interactions are
            taken as already normalized. With :obj:`True` they are normalized
            and brought to CSR once, as long as the same tensors come.
            (default: :obj:`True`)
        **kwargs (optional): Additional arguments of
            :class:`SeparateLearning`.

    Shapes:
        - **input:** as of :class:`Recommender`
        - **output:** embeddings :math:`(U + I, M D)` for :math:`M`
          modalities

    Raises:
        ValueError: If a size is out of range or the input does not fit.

    Example:
        >>> import torch
        >>> from pyg_sea.nn import SEA
        >>> model = SEA(num_users=3, num_items=200,
        ...             in_channels={'image': 16, 'text': 8})
        >>> modal_x = {'image': torch.randn(200, 16),
        ...            'text': torch.randn(200, 8)}
        >>> edge_index = torch.tensor([[0, 1, 3, 4], [3, 4, 0, 1]])
        >>> triplets = torch.tensor([[0, 1], [0, 1], [7, 9]])
        >>> loss, terms = model.loss(modal_x, edge_index, triplets)
        >>> list(terms)
        ['bpr', 'align/text-image', 'distance/image', 'distance/text']
        >>> model.get_embedding(modal_x, edge_index).shape
        torch.Size([203, 128])
        >>> model.eval().recommend(modal_x, edge_index, k=5).shape
        torch.Size([3, 5])
    """

    def __init__(
        self,
        num_users: int,
        num_items: int,
        in_channels: Mapping[str, int],
        hidden_channels: int = 64,
        generic_channels: int | None = None,
        encoder_channels: int | None = None,
        num_layers: int = 2,
        mode: str = 'slice',
        alpha: float = 0.1,
        beta: float = 0.003,
        num_anchors: int | None = 2048,
        normalize: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(num_users, num_items)

        self.in_channels = check_channels(in_channels)
        self.modalities = list(self.in_channels)
        self.hidden_channels = hidden_channels
        self.num_layers = num_layers

        self.convs = ModuleDict(
            {
                modality_key(name): ModalGCNConv(
                    size,
                    hidden_channels,
                    encoder_channels,
                    K=num_layers,
                    normalize=False,
                )
                for name, size in self.in_channels.items()
            }
        )
        self.item_conv = LGConv(normalize=False)
        self.user_embedding = Parameter(
            torch.empty(len(self.modalities), num_users, hidden_channels)
        )
        self.user_weight = Parameter(
            torch.empty(num_users, len(self.modalities))
        )
        self.separate = SeparateLearning(
            dict.fromkeys(self.modalities, hidden_channels),
            generic_channels,
            mode=mode,
            alpha=alpha,
            beta=beta,
            num_anchors=num_anchors,
            **kwargs,
        )
        self.bpr = BPRLoss()
        self._adjacency = AdjacencyCache(normalize)
        self._item_adjacency = AdjacencyCache(normalize=False)

        self._reset_users()

    @classmethod
    def paper(
        cls,
        num_users: int,
        num_items: int,
        in_channels: Mapping[str, int],
        alpha: float = 0.55,
        beta: float = 0.01,
        **kwargs: Any,
    ) -> 'SEA':
        r"""The model with the settings of the paper: 64 channels per
        modality in equal halves, two hops, temperature 0.2, one CLUB
        estimator per modality with 8 hidden units and 50 steps of Adam at
        1e-4 per batch, one permutation as negatives. The paper trains with
        Adam at 1e-4 and batches of 2048. It does not tell :math:`\alpha`
        and :math:`\beta`: sweep them.

        Args:
            num_users (int): The number of users.
            num_items (int): The number of items.
            in_channels (dict[str, int]): The number of features of each
                modality.
            alpha (float, optional): Weight of the alignment.
                (default: :obj:`0.55`)
            beta (float, optional): Weight of the distancing.
                (default: :obj:`0.01`)
            **kwargs (optional): Arguments to set otherwise.
        """
        settings: dict[str, Any] = {
            'hidden_channels': 64,
            'generic_channels': 32,
            'encoder_channels': 256,
            'num_layers': 2,
            'mode': 'linear',
            'temperature': 0.2,
            'symmetric': False,
            'num_anchors': None,
            'distance': 'club',
            'club_kwargs': {
                'estimator': 'mlp',
                'hidden_channels': 8,
                'num_steps': 50,
                'lr': 1e-4,
                'negatives': 'permute',
            },
        }
        settings.update(alpha=alpha, beta=beta, **kwargs)
        return cls(num_users, num_items, in_channels, **settings)

    def reset_parameters(self) -> None:
        r"""Resets all learnable parameters and estimators of the module."""
        for name in self.modalities:
            self._conv(name).reset_parameters()
        self.separate.reset_parameters()
        self._reset_users()

    @torch.no_grad()
    def _reset_users(self) -> None:
        for weight in self.user_embedding:
            xavier_normal_(weight)
        xavier_normal_(self.user_weight)
        self.user_weight.copy_(self.user_weight.softmax(dim=-1))

    def get_embedding(
        self,
        modal_x: Mapping[str, Tensor],
        edge_index: Adj,
        edge_weight: OptTensor = None,
        item_edge_index: Adj | None = None,
        item_edge_weight: OptTensor = None,
    ) -> Tensor:
        r"""Returns the embedding of all nodes, :math:`(U + I, M D)`: per
        modality a block of :math:`D` channels, items as (generic, unique).

        Args:
            modal_x (dict[str, torch.Tensor]): Raw item features per
                modality, :math:`(I, F_m)`.
            edge_index (torch.Tensor or SparseTensor): The interactions over
                :math:`U + I` nodes, users first, both directions.
            edge_weight (torch.Tensor, optional): One weight per interaction.
                (default: :obj:`None`)
            item_edge_index (torch.Tensor or SparseTensor, optional): The
                item-item graph. (default: :obj:`None`)
            item_edge_weight (torch.Tensor, optional): Its weights.
                (default: :obj:`None`)
        """
        user, parts = self._encode(modal_x, edge_index, edge_weight)
        item = self._join(parts, item_edge_index, item_edge_weight)
        return torch.cat([user, item])

    @torch.no_grad()
    def get_item_embedding(
        self,
        modal_x: Mapping[str, Tensor],
        item_edge_index: Adj | None = None,
        item_edge_weight: OptTensor = None,
    ) -> Tensor:
        r"""Returns the embedding of items by their features alone, without
        interactions, :math:`(N, M D)`: for items that were not there in
        training, any number of them.

        Args:
            modal_x (dict[str, torch.Tensor]): Raw item features per
                modality, :math:`(N, F_m)`.
            item_edge_index (torch.Tensor or SparseTensor, optional): An
                item-item graph over these items. (default: :obj:`None`)
            item_edge_weight (torch.Tensor, optional): Its weights.
                (default: :obj:`None`)
        """
        check_modal_x(modal_x, self.modalities)
        x = {}
        for name in self.modalities:
            x_item = self._conv(name).encode_items(modal_x[name])
            x[name] = F.normalize(x_item, dim=-1)
        parts = self.separate.split(x)
        return self._join(parts, item_edge_index, item_edge_weight)

    def loss(
        self,
        modal_x: Mapping[str, Tensor],
        edge_index: Adj,
        triplets: Tensor,
        edge_weight: OptTensor = None,
        item_edge_index: Adj | None = None,
        item_edge_weight: OptTensor = None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        r"""Returns the loss of one batch (eq. 18-19) and its named terms
        :obj:`"bpr"`, :obj:`"align/<later>-<earlier>"` and
        :obj:`"distance/<modality>"`, unweighted.

        Args:
            modal_x (dict[str, torch.Tensor]): Raw item features.
            edge_index (torch.Tensor or SparseTensor): The interactions.
            triplets (torch.Tensor): Local ids of users, positive items and
                negative items, :math:`(3, B)`.
            edge_weight (torch.Tensor, optional): Interaction weights.
                (default: :obj:`None`)
            item_edge_index (torch.Tensor or SparseTensor, optional): The
                item-item graph. (default: :obj:`None`)
            item_edge_weight (torch.Tensor, optional): Its weights.
                (default: :obj:`None`)
        """
        user, parts = self._encode(modal_x, edge_index, edge_weight)
        item = self._join(parts, item_edge_index, item_edge_weight)

        users, pos_items, neg_items = triplets
        user = user[users]
        bpr = self.bpr(
            (user * item[pos_items]).sum(dim=-1),
            (user * item[neg_items]).sum(dim=-1),
        )
        separate, terms = self.separate.loss(parts)
        return bpr + separate, {'bpr': bpr, **terms}

    def get_parts(
        self,
        modal_x: Mapping[str, Tensor],
        edge_index: Adj,
        edge_weight: OptTensor = None,
    ) -> dict[str, ModalParts]:
        r"""Returns the generic and the unique part of every item and
        modality, before the item-item graph.

        Args:
            modal_x (dict[str, torch.Tensor]): Raw item features.
            edge_index (torch.Tensor or SparseTensor): The interactions.
            edge_weight (torch.Tensor, optional): Interaction weights.
                (default: :obj:`None`)
        """
        return self._encode(modal_x, edge_index, edge_weight)[1]

    def _conv(self, name: str) -> ModalGCNConv:
        return cast(ModalGCNConv, self.convs[modality_key(name)])

    def _encode(
        self,
        modal_x: Mapping[str, Tensor],
        edge_index: Adj,
        edge_weight: OptTensor,
    ) -> tuple[Tensor, dict[str, ModalParts]]:
        check_modal_x(modal_x, self.modalities, self.num_items)
        convs = [self._conv(name) for name in self.modalities]
        h = torch.cat(
            [
                conv.encode((x_user, modal_x[name]))
                for conv, x_user, name in zip(
                    convs, self.user_embedding, self.modalities
                )
            ],
            dim=-1,
        )
        adj = self._adjacency(edge_index, edge_weight, h.size(0), h.dtype)
        h = convs[0].propagate_hops(h, *adj)

        user, item = h.split([self.num_users, self.num_items])
        weight = self.user_weight.repeat_interleave(
            self.hidden_channels, dim=1
        )
        x_item = item.split(self.hidden_channels, dim=-1)
        parts = self.separate.split(dict(zip(self.modalities, x_item)))
        return user * weight, parts

    def _join(
        self,
        parts: Mapping[str, ModalParts],
        item_edge_index: Adj | None,
        item_edge_weight: OptTensor,
    ) -> Tensor:
        x = torch.cat(
            [
                part
                for name in self.modalities
                for part in parts[name]
            ],
            dim=-1,
        )
        if item_edge_index is None:
            return x
        adj = self._item_adjacency(
            item_edge_index, item_edge_weight, x.size(0), x.dtype
        )
        return x + self.item_conv(x, *adj)

    def __repr__(self) -> str:
        return (
            f'{self.__class__.__name__}({self.num_users}, {self.num_items}, '
            f'{self.in_channels}, hidden_channels={self.hidden_channels}, '
            f'num_layers={self.num_layers})'
        )
