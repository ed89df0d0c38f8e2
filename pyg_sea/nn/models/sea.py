from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch_geometric.typing import Adj, OptTensor

from ..conv import ItemGraphConv
from ..distributed import share, share_sizes, world_size
from ..modal_graph_encoder import ID, ModalGraphEncoder
from ..modality import check_modal_x
from ..separate_learning import SeparateLearning
from ..split import ModalParts
from .paper import paper_settings
from .ranking import Ranking
from .recommender import Recommender
from .score_terms import ScoreTerms

#: The block of items' biases.
BIAS = ('popularity', 'bias')


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

        \mathcal{L} &= \mathcal{L}_\mathrm{rank}
        + \alpha \sum_{a > b} \mathcal{L}_\mathrm{align}^{ab}
        + \beta \sum_m \mathcal{L}_\mathrm{distance}^m

    (eq. 18-19). A score :math:`\mathbf{e}_u^\top \mathbf{e}_i` is thus a sum
    of one term per modality and part. The paper ranks by :class:`BPRLoss`;
    here :class:`SampledSoftmaxLoss` is the default, and rows are brought to
    unit length for it. The paper's items have no parameters of their own.
    Here each has a free vector beside those of its modalities and a bias for
    how popular it is, terms of the score as they are (:attr:`blocks` tells
    which columns). In every step some items go without their vectors: one
    that was not there in training is placed by its features alone, see
    :meth:`get_item_embedding`.

    An item lacks a modality if its features there are all zero. It then adds
    nothing of it to the graph, has what users bring it, and counts for no
    term of the separate learning that needs it.

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
            (default: :obj:`0.03`)
        beta (float, optional): Weight :math:`\beta` of the distancing.
            (default: :obj:`0.0003`)
        num_anchors (int, optional): Items that :class:`SoloSimLoss` draws
            per training step, ranked against all items; :obj:`None` takes
            all. (default: :obj:`512`)
        ranking (str, optional): :obj:`"softmax"` for
            :class:`SampledSoftmaxLoss`, or :obj:`"bpr"` for
            :class:`BPRLoss`. (default: :obj:`"softmax"`)
        ranking_kwargs (dict[str, Any], optional): Arguments of
            :class:`SampledSoftmaxLoss`. (default: :obj:`None`)
        id_channels (int, optional): The size :math:`C` of items' own vectors;
            with :obj:`0` they have none, and without :obj:`item_bias` no
            parameters. (default: :obj:`128`)
        id_dropout (float, optional): The share of items that go without
            their own vector in a training step. (default: :obj:`0.1`)
        item_bias (bool, optional): If set to :obj:`True`, each item has a
            learnable number that is added to its scores.
            (default: :obj:`True`)
        initial_norm (float, optional): The length at which free rows of
            users and items start, about; see :class:`ModalGraphEncoder`.
            :obj:`None` is the paper's. (default: :obj:`0.01`)
        encoder_scale (float, optional): How small the item encoders start,
            likewise; :obj:`1.0` is the paper's. (default: :obj:`0.1`)
        normalize (bool, optional): If set to :obj:`False`, interactions are
            taken as already normalized. With :obj:`True` they are normalized
            and brought to CSR once, as long as the same tensors come.
            (default: :obj:`True`)
        sync (bool, optional): If set to :obj:`True`, the processes of
            :mod:`torch.distributed` share the work on the items in
            :meth:`loss` in training mode, and take their triplets as shares
            of one batch: the mean of the losses over processes, and so what
            DDP makes of the gradients, is that of one process on the joined
            batch. No other method communicates. (default: :obj:`True`)
        **kwargs (optional): Additional arguments of
            :class:`SeparateLearning`.

    Shapes:
        - **input:** as of :class:`Recommender`
        - **output:** embeddings :math:`(U + I, M D + C + 1)` for :math:`M`
          modalities; without biases, :math:`(U + I, M D + C)`

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
        ['softmax', 'align/text-image', 'distance/image', 'distance/text']
        >>> model.get_embedding(modal_x, edge_index).shape
        torch.Size([203, 257])
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
        alpha: float = 0.03,
        beta: float = 0.0003,
        num_anchors: int | None = 512,
        ranking: str = 'softmax',
        ranking_kwargs: dict[str, Any] | None = None,
        id_channels: int = 128,
        id_dropout: float = 0.1,
        item_bias: bool = True,
        initial_norm: float | None = 0.01,
        encoder_scale: float = 0.1,
        normalize: bool = True,
        sync: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(num_users, num_items)

        if 'unique_channels' in kwargs:
            raise ValueError(
                "'unique_channels' is what 'generic_channels' leaves of "
                f"'hidden_channels' in '{self.__class__.__name__}': set those"
            )
        self.encoder = ModalGraphEncoder(
            num_users,
            in_channels,
            hidden_channels,
            encoder_channels,
            num_layers,
            normalize,
            num_items if id_channels else None,
            id_channels,
            id_dropout,
            initial_norm,
            encoder_scale,
        )
        if item_bias and BIAS[0] in self.encoder.in_channels:
            raise ValueError(
                f"a modality is called '{BIAS[0]}', as the items' biases "
                f"are in '{self.__class__.__name__}': rename it, or set "
                "'item_bias' to False"
            )
        self.separate = SeparateLearning(
            dict.fromkeys(self.encoder.modalities, hidden_channels),
            generic_channels,
            mode=mode,
            alpha=alpha,
            beta=beta,
            num_anchors=num_anchors,
            sync=sync,
            **kwargs,
        )
        self.item_conv = ItemGraphConv()
        self.ranking = Ranking(
            ranking,
            num_items if item_bias else None,
            **{'sync': sync, **(ranking_kwargs or {})},
        )
        self.sync = sync

    @classmethod
    def paper(
        cls,
        num_users: int,
        num_items: int,
        in_channels: Mapping[str, int],
        **kwargs: Any,
    ) -> 'SEA':
        r"""The model with the settings of the paper: linear maps, CLUB with a
        perceptron, all items as anchors, and BPR. The paper trains it with
        Adam at 1e-4 and batches of 2048. Its :math:`\alpha` and :math:`\beta`
        are not known: sweep them.

        The arguments are those of :class:`SEA`, with the defaults of
        :func:`pyg_sea.nn.models.paper.paper_settings`.
        """
        settings = paper_settings(**kwargs)
        return cls(num_users, num_items, in_channels, **settings)

    def reset_parameters(self) -> None:
        r"""Resets all learnable parameters and estimators of the module."""
        self.encoder.reset_parameters()
        self.separate.reset_parameters()
        self.ranking.reset_parameters()

    @property
    def modalities(self) -> list[str]:
        r"""The names of the modalities, in order."""
        return self.encoder.modalities

    @property
    def blocks(self) -> dict[tuple[str, str], slice]:
        r"""The columns of an embedding that belong to each modality and part,
        those of the items' own vectors, :obj:`("id", "unique")`, and that of
        their biases, :obj:`("popularity", "bias")`. A score is the sum of the
        inner products over blocks.
        """
        out, start = {}, 0
        for name, size in self.encoder.blocks.items():
            generic = 0
            if name in self.modalities:
                generic = self.separate.generic_channels
            for part, width in zip(
                ('generic', 'unique'), (generic, size - generic)
            ):
                if width > 0:
                    out[name, part] = slice(start, start + width)
                    start += width
        if self.ranking.item_bias is not None:
            out[BIAS] = slice(start, start + 1)
        return out

    def get_embedding(
        self,
        modal_x: Mapping[str, Tensor],
        edge_index: Adj,
        edge_weight: OptTensor = None,
        item_edge_index: Adj | None = None,
        item_edge_weight: OptTensor = None,
    ) -> Tensor:
        r"""Returns the embedding of all nodes: per modality a block of
        :math:`D` channels, items as (generic, unique), one of items' own
        vectors, and a column of their biases, ones for users; see
        :attr:`blocks`. The arguments are those of :class:`Recommender`.
        """
        x_user, parts, own = self._encode(modal_x, edge_index, edge_weight)
        x_item = self._join(parts, own, item_edge_index, item_edge_weight)
        return torch.cat(self.ranking.rows(x_user, x_item))

    def get_terms(
        self,
        modal_x: Mapping[str, Tensor],
        edge_index: Adj,
        edge_weight: OptTensor = None,
        item_edge_index: Adj | None = None,
        item_edge_weight: OptTensor = None,
    ) -> ScoreTerms:
        r"""Returns the rows of :meth:`get_embedding`, without biases, with
        those of items in two terms, their own and what their neighbors add.
        The arguments are those of :class:`Recommender`.
        """
        x_user, parts, own = self._encode(modal_x, edge_index, edge_weight)
        x = self._join(parts, own, None, None)
        joined = self.item_conv(x, item_edge_index, item_edge_weight)
        unit = self.ranking.name == 'softmax'
        return ScoreTerms.of(x_user, x, joined - x, unit)

    def get_item_embedding(
        self,
        modal_x: Mapping[str, Tensor],
        item_edge_index: Adj | None = None,
        item_edge_weight: OptTensor = None,
    ) -> Tensor:
        r"""Returns the embedding of items by their features alone, without
        interactions or vectors of their own (zeros), and with the mean of all
        biases: for items that were not there in training, any number
        :math:`N` of them.

        Args:
            modal_x (dict[str, torch.Tensor]): Raw item features per
                modality, :math:`(N, F_m)`.
            item_edge_index (torch.Tensor or SparseTensor, optional): An
                item-item graph over these items. (default: :obj:`None`)
            item_edge_weight (torch.Tensor, optional): Its weights.
                (default: :obj:`None`)
        """
        parts = self.separate.split(self.encoder.encode_items(modal_x))
        own: OptTensor = None
        if self.encoder.item_embedding is not None:
            first = next(iter(parts.values())).generic
            own = first.new_zeros(first.size(0), self.encoder.blocks[ID])
        x = self._join(parts, own, item_edge_index, item_edge_weight)
        return self.ranking.rows(x[:0], x, known=False)[1]

    def get_parts(
        self,
        modal_x: Mapping[str, Tensor],
        edge_index: Adj,
        edge_weight: OptTensor = None,
    ) -> dict[str, ModalParts]:
        r"""Returns the generic and the unique part of every item and
        modality, before the item-item graph. The arguments are those of
        :class:`Recommender`.
        """
        return self._encode(modal_x, edge_index, edge_weight)[1]

    def loss(
        self,
        modal_x: Mapping[str, Tensor],
        edge_index: Adj,
        triplets: Tensor,
        edge_weight: OptTensor = None,
        item_edge_index: Adj | None = None,
        item_edge_weight: OptTensor = None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        r"""Returns the loss of one batch (eq. 18-19) and its named terms,
        unweighted: :obj:`"softmax"` or :obj:`"bpr"`,
        :obj:`"align/<later>-<earlier>"` and :obj:`"distance/<modality>"`. The
        arguments are those of :meth:`Recommender.loss`.
        """
        sync = self.sync and self.training and world_size() > 1
        x_user, parts, own = self._encode(
            modal_x, edge_index, edge_weight, triplets[0], sync
        )
        x_item = self._join(parts, own, item_edge_index, item_edge_weight)
        rank = self.ranking(x_user, x_item, triplets)
        sizes = share_sizes(self.num_items) if sync else None
        if sync:
            rows = share(self.num_items)
            for name, (generic, unique) in parts.items():
                parts[name] = ModalParts(generic[rows], unique[rows])
        missing = self.encoder.missing(modal_x, x_user.device)
        separate, terms = self.separate.loss(parts, sizes, missing)
        return rank + separate, {self.ranking.name: rank, **terms}

    def _encode(
        self,
        modal_x: Mapping[str, Tensor],
        edge_index: Adj,
        edge_weight: OptTensor,
        users: OptTensor = None,
        sync: bool = False,
    ) -> tuple[Tensor, dict[str, ModalParts], OptTensor]:
        check_modal_x(modal_x, self.modalities, self.num_items)
        x_user, x_item = self.encoder(
            modal_x, edge_index, edge_weight, users, sync
        )
        own: OptTensor = None
        if self.encoder.item_embedding is not None:
            own = x_item.pop(ID)
        return x_user, self.separate.split(x_item), own

    def _join(
        self,
        parts: Mapping[str, ModalParts],
        own: OptTensor,
        item_edge_index: Adj | None,
        item_edge_weight: OptTensor,
    ) -> Tensor:
        rows = [part for pair in parts.values() for part in pair]
        rows = rows if own is None else [*rows, own]
        x = torch.cat(rows, dim=-1)
        return self.item_conv(x, item_edge_index, item_edge_weight)

    def __repr__(self) -> str:
        return (
            f'{self.__class__.__name__}({self.num_users}, {self.num_items}, '
            f'{self.encoder.in_channels}, '
            f'hidden_channels={self.encoder.out_channels}, '
            f'num_layers={self.encoder.K})'
        )
