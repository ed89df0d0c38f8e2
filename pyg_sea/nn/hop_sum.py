from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable


def hop_sum(x: Tensor, adj: Tensor, adj_t: Tensor, K: int) -> Tensor:
    r"""Sums the rows of all hops over a constant graph.

    .. math::
        \sum_{k=0}^{K} \mathbf{A}^k \mathbf{X} = \mathbf{X} + \mathbf{A}
        (\mathbf{X} + \mathbf{A} (\mathbf{X} + \dots))

    In this order (Horner's) every hop is one product that adds as it goes,
    and nothing has to be kept for the backward pass, which is the same sum
    over :math:`\mathbf{A}^\top`.

    Args:
        x (torch.Tensor): The rows :math:`\mathbf{X}`.
        adj (torch.Tensor): The graph :math:`\mathbf{A}` as a sparse matrix;
            no gradients reach it.
        adj_t (torch.Tensor): Its transpose.
        K (int): The number of hops.

    Shapes:
        - **input:** rows :math:`(N, D)`, sparse matrices :math:`(N, N)`
        - **output:** rows :math:`(N, D)` in the data type of the graph

    Example:
        >>> import torch
        >>> from pyg_sea.nn.hop_sum import hop_sum
        >>> adj = torch.tensor([[0.0, 1.0], [0.0, 0.0]])
        >>> sparse, sparse_t = adj.to_sparse_coo(), adj.t().to_sparse_coo()
        >>> hop_sum(torch.eye(2), sparse, sparse_t, K=2)
        tensor([[1., 1.],
                [0., 1.]])
    """
    return _HopSum.apply(x, adj, adj_t, K)


class _HopSum(Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, adj: Tensor, adj_t: Tensor, K: int
    ) -> Tensor:
        ctx.adj_t, ctx.K = adj_t, K
        return _horner(x, adj, K)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        return _horner(grad.contiguous(), ctx.adj_t, ctx.K), None, None, None


def hop_sum_(x: Tensor, adj: Tensor, K: int) -> Tensor:
    r"""Computes :func:`hop_sum` where rows may be overwritten, without
    gradients.

    Args:
        x (torch.Tensor): The rows :math:`\mathbf{X}`, in the data type of the
            graph; they are lost.
        adj (torch.Tensor): The graph :math:`\mathbf{A}` as a sparse matrix.
        K (int): The number of hops.

    Shapes:
        - **input:** rows :math:`(N, D)`, a sparse matrix :math:`(N, N)`
        - **output:** rows :math:`(N, D)`

    Example:
        >>> import torch
        >>> from pyg_sea.nn.hop_sum import hop_sum_
        >>> adj = torch.tensor([[0.0, 1.0], [0.0, 0.0]]).to_sparse_coo()
        >>> hop_sum_(torch.eye(2), adj, K=2)
        tensor([[1., 1.],
                [0., 1.]])
    """
    if K < 2:
        return _horner(x, adj, K) if K == 1 else x
    with torch.autocast(x.device.type, enabled=False):
        return x.addmm_(adj, _horner(x, adj, K - 1))


def _horner(x: Tensor, adj: Tensor, K: int) -> Tensor:
    # Sparse products know no half precision: autocast must not bring it in.
    with torch.autocast(x.device.type, enabled=False):
        out = x = x.to(adj.dtype)
        for _ in range(K):
            # Without `out=` the result is copied once more.
            out = torch.addmm(x, adj, out, out=torch.empty_like(x))
    return out if K > 0 else x.clone()
