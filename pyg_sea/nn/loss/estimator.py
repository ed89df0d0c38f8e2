r"""The variational families :math:`q(\mathbf{y} \mid \mathbf{x})` of
:class:`~pyg_sea.nn.CLUBLoss`: Gaussians with diagonal covariance.

All their tensors are buffers. ``fit`` is given detached matrices and updates
the buffers in place; calling an estimator returns the mean and the log
variance of every row.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import Linear, Module
from torch.optim.adam import adam

from ..distributed import gather_rows, mean_rows, sum_over_ranks


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

    @torch.enable_grad()
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
        dtype = self.get_buffer('weight_0').dtype
        x, y = x.to(dtype), y.to(dtype)
        # Fused, Adam writes without telling autograd: only to copies.
        values = [t.detach().clone() for t in self.tensors()]
        exp_avgs = [t.clone() for t in self._stack('exp_avg_')]
        exp_avg_sqs = [t.clone() for t in self._stack('exp_avg_sq_')]
        steps = [self.step.float() for _ in values]
        for _ in range(self.num_steps):
            leaves = [t.detach().requires_grad_() for t in values]
            loss = weight * negative_log_likelihood(y, *self(x, leaves))
            grads = torch.autograd.grad(loss, leaves)
            with torch.no_grad():
                adam(
                    values,
                    list(grads),
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
        with torch.no_grad():
            own = [
                *self.tensors(),
                *self._stack('exp_avg_'),
                *self._stack('exp_avg_sq_'),
            ]
            for tensor, value in zip(own, values + exp_avgs + exp_avg_sqs):
                tensor.copy_(value)
            self.step.add_(self.num_steps)


def negative_log_likelihood(
    y: Tensor, mean: Tensor, log_var: Tensor
) -> Tensor:
    r"""Returns the mean over rows of :math:`-\log q(\mathbf{y} \mid
    \mathbf{x})`, less its constant :math:`\tfrac{D}{2} \log 2 \pi`.
    """
    return _NegativeLogLikelihood.apply(y, mean, log_var.expand_as(mean))


class _NegativeLogLikelihood(Function):
    # A fit takes this dozens of times: written out, it passes over its rows
    # half as often.
    @staticmethod
    def forward(ctx: Any, y: Tensor, mean: Tensor, log_var: Tensor) -> Tensor:
        error = mean - y
        scaled = error * (-log_var).exp_()
        ctx.save_for_backward(error, scaled)
        return 0.5 * ((error * scaled).sum() + log_var.sum()) / y.size(0)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        error, scaled = ctx.saved_tensors
        grad = grad / error.size(0)
        grad_log_var = torch.addcmul(
            error.new_ones(()), error, scaled, value=-1
        )
        grad_mean = scaled * grad
        grad_y = -grad_mean if ctx.needs_input_grad[0] else None
        return grad_y, grad_mean, grad_log_var.mul_(0.5 * grad)
