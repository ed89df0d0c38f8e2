from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import Module, ModuleDict, Parameter
from torch.nn.init import xavier_normal_
from torch_geometric.typing import Adj, OptTensor

from .adjacency import AdjacencyCache, propagation_dtype
from .conv import ModalGCNConv
from .distributed import gather_rows, share, share_sizes, world_size
from .free_rows import drop_rows, start_rows
from .missing import MissingRows
from .modality import check_channels, check_modal_x, modality_key
from .propagate_blocks import propagate_blocks
from .unit_rows import unit_rows

# The block of the items' own vectors, beside those of the modalities.
ID = 'id'


class ModalGraphEncoder(Module):
    r"""Learns users and items per modality on the interaction graph, all
    modalities in one propagation (eq. 6-7 and the user's side of eq. 17 of
    the `SEA paper <https://arxiv.org/abs/2406.08270>`_).

    Every modality has its own :class:`ModalGCNConv` and a free row per user;
    the user's rows :math:`\mathbf{x}_u^m` are weighted and joined:

    .. math::
        \mathbf{e}_u = \big\Vert_m \, w_{um} \mathbf{x}_u^m

    An item whose features are all zero lacks that modality: its row is zero
    before the first hop.

    Args:
        num_users (int): The number of users :math:`U`.
        in_channels (dict[str, int]): The number of features :math:`F_m` of
            each modality. Its order is the order of the modalities.
        out_channels (int, optional): Embedding size :math:`D` per modality.
            (default: :obj:`64`)
        hidden_channels (int, optional): Hidden size of the item encoders;
            :obj:`0` makes them linear. If set to :obj:`None`, is
            :obj:`4 * out_channels`. (default: :obj:`None`)
        K (int, optional): Number of hops. (default: :obj:`2`)
        normalize (bool, optional): If set to :obj:`False`, interactions are
            taken as already normalized. With :obj:`True` they are normalized
            and brought to CSR once, as long as the same tensors come.
            (default: :obj:`True`)
        num_items (int, optional): If given, each of :math:`I` items has a
            free vector too, and users a further row for it: one more block,
            :obj:`"id"`, after those of the modalities. (default: :obj:`None`)
        id_channels (int, optional): The size :math:`C` of that block. If set
            to :obj:`None`, is :obj:`out_channels`. (default: :obj:`None`)
        id_dropout (float, optional): The share of items that go without
            their vector in a training step, so that features learn to do
            without it. (default: :obj:`0.0`)
        initial_norm (float, optional): The length at which free rows start,
            about. They are brought to unit length: the shorter one is, the
            further a step of Adam turns it. If set to :obj:`None`, they
            start Xavier-normal. (default: :obj:`None`)
        encoder_scale (float, optional): The first layers of the item encoders
            start at this multiple of what torch has. The smaller, the more
            alike items are, and told apart by features only as it is learned
            how. (default: :obj:`1.0`)

    Shapes:
        - **input:** raw item features :math:`(I, F_m)` per modality,
          edge indices :math:`(2, |\mathcal{E}|)` over :math:`U + I` nodes,
          users first, both directions, or a sparse matrix,
          edge weights :math:`(|\mathcal{E}|)` *(optional)*
        - **output:** user rows :math:`(U, M D + C)` for :math:`M` modalities,
          or :math:`(B, M D + C)` of the users asked for, and a dictionary
          of item rows :math:`(I, D)`, and :math:`(I, C)` of the block
          :obj:`"id"`; :math:`C = 0` without it

    Raises:
        ValueError: If a size is out of range or the input does not fit.

    Example:
        >>> import torch
        >>> from pyg_sea.nn import ModalGraphEncoder
        >>> encoder = ModalGraphEncoder(3, {'image': 16, 'text': 8})
        >>> modal_x = {'image': torch.randn(2, 16), 'text': torch.randn(2, 8)}
        >>> edge_index = torch.tensor([[0, 1, 3, 4], [3, 4, 0, 1]])
        >>> x_user, x_item = encoder(modal_x, edge_index)
        >>> x_user.shape, x_item['text'].shape
        (torch.Size([3, 128]), torch.Size([2, 64]))
    """

    def __init__(
        self,
        num_users: int,
        in_channels: Mapping[str, int],
        out_channels: int = 64,
        hidden_channels: int | None = None,
        K: int = 2,
        normalize: bool = True,
        num_items: int | None = None,
        id_channels: int | None = None,
        id_dropout: float = 0.0,
        initial_norm: float | None = None,
        encoder_scale: float = 1.0,
    ) -> None:
        super().__init__()

        self.in_channels = check_channels(in_channels)
        if num_items is not None and ID in self.in_channels:
            raise ValueError(
                f"a modality is called '{ID}', as the items' own vectors are "
                'in ModalGraphEncoder: rename it, or leave those away'
            )
        if not 0 <= id_dropout < 1:
            raise ValueError(
                f"'id_dropout' needs to be in [0, 1) (got {id_dropout})"
            )
        size = out_channels if id_channels is None else id_channels
        for what, value in (
            ('id_channels', None if num_items is None else size),
            ('initial_norm', initial_norm),
            ('encoder_scale', encoder_scale),
        ):
            if value is not None and value <= 0:
                raise ValueError(
                    f"'{what}' needs to be positive (got {value})"
                )
        self.num_users = num_users
        self.initial_norm = initial_norm
        self.encoder_scale = encoder_scale
        self.modalities = list(self.in_channels)
        self.out_channels = out_channels
        self.K = K

        self.convs = ModuleDict(
            {
                modality_key(name): ModalGCNConv(
                    size, out_channels, hidden_channels, K, normalize=False
                )
                for name, size in self.in_channels.items()
            }
        )
        self.blocks = dict.fromkeys(self.modalities, out_channels)
        self.user_embedding = Parameter(
            torch.empty(len(self.modalities), num_users, out_channels)
        )
        self.item_embedding: Parameter | None = None
        if num_items is not None:
            self.blocks[ID] = size
            self.item_embedding = Parameter(torch.empty(num_items, size))
            self.user_id_embedding = Parameter(torch.empty(num_users, size))
        self.id_dropout = id_dropout
        self.user_weight = Parameter(torch.empty(num_users, len(self.blocks)))
        self._adjacency = AdjacencyCache(normalize)
        self.missing = MissingRows()

        self._set_start()

    @property
    def normalize(self) -> bool:
        r"""Whether interactions are normalized here."""
        return self._adjacency.normalize

    def reset_parameters(self) -> None:
        r"""Resets all learnable parameters of the module."""
        for name in self.modalities:
            self._conv(name).reset_parameters()
        self._set_start()

    @torch.no_grad()
    def _set_start(self) -> None:
        rows: list[Tensor] = [*self.user_embedding]
        if self.item_embedding is not None:
            rows += [self.item_embedding, self.user_id_embedding]
        start_rows(rows, self.initial_norm)
        for name in self.modalities:
            first: Any = self._conv(name).mlp.lins[0]
            first.weight.mul_(self.encoder_scale)
        xavier_normal_(self.user_weight)
        self.user_weight.copy_(self.user_weight.softmax(dim=-1))

    def forward(
        self,
        modal_x: Mapping[str, Tensor],
        edge_index: Adj,
        edge_weight: OptTensor = None,
        users: OptTensor = None,
        sync: bool = False,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        r"""Returns the rows of users, and of items per block.

        Args:
            modal_x (dict[str, torch.Tensor]): Raw item features per
                modality, :math:`(I, F_m)`.
            edge_index (torch.Tensor or SparseTensor): The interactions.
            edge_weight (torch.Tensor, optional): One weight per interaction.
                (default: :obj:`None`)
            users (torch.Tensor, optional): Local ids of the users whose rows
                to return, :math:`(B)`. If set to :obj:`None`, is all users.
                (default: :obj:`None`)
            sync (bool, optional): If set to :obj:`True`, each process of
                :mod:`torch.distributed` encodes a share of the items and is
                handed the others. All of them have to call.
                (default: :obj:`False`)
        """
        ids = self.item_embedding
        known = None if ids is None else ids.size(0)
        check_modal_x(modal_x, self.modalities, known)
        num_items = modal_x[self.modalities[0]].size(0)
        sync = sync and world_size() > 1
        own = share(num_items) if sync else slice(None)
        x_item = self._encode(modal_x, own)
        if sync:
            sizes = share_sizes(num_items)
            rows = gather_rows(torch.cat([*x_item.values()], dim=-1), sizes)
            parts = rows.split(self.out_channels, dim=-1)
            x_item = dict(zip(self.modalities, parts))
        x_item = self.missing.clear(x_item, modal_x)
        if ids is not None:
            p = self.id_dropout if self.training else 0.0
            x_item[ID] = drop_rows(ids, p, sync)
        return self.propagate(x_item, edge_index, edge_weight, users)

    def propagate(
        self,
        x_item: Mapping[str, Tensor],
        edge_index: Adj,
        edge_weight: OptTensor = None,
        users: OptTensor = None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        r"""Returns the rows of users, and of items per block, given those of
        items before the first hop.

        Args:
            x_item (dict[str, torch.Tensor]): Encoded items per modality, and
                their own vectors if there are any, :math:`(I, D)`.
            edge_index (torch.Tensor or SparseTensor): The interactions.
            edge_weight (torch.Tensor, optional): One weight per interaction.
                (default: :obj:`None`)
            users (torch.Tensor, optional): Local ids of the users whose rows
                to return, :math:`(B)`. If set to :obj:`None`, is all users.
                (default: :obj:`None`)
        """
        user = [*self.user_embedding.unbind()]
        if self.item_embedding is not None:
            user.append(self.user_id_embedding)
        item = [x_item[name] for name in self.blocks]
        weight: Tensor = self.user_weight
        if users is not None:
            weight = weight.index_select(0, users)

        num_nodes = self.num_users + item[0].size(0)
        dtype = propagation_dtype(self.user_embedding)
        adj = self._adjacency(edge_index, edge_weight, num_nodes, dtype)
        adj_t = self._adjacency.transposed(adj[0])
        if isinstance(adj[0], Tensor) and adj_t is not None:
            x_user, x = propagate_blocks(
                user, item, adj[0], adj_t, self.K, users
            )
        else:
            pairs = [unit_rows(torch.cat(pair)) for pair in zip(user, item)]
            h = torch.cat(pairs, dim=1).to(dtype)
            with torch.autocast(h.device.type, enabled=False):
                h = self._conv(self.modalities[0]).propagate_hops(h, *adj)
            x_user, x = h.to(pairs[0].dtype).tensor_split([self.num_users])
            if users is not None:
                x_user = x_user.index_select(0, users)
        sizes = [*self.blocks.values()]
        rows = zip(x_user.split(sizes, dim=1), weight.split(1, dim=1))
        x_user = torch.cat([row * w for row, w in rows], dim=1)
        return x_user, dict(zip(self.blocks, x.split(sizes, dim=1)))

    def encode_items(self, modal_x: Mapping[str, Tensor]) -> dict[str, Tensor]:
        r"""Returns item rows by their features alone, as of items without
        interactions.

        Args:
            modal_x (dict[str, torch.Tensor]): Raw item features per
                modality, :math:`(N, F_m)`, of any items.
        """
        check_modal_x(modal_x, self.modalities)
        x_item = self.missing.clear(self._encode(modal_x), modal_x)
        return {name: unit_rows(x) for name, x in x_item.items()}

    def _encode(
        self, modal_x: Mapping[str, Tensor], rows: slice = slice(None)
    ) -> dict[str, Tensor]:
        return {
            name: self._conv(name).encode_items(modal_x[name][rows])
            for name in self.modalities
        }

    def _conv(self, name: str) -> ModalGCNConv:
        return cast(ModalGCNConv, self.convs[modality_key(name)])

    def __repr__(self) -> str:
        return (
            f'{self.__class__.__name__}({self.num_users}, {self.in_channels}, '
            f'{self.out_channels}, K={self.K})'
        )
