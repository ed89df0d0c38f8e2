import warnings
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module

from .estimator import LinearGaussian, MLPGaussian, negative_log_likelihood


class CLUBLoss(Module):
    r"""The contrastive log-ratio upper bound of the mutual information
    :math:`I(\mathbf{x}; \mathbf{y})` from the `"CLUB: A Contrastive
    Log-ratio Upper Bound of Mutual Information"
    <https://arxiv.org/abs/2006.12013>`_ paper, the distancing term (eq. 15)
    of the `SEA paper <https://arxiv.org/abs/2406.08270>`_.

    .. math::
        \mathcal{L} = \frac{1}{N} \sum_{i=1}^N \Big[ \log q(\mathbf{y}_i
        \mid \mathbf{x}_i) - \frac{1}{N} \sum_{j=1}^N \log q(\mathbf{y}_j
        \mid \mathbf{x}_i) \Big]

    In training mode a call first fits :math:`q` to the detached pairs and
    then returns the bound with :math:`q` frozen: gradients reach
    :math:`\mathbf{x}` and :math:`\mathbf{y}`, never the estimator. In
    evaluation mode the last fit is used. The estimator and its optimizer
    state are buffers: **no optimizer needs to know them**, and the state
    dict holds them.

    With :obj:`estimator="linear"`, :math:`q(\mathbf{y} \mid \mathbf{x}) =
    \mathcal{N}(\mathbf{W} \mathbf{x} + \mathbf{b}, \mathrm{diag}\,
    \boldsymbol{\sigma}^2)` is fitted in closed form, and at
    :obj:`ridge=0` the bound over all pairs equals :math:`\sum_d R_d^2 /
    (1 - R_d^2)`, where :math:`R_d^2` says how well :math:`\mathbf{x}`
    predicts dimension :math:`d` of :math:`\mathbf{y}`. In sample it is biased
    upwards by about :obj:`out_channels * in_channels / N`; see
    :obj:`unbiased`.

    A Gaussian needs no :math:`N \times N` table: all negatives cost
    :math:`\mathcal{O}(N D)`, as :math:`\tfrac{1}{N} \sum_j (\mu - y_j)^2 =
    (\mu - \bar{y})^2 + \mathrm{var}(y)`.

    Args:
        in_channels (int): Size :math:`C` of :math:`\mathbf{x}`.
        out_channels (int): Size :math:`D` of :math:`\mathbf{y}`.
        estimator (str, optional): :obj:`"linear"` (closed form) or
            :obj:`"mlp"` (the paper's: one hidden layer for the mean, one for
            the log variance, fitted by Adam). (default: :obj:`"linear"`)
        hidden_channels (int, optional): Hidden size of :obj:`"mlp"`.
            (default: :obj:`8`)
        num_steps (int, optional): Steps of Adam per call of :obj:`"mlp"`.
            (default: :obj:`20`)
        lr (float, optional): Learning rate of :obj:`"mlp"`.
            (default: :obj:`5e-3`)
        negatives (str, optional): :obj:`"all"` averages over all pairs,
            exactly; :obj:`"permute"` takes one random partner per row.
            (default: :obj:`"all"`)
        ridge (float, optional): Ridge of :obj:`"linear"`, relative to the
            mean variance of :math:`\mathbf{x}`. (default: :obj:`1e-6`)
        frozen (bool, optional): If set to :obj:`False`, gradients of
            :obj:`"linear"` flow through the fit as well, which makes them
            blind to the scale of :math:`\mathbf{x}`; with a frozen
            :math:`q` shrinking :math:`\mathbf{x}` lowers the bound too.
            (default: :obj:`True`)
        unbiased (bool, optional): If set to :obj:`True`, corrects the
            in-sample bias of :obj:`"linear"` with all negatives: the
            expected loss is the bound of the population for jointly Gaussian
            rows, and 0 for independent ones. Such a loss can be negative.
            Only values on the rows of the fit are biased, so only training
            mode corrects.
            (default: :obj:`False`)

    Shapes:
        - **input:** matched rows :math:`(N, C)` and :math:`(N, D)`
        - **output:** a scalar, in nats

    Raises:
        ValueError: If an option is unknown or does not fit the others, or
            the inputs are no matched rows of the stated widths.
        RuntimeError: If evaluated before the first fit.

    Example:
        >>> import torch
        >>> from pyg_sea.nn import CLUBLoss
        >>> _ = torch.manual_seed(0)
        >>> x = torch.randn(4096, 8)
        >>> club = CLUBLoss(in_channels=8, out_channels=8)
        >>> bool(club(x, x + 0.5 * torch.randn_like(x)) > 8.0)  # dependent
        True
        >>> bool(club(x, torch.randn_like(x)) < 0.1)  # independent
        True
    """

    fitted: Tensor

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        estimator: str = 'linear',
        hidden_channels: int = 8,
        num_steps: int = 20,
        lr: float = 5e-3,
        negatives: str = 'all',
        ridge: float = 1e-6,
        frozen: bool = True,
        unbiased: bool = False,
    ) -> None:
        super().__init__()

        for name, value, options in [
            ('estimator', estimator, ('linear', 'mlp')),
            ('negatives', negatives, ('all', 'permute')),
        ]:
            if value not in options:
                raise ValueError(
                    f"'{name}' needs to be one of {options} (got {value!r})"
                )
        if estimator != 'linear' and not frozen:
            raise ValueError("'frozen=False' needs estimator='linear'")
        if unbiased and (estimator != 'linear' or negatives != 'all'):
            raise ValueError(
                "'unbiased' needs estimator='linear' and negatives='all' "
                f'(got {estimator!r} and {negatives!r})'
            )
        if ridge < 0:
            raise ValueError(f"'ridge' needs to be at least 0 (got {ridge})")

        self.in_channels = in_channels
        self.out_channels = out_channels
        self.negatives = negatives
        self.frozen = frozen
        self.unbiased = unbiased
        self.estimator: LinearGaussian | MLPGaussian
        if estimator == 'linear':
            self.estimator = LinearGaussian(in_channels, out_channels, ridge)
        else:
            self.estimator = MLPGaussian(
                in_channels, out_channels, hidden_channels, num_steps, lr
            )

        self.register_buffer('fitted', torch.tensor(False))
        self._is_fitted = False  # Mirrors `fitted`, readable without a sync.

    def reset_parameters(self) -> None:
        r"""Forgets every fit."""
        self.estimator.reset_parameters()
        self.fitted.fill_(False)
        self._is_fitted = False

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        r"""Fits :math:`q` (in training mode) and returns the bound.

        Args:
            x (torch.Tensor): The rows that predict, :math:`(N, C)`.
            y (torch.Tensor): The rows that are predicted, :math:`(N, D)`.
        """
        if not self.training:
            return self.bound(x, y)
        self.fit(x, y)
        if self.frozen:
            out = self.bound(x, y)
        else:
            assert isinstance(self.estimator, LinearGaussian)
            x, y = self._check(x, y)
            with torch.autocast(x.device.type, enabled=False):
                out = self._bound(x, y, self.estimator.solve(x, y))
        return self._correct(out, x.size(0)) if self.unbiased else out

    def fit(self, x: Tensor, y: Tensor) -> None:
        r"""Fits :math:`q(\mathbf{y} \mid \mathbf{x})` to matched rows: in
        closed form, or by :obj:`num_steps` steps of Adam.

        Args:
            x (torch.Tensor): The rows that predict, :math:`(N, C)`.
            y (torch.Tensor): The rows that are predicted, :math:`(N, D)`.
        """
        x, y = self._check(x.detach(), y.detach())
        if x.size(0) < 4 * self.in_channels:
            warnings.warn(
                f"'{self.__class__.__name__}' was fitted on {x.size(0)} rows "
                f'of {self.in_channels} channels: the bound is far too high. '
                f'Pass at least {4 * self.in_channels} rows, e.g., all items',
                stacklevel=2,
            )
        with torch.autocast(x.device.type, enabled=False):
            self.estimator.fit(x, y)
        self._mark_fitted()

    def bound(self, x: Tensor, y: Tensor) -> Tensor:
        r"""Returns the bound under the current :math:`q`, held constant and
        never corrected.

        Args:
            x (torch.Tensor): The rows that predict, :math:`(N, C)`.
            y (torch.Tensor): The rows that are predicted, :math:`(N, D)`.
        """
        if not self._is_fitted:
            raise RuntimeError(
                f"'{self.__class__.__name__}' was evaluated before its first "
                f"fit: call it in training mode, or call 'fit(x, y)', or load "
                f'a state dict'
            )
        x, y = self._check(x, y)
        with torch.autocast(x.device.type, enabled=False):
            tensors = [
                t.detach().to(x.dtype) for t in self.estimator.tensors()
            ]
            return self._bound(x, y, tensors)

    def learning_loss(self, x: Tensor, y: Tensor) -> Tensor:
        r"""Returns the negative log-likelihood :math:`-\tfrac{1}{N} \sum_i
        \log q(\mathbf{y}_i \mid \mathbf{x}_i)` of the detached rows, less
        the constant :math:`\tfrac{D}{2} \log 2 \pi`, with gradients for
        :meth:`estimator_parameters`.

        Args:
            x (torch.Tensor): The rows that predict, :math:`(N, C)`.
            y (torch.Tensor): The rows that are predicted, :math:`(N, D)`.
        """
        x, y = self._check(x.detach(), y.detach())
        with torch.autocast(x.device.type, enabled=False):
            tensors = [t.to(x.dtype) for t in self.estimator.tensors()]
            q = self.estimator(x, tensors)
            return negative_log_likelihood(y, *q)

    def estimator_parameters(self) -> list[Tensor]:
        r"""Hands out the tensors of :math:`q` as leaves that require
        gradients, for an optimizer of your own: step on
        :meth:`learning_loss`, then take :meth:`bound`. Move the module to
        its device and type first.
        """
        self._mark_fitted()
        return [t.requires_grad_() for t in self.estimator.tensors()]

    def _bound(self, x: Tensor, y: Tensor, tensors: list[Tensor]) -> Tensor:
        mean, log_var = self.estimator(x, tensors)
        # log q(y_i | x_i) - log q(y_j | x_i): only the squares differ.
        positive = (mean - y).square()
        if self.negatives == 'all':
            y_mean = y.mean(dim=0)
            y_var = (y - y_mean).square().mean(dim=0)
            negative = (mean - y_mean).square() + y_var
        else:
            perm = torch.randperm(y.size(0), device=y.device)
            negative = (mean - y[perm]).square()
        gap = (negative - positive) * (-log_var).exp()
        return 0.5 * gap.sum(dim=-1).mean()

    def _correct(self, bound: Tensor, num_rows: int) -> Tensor:
        # (N - C - 1) / C * R^2 / (1 - R^2) follows a noncentral F
        # distribution whose mean is known.
        C, D = self.in_channels, self.out_channels
        if num_rows <= C + 3:
            raise ValueError(
                f"'unbiased' needs more than {C + 3} rows (got {num_rows})"
            )
        return ((num_rows - C - 3) * bound - D * C) / (num_rows - 1)

    def _check(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        expected = [self.in_channels, self.out_channels]
        if (
            x.dim() != 2
            or y.dim() != 2
            or x.size(0) != y.size(0)
            or x.size(0) < 2
            or [x.size(1), y.size(1)] != expected
        ):
            raise ValueError(
                f"'x' and 'y' need to be matched rows of shapes "
                f'[N, {expected[0]}] and [N, {expected[1]}], N > 1 (got '
                f'{list(x.shape)} and {list(y.shape)})'
            )
        dtype = torch.promote_types(x.dtype, y.dtype)
        if dtype in (torch.float16, torch.bfloat16):
            dtype = torch.float32
        return x.to(dtype), y.to(dtype)

    def _mark_fitted(self) -> None:
        self.fitted.fill_(True)
        self._is_fitted = True

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self._is_fitted = bool(self.fitted)

    def __repr__(self) -> str:
        return (
            f'{self.__class__.__name__}({self.in_channels}, '
            f'{self.out_channels}, '
            f'estimator={self.estimator.__class__.__name__}, '
            f'negatives={self.negatives!r})'
        )
