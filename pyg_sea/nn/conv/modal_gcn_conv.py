from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch_geometric.nn import MLP, MessagePassing
from torch_geometric.nn.conv.gcn_conv import gcn_norm
from torch_geometric.typing import Adj, OptTensor, PairTensor
from torch_geometric.utils import is_sparse, spmm

from ..chunked_linear import chunked_linear, needs_chunks


class ModalGCNConv(MessagePassing):
    r"""The modal graph convolution (eq. 6-7) of the `"It is Never Too Late
    to Mend: Separate Learning for Multimedia Recommendation"
    <https://arxiv.org/abs/2406.08270>`_ paper.

    Free user rows and encoded item rows are brought to unit length and
    propagated over the user-item graph; the output sums all hops:

    .. math::
        \mathbf{H}^{(0)} &= \left[ \frac{\mathbf{x}_u}{\|\mathbf{x}_u\|}
        \,\Big\|\, \frac{\mathrm{MLP}(\mathbf{f}_i)}
        {\|\mathrm{MLP}(\mathbf{f}_i)\|} \right], \qquad
        \mathbf{H}^{(k)} = \mathbf{D}^{-1/2} \mathbf{A} \mathbf{D}^{-1/2}
        \mathbf{H}^{(k - 1)}

        \mathbf{H} &= \sum_{k=0}^{K} \mathbf{H}^{(k)}

    without self-loops. Nodes of degree 0 keep their own row
    :math:`\mathbf{H}^{(0)}`.

    Several modalities can share one propagation: encode each with
    :meth:`encode`, stack the channels, and call :meth:`propagate_hops` once.

    Raw item rows may stay on the CPU while the module is on a GPU, be of
    another precision, or be a memory-mapped file that does not fit into
    memory: the first layer then reads them in chunks.

    Args:
        in_channels (int): Size of the raw item features :math:`F`.
        out_channels (int): Size :math:`D` of user rows and output rows.
        hidden_channels (int, optional): Hidden size of the item encoder, a
            two-layer :class:`~torch_geometric.nn.models.MLP` with leaky ReLU.
            :obj:`0` makes the encoder a single linear map. If set to
            :obj:`None`, is :obj:`4 * out_channels`. (default: :obj:`None`)
        K (int, optional): Number of hops. (default: :obj:`2`)
        normalize (bool, optional): If set to :obj:`False`, edges are taken
            as already normalized, *e.g.*, as a :obj:`torch.sparse` CSR
            matrix that was computed once. (default: :obj:`True`)
        **kwargs (optional): Additional arguments of
            :class:`torch_geometric.nn.conv.MessagePassing`.

    Shapes:
        - **input:**
          a pair of user rows :math:`(U, D)` and raw item rows
          :math:`(I, F)`,
          edge indices :math:`(2, |\mathcal{E}|)` over the :math:`U + I`
          nodes, users first, both directions, or a sparse matrix
          :math:`(U + I, U + I)`,
          edge weights :math:`(|\mathcal{E}|)` *(optional)*
        - **output:** node features :math:`(U + I, D)`

    Raises:
        ValueError: If a size is not positive, :obj:`K` is negative, or the
            input is no pair of matrices of the stated widths.

    Example:
        >>> import torch
        >>> from pyg_sea.nn import ModalGCNConv
        >>> conv = ModalGCNConv(in_channels=16, out_channels=8)
        >>> x = (torch.randn(3, 8), torch.randn(2, 16))  # 3 users, 2 items
        >>> edge_index = torch.tensor([[0, 1, 3, 4], [3, 4, 0, 1]])
        >>> conv(x, edge_index).shape
        torch.Size([5, 8])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        hidden_channels: int | None = None,
        K: int = 2,
        normalize: bool = True,
        **kwargs: Any,
    ) -> None:
        kwargs.setdefault('aggr', 'add')
        super().__init__(**kwargs)

        if in_channels < 1 or out_channels < 1:
            raise ValueError(
                f"'in_channels' and 'out_channels' need to be positive "
                f'(got {in_channels} and {out_channels})'
            )
        if hidden_channels is not None and hidden_channels < 0:
            raise ValueError(
                f"'hidden_channels' needs to be at least 0 "
                f'(got {hidden_channels})'
            )
        if K < 0:
            raise ValueError(f"'K' needs to be at least 0 (got {K})")

        self.in_channels = in_channels
        self.out_channels = out_channels
        self.hidden_channels = (
            4 * out_channels if hidden_channels is None else hidden_channels
        )
        self.K = K
        self.normalize = normalize

        channels = [in_channels, self.hidden_channels, out_channels]
        self.mlp = MLP(
            [size for size in channels if size > 0],
            act='leaky_relu',
            act_kwargs={'inplace': True},
            norm=None,
        )

    def reset_parameters(self) -> None:
        r"""Resets all learnable parameters of the module."""
        super().reset_parameters()
        self.mlp.reset_parameters()

    def forward(
        self,
        x: PairTensor,
        edge_index: Adj,
        edge_weight: OptTensor = None,
    ) -> Tensor:
        r"""Encodes the items and propagates both sides (eq. 6-7).

        Args:
            x (tuple[torch.Tensor, torch.Tensor]): User rows
                :math:`(U, D)` and raw item rows :math:`(I, F)`.
            edge_index (torch.Tensor or SparseTensor): The edges over
                :math:`U + I` nodes, users first.
            edge_weight (torch.Tensor, optional): One weight per edge, *e.g.*,
                ratings or counts. (default: :obj:`None`)
        """
        return self.propagate_hops(self.encode(x), edge_index, edge_weight)

    def encode(self, x: PairTensor) -> Tensor:
        r"""Returns the rows before propagation, :math:`\mathbf{H}^{(0)}`.

        Args:
            x (tuple[torch.Tensor, torch.Tensor]): User rows
                :math:`(U, D)` and raw item rows :math:`(I, F)`.
        """
        if not isinstance(x, tuple) or len(x) != 2:
            raise ValueError(
                "'x' needs to be a pair (user rows, raw item rows) "
                f"in '{self.__class__.__name__}' (got {type(x).__name__})"
            )
        x_user, x_item = x
        if x_user.dim() != 2 or x_user.size(1) != self.out_channels:
            raise ValueError(
                f"'x[0]' needs to hold user rows of shape "
                f'[num_users, {self.out_channels}] (got {list(x_user.shape)})'
            )
        x = torch.cat([x_user, self.encode_items(x_item)])
        return F.normalize(x, dim=-1)

    def encode_items(self, x_item: Tensor) -> Tensor:
        r"""Encodes raw item rows, before they are brought to unit length.

        Args:
            x_item (torch.Tensor): Raw item rows :math:`(I, F)`, on any device
                and of any precision.
        """
        if x_item.dim() != 2 or x_item.size(1) != self.in_channels:
            raise ValueError(
                f"'x[1]' needs to hold raw item rows of shape "
                f'[num_items, {self.in_channels}] (got {list(x_item.shape)})'
            )
        first, *others = self.mlp.lins
        if not needs_chunks(x_item, first.weight):
            return self.mlp(x_item)
        h = chunked_linear(x_item, first.weight, first.bias)
        for lin in others:
            h = lin(self.mlp.act(h))
        return h

    def propagate_hops(
        self,
        h: Tensor,
        edge_index: Adj,
        edge_weight: OptTensor = None,
    ) -> Tensor:
        r"""Returns the sum over hops :math:`0, \ldots, K` (eq. 7) for rows of
        any width, so that stacked modalities share one propagation.

        Args:
            h (torch.Tensor): Rows :math:`(U + I, C)`, users first.
            edge_index (torch.Tensor or SparseTensor): The edges.
            edge_weight (torch.Tensor, optional): One weight per edge.
                (default: :obj:`None`)
        """
        if edge_weight is not None:
            if is_sparse(edge_index):
                raise ValueError(
                    "'edge_weight' cannot go with a sparse 'edge_index', "
                    'which holds its own weights: pass one of them'
                )
            edge_weight = edge_weight.to(h.dtype)
        if self.normalize:
            norm = gcn_norm(
                edge_index,
                edge_weight,
                h.size(self.node_dim),
                add_self_loops=False,
                flow=self.flow,
                dtype=h.dtype,
            )
            edge_index, edge_weight = (
                norm if isinstance(norm, tuple) else (norm, None)
            )

        out = h
        for _ in range(self.K):
            # propagate_type: (x: Tensor, edge_weight: OptTensor)
            h = self.propagate(edge_index, x=h, edge_weight=edge_weight)
            out = out + h
        return out

    def message(  # noqa: D102
        self, x_j: Tensor, edge_weight: OptTensor
    ) -> Tensor:
        return x_j if edge_weight is None else edge_weight.view(-1, 1) * x_j

    def message_and_aggregate(  # noqa: D102
        self, adj_t: Adj, x: Tensor
    ) -> Tensor:
        return spmm(adj_t, x, reduce=self.aggr)

    def __repr__(self) -> str:
        return (
            f'{self.__class__.__name__}({self.in_channels}, '
            f'{self.out_channels}, K={self.K})'
        )
