from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch_geometric.typing import OptTensor

_CHUNK_NUMEL = 2**21
# From here on (1 GiB of float32) rows are read in chunks even where one
# product could take them all.
_LARGE_NUMEL = 2**28


def chunked_linear(
    x: Tensor,
    weight: Tensor,
    bias: OptTensor = None,
    chunk_size: int | None = None,
) -> Tensor:
    r"""Applies :math:`\mathbf{x} \mathbf{W}^{\top} + \mathbf{b}` to features
    that stay where they are: rows are read in chunks, which are moved to the
    device of :obj:`weight` and cast to its data type one at a time, for the
    forward pass and again for the backward pass.

    So :obj:`x` may be a memory-mapped file that does not fit into memory, or
    lie on the CPU in half precision while :obj:`weight` is on a GPU. Under
    autocast the result has its data type, as the one of
    :func:`torch.nn.functional.linear` has.

    There is no gradient of :obj:`x` and no second derivative; if :obj:`x`
    requires a gradient, this is :func:`torch.nn.functional.linear`.

    Args:
        x (torch.Tensor): Rows of floats of any precision, on any device.
        weight (torch.Tensor): The weights :math:`\mathbf{W}`.
        bias (torch.Tensor, optional): The bias :math:`\mathbf{b}`.
            (default: :obj:`None`)
        chunk_size (int, optional): The number of rows per chunk. If set to
            :obj:`None`, as many as make 8 MiB of single precision.
            (default: :obj:`None`)

    Shapes:
        - **input:** rows :math:`(N, F)`, weights :math:`(D, F)`,
          bias :math:`(D)` *(optional)*
        - **output:** rows :math:`(N, D)`

    Raises:
        ValueError: If :obj:`x` is no matrix of :math:`F` columns of floats,
            or :obj:`chunk_size` is not positive.

    Example:
        >>> import torch
        >>> from pyg_sea.nn.chunked_linear import chunked_linear
        >>> x = torch.randn(1000, 16).half()
        >>> weight = torch.randn(8, 16, requires_grad=True)
        >>> out = chunked_linear(x, weight, chunk_size=100)
        >>> out.shape, out.dtype
        (torch.Size([1000, 8]), torch.float32)
        >>> out.sum().backward()
        >>> torch.allclose(weight.grad[0], x.float().sum(dim=0), atol=1e-3)
        True
    """
    if (
        x.dim() != 2
        or x.size(1) != weight.size(1)
        or not x.is_floating_point()
    ):
        raise ValueError(
            f"'x' needs to hold rows of {weight.size(1)} floats (got "
            f'{x.dtype} of shape {list(x.shape)})'
        )
    if chunk_size is not None and chunk_size < 1:
        raise ValueError(
            f"'chunk_size' needs to be a positive integer (got {chunk_size})"
        )
    if x.requires_grad:
        return F.linear(x, weight, bias)
    chunk_size = chunk_size or max(1, _CHUNK_NUMEL // x.size(1))
    return _ChunkedLinear.apply(
        x, weight, bias, _result_dtype(weight), chunk_size
    )


def needs_chunks(x: Tensor, weight: Tensor) -> bool:
    r"""Returns whether :func:`torch.nn.functional.linear` cannot take
    :obj:`x` as it is, or :obj:`x` is so large that it had better not.

    Whether memory is mapped cannot be asked of a tensor. A mapped matrix
    that is smaller than the bound costs a plain product nothing but the
    pages that the system keeps of the file.
    """
    if x.requires_grad:
        return False
    if x.device != weight.device:
        return True
    autocast = _result_dtype(weight) != weight.dtype
    # Autocast leaves double precision alone.
    if x.dtype != weight.dtype and (not autocast or x.dtype == torch.double):
        return True
    return x.device.type == 'cpu' and x.numel() >= _LARGE_NUMEL


def _result_dtype(weight: Tensor) -> torch.dtype:
    kind = weight.device.type
    autocast = (
        torch.amp.is_autocast_available(kind)
        and torch.is_autocast_enabled(kind)
        and weight.dtype != torch.double
    )
    return torch.get_autocast_dtype(kind) if autocast else weight.dtype


class FeatureLinear(torch.nn.Linear):
    r"""A linear layer over raw features, which may be of any precision, on
    any device or mapped: see :func:`chunked_linear`.

    Shapes:
        - **input:** rows :math:`(N, F)`
        - **output:** rows :math:`(N, D)`

    Example:
        >>> import torch
        >>> from pyg_sea.nn.chunked_linear import FeatureLinear
        >>> FeatureLinear(16, 8)(torch.randn(100, 16).half()).dtype
        torch.float32
    """

    def forward(self, x: Tensor) -> Tensor:
        r"""Applies the layer, in chunks where :obj:`x` needs it.

        Args:
            x (torch.Tensor): Raw features :math:`(N, F)`.
        """
        if needs_chunks(x, self.weight):
            return chunked_linear(x, self.weight, self.bias)
        return F.linear(x, self.weight, self.bias)


class _ChunkedLinear(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: OptTensor,
        dtype: torch.dtype,
        chunk_size: int,
    ) -> Tensor:
        ctx.save_for_backward(x)
        ctx.chunk_size, ctx.dtype = chunk_size, weight.dtype
        weight = weight.to(dtype)
        bias = None if bias is None else bias.to(dtype)
        out = weight.new_empty(x.size(0), weight.size(0))
        for start in range(0, x.size(0), chunk_size):
            rows = slice(start, start + chunk_size)
            out[rows] = F.linear(_fetch(x[rows], weight), weight, bias)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[OptTensor, ...]:
        (x,) = ctx.saved_tensors
        grad_weight = grad_bias = None
        if ctx.needs_input_grad[1]:
            # Half precision would lose what late chunks add.
            grad_weight = grad.new_zeros(
                grad.size(1),
                x.size(1),
                dtype=torch.promote_types(ctx.dtype, torch.float),
            )
            for start in range(0, x.size(0), ctx.chunk_size):
                rows = slice(start, start + ctx.chunk_size)
                grad_weight += grad[rows].t() @ _fetch(x[rows], grad)
            grad_weight = grad_weight.to(ctx.dtype)
        if ctx.needs_input_grad[2]:
            grad_bias = grad.sum(dim=0)
        return None, grad_weight, grad_bias, None, None


def _fetch(x: Tensor, like: Tensor) -> Tensor:
    # Cast there, not here: half precision travels at half the cost.
    return x.to(like.device, non_blocking=True).to(like.dtype)
