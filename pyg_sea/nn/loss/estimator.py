r"""The variational families :math:`q(\mathbf{y} \mid \mathbf{x})` of
:class:`~pyg_sea.nn.CLUBLoss`: Gaussians with diagonal covariance.

All their tensors are buffers. ``fit`` is given detached matrices and updates
the buffers in place; calling an estimator returns the mean and the log
variance of every row.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn import Linear, Module
from torch.optim.adam import adam

from ..distributed import gather_rows, mean_rows, sum_over_ranks

# Columns that a fit works on at a time on CPU.
_MAX_COLUMNS = 2**12


class LinearGaussian(Module):
    r"""The least-squares fit :math:`q(\mathbf{y} \mid \mathbf{x}) =
    \mathcal{N}(\mathbf{W} \mathbf{x} + \mathbf{b}, \mathrm{diag}\,
    \boldsymbol{\sigma}^2)` with :math:`\boldsymbol{\sigma}^2` the residual
    variance: the maximum-likelihood estimate in closed form.
    """

    weight: Tensor
    bias: Tensor
    log_var: Tensor

    def __init__(
        self, in_channels: int, out_channels: int, ridge: float
    ) -> None:
        super().__init__()
        self.ridge = ridge
        self.register_buffer('weight', torch.zeros(out_channels, in_channels))
        self.register_buffer('bias', torch.zeros(out_channels))
        self.register_buffer('log_var', torch.zeros(out_channels))

    @torch.no_grad()
    def reset_parameters(self) -> None:
        r"""Forgets every fit."""
        for tensor in (self.weight, self.bias, self.log_var):
            tensor.zero_()

    def tensors(self) -> list[Tensor]:
        r"""Returns the tensors that a fit determines."""
        return [self.weight, self.bias, self.log_var]

    def forward(self, x: Tensor, tensors: list[Tensor]) -> list[Tensor]:
        r"""Returns mean and log variance of every row under these tensors."""
        weight, bias, log_var = tensors
        return [F.linear(x, weight, bias), log_var]

    def solve(
        self, x: Tensor, y: Tensor, sizes: Sequence[int] | None = None
    ) -> list[Tensor]:
        r"""Returns the fitted tensors, differentiable in both inputs. Given
        the sizes of all shares, the rows are one of them, and the fit, the
        same in all processes, is that to all rows.
        """
        dtype = x.dtype
        eps, tiny = torch.finfo(dtype).eps, torch.finfo(dtype).tiny
        # Redundant columns leave no digits of their covariance in float32.
        x, y = x.double(), y.double()
        x_mean, y_mean = mean_rows(sizes, x, y)
        x_centered, y_centered = x - x_mean, y - y_mean
        num_rows = x.size(0) if sizes is None else sum(sizes)
        cov = x_centered.t() @ x_centered / num_rows
        cross = x_centered.t() @ y_centered / num_rows
        if sizes is not None:
            cov, cross = sum_over_ranks(cov, cross)

        # What rounding leaves of constant columns must not look like signal.
        noise = (eps * x_mean).square().mean() + tiny
        rounding = cov.size(0) * torch.finfo(x.dtype).eps
        ridge = max(self.ridge, rounding) * cov.diagonal().mean() + noise
        cov = cov + ridge.detach() * torch.eye(
            cov.size(0), dtype=x.dtype, device=x.device
        )
        # `cholesky_ex` does not wait for the device, `solve` does.
        factor, _ = torch.linalg.cholesky_ex(cov)
        weight = torch.cholesky_solve(cross, factor).t()

        residual = y_centered - x_centered @ weight.t()
        var, y_var = mean_rows(sizes, residual.square(), y_centered.square())
        floor = eps * y_var
        floor = floor + (eps * y_mean).square() + tiny
        log_var = torch.maximum(var, floor).log()
        bias = y_mean - weight @ x_mean
        return [t.to(dtype) for t in (weight, bias, log_var)]

    @torch.no_grad()
    def fit(
        self, x: Tensor, y: Tensor, sizes: Sequence[int] | None = None
    ) -> None:
        r"""Updates the tensors to the least-squares fit, see :meth:`solve`."""
        for tensor, value in zip(self.tensors(), self.solve(x, y, sizes)):
            tensor.copy_(value)


class MLPGaussian(Module):
    r"""Two perceptrons with one hidden layer, one for the mean and one for
    the log variance (ending in a tanh), fitted by a few steps of Adam that
    go on from where the last fit stopped.
    """

    step: Tensor

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        hidden_channels: int,
        num_steps: int,
        lr: float,
    ) -> None:
        super().__init__()
        self.sizes = [
            (in_channels, hidden_channels),
            (hidden_channels, out_channels),
        ] * 2
        self.num_steps = num_steps
        self.lr = lr
        for i, (size_in, size_out) in enumerate(self.sizes):
            for name, shape in [
                (f'weight_{i}', (size_out, size_in)),
                (f'bias_{i}', (size_out,)),
            ]:
                self.register_buffer(name, torch.empty(shape))
                self.register_buffer(f'exp_avg_{name}', torch.zeros(shape))
                self.register_buffer(f'exp_avg_sq_{name}', torch.zeros(shape))
        # Of integers, as half precision stops counting at 256.
        self.register_buffer('step', torch.zeros((), dtype=torch.long))
        self.reset_parameters()

    def _stack(self, prefix: str = '') -> list[Tensor]:
        return [
            self.get_buffer(f'{prefix}{kind}_{i}')
            for i in range(len(self.sizes))
            for kind in ('weight', 'bias')
        ]

    @torch.no_grad()
    def reset_parameters(self) -> None:
        r"""Forgets every fit."""
        for i, size in enumerate(self.sizes):
            layer = Linear(*size)
            self.get_buffer(f'weight_{i}').copy_(layer.weight)
            self.get_buffer(f'bias_{i}').copy_(layer.bias)
        for tensor in [*self._stack('exp_avg_'), *self._stack('exp_avg_sq_')]:
            tensor.zero_()
        self.step.zero_()

    def tensors(self) -> list[Tensor]:
        r"""Returns the tensors that a fit determines."""
        return self._stack()

    def forward(self, x: Tensor, tensors: list[Tensor]) -> list[Tensor]:
        r"""Returns mean and log variance of every row under these tensors."""
        w0, b0, w1, b1, v0, c0, v1, c1 = tensors
        mean = F.linear(F.linear(x, w0, b0).relu(), w1, b1)
        log_var = F.linear(F.linear(x, v0, c0).relu(), v1, c1).tanh()
        return [mean, log_var]

    @torch.no_grad()
    def fit(
        self,
        x: Tensor,
        y: Tensor,
        sizes: Sequence[int] | None = None,
        weight: float = 1.0,
    ) -> None:
        r"""Takes :obj:`num_steps` steps of Adam on the negative
        log-likelihood times :obj:`weight`. Given the sizes of all shares,
        every process takes those of all rows.
        """
        if sizes is not None:
            x, y = gather_rows(x, sizes), gather_rows(y, sizes)
        # Half precision would not hold the sums.
        dtype = self.get_buffer('weight_0').dtype
        dtype = torch.promote_types(dtype, torch.float)
        x, y = x.to(dtype), y.to(dtype)
        # Fused, Adam writes without telling autograd: only to copies.
        values, exp_avgs, exp_avg_sqs = (
            [t.to(dtype, copy=True) for t in self._stack(prefix)]
            for prefix in ('', 'exp_avg_', 'exp_avg_sq_')
        )
        steps = [self.step.float() for _ in values]
        pairs = _transposed_chunks(x, y)
        scale = weight / max(x.size(0), 1)
        with torch.autocast(x.device.type, enabled=False):
            for _ in range(self.num_steps):
                adam(
                    values,
                    [scale * grad for grad in _gradients(values, pairs)],
                    exp_avgs,
                    exp_avg_sqs,
                    [],
                    steps,
                    amsgrad=False,
                    beta1=0.9,
                    beta2=0.999,
                    lr=self.lr,
                    weight_decay=0.0,
                    eps=1e-8,
                    maximize=False,
                    fused=True,
                )
        own = [
            *self.tensors(),
            *self._stack('exp_avg_'),
            *self._stack('exp_avg_sq_'),
        ]
        for tensor, value in zip(own, values + exp_avgs + exp_avg_sqs):
            tensor.copy_(value)
        self.step.add_(self.num_steps)


def _transposed_chunks(x: Tensor, y: Tensor) -> list[tuple[Tensor, Tensor]]:
    # A fit passes over its rows dozens of times, and they are narrow: as
    # columns they keep long loops, in chunks they stay in a cache. A row of
    # ones below `x` stands for the biases.
    x = torch.cat([x.t(), x.new_ones(1, x.size(0))])
    size = _MAX_COLUMNS if x.device.type == 'cpu' else max(x.size(1), 1)
    return [
        (a.contiguous(), b.contiguous())
        for a, b in zip(x.split(size, dim=1), y.t().split(size, dim=1))
    ]


def _gradients(
    values: list[Tensor], pairs: list[tuple[Tensor, Tensor]]
) -> list[Tensor]:
    # Those of the negative log-likelihood, summed over the columns, by the
    # tensors of an `MLPGaussian`. Autograd would pass over all columns more
    # often, and keep what it passes over.
    w0, b0, w1, b1, v0, c0, v1, c1 = values
    hidden = w0.size(0)
    first = torch.cat([torch.cat([w0, v0]), torch.cat([b0, c0])[:, None]], 1)
    grad_first = torch.zeros_like(first)
    grads = [torch.zeros_like(t) for t in (w1, b1, v1, c1)]
    for x, y in pairs:
        h = (first @ x).relu_()
        h_mean, h_log_var = h.split(hidden)
        error = torch.addmm(b1[:, None], w1, h_mean).sub_(y)
        log_var = torch.addmm(c1[:, None], v1, h_log_var).tanh_()
        # e / s^2, and (1 - e^2 / s^2) / 2 times the derivative of tanh.
        by_mean = (-log_var).exp_().mul_(error)
        by_log_var = error.mul_(by_mean).sub_(1).mul_(-0.5)
        by_log_var.addcmul_(by_log_var, log_var.square_(), value=-1)
        by_h = torch.empty_like(h)
        torch.mm(w1.t(), by_mean, out=by_h[:hidden])
        torch.mm(v1.t(), by_log_var, out=by_h[hidden:])
        grad_first.addmm_(by_h.mul_(h > 0), x.t())
        for grad, by, inner in (
            (grads[:2], by_mean, h_mean),
            (grads[2:], by_log_var, h_log_var),
        ):
            grad[0].addmm_(by, inner.t())
            grad[1].add_(by.sum(dim=1))
    w0, v0 = grad_first[:, :-1].split(hidden)
    b0, c0 = grad_first[:, -1].split(hidden)
    w1, b1, v1, c1 = grads
    return [w0, b0, w1, b1, v0, c0, v1, c1]


def negative_log_likelihood(
    y: Tensor, mean: Tensor, log_var: Tensor
) -> Tensor:
    r"""Returns the mean over rows of :math:`-\log q(\mathbf{y} \mid
    \mathbf{x})`, less its constant :math:`\tfrac{D}{2} \log 2 \pi`.
    """
    scaled = (mean - y).square() * (-log_var).exp()
    return 0.5 * (scaled + log_var).sum(dim=-1).mean()
