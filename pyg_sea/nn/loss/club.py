import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module

from ..distributed import row_sizes
from .bound import contrastive_bound, matched_rows, unbiased
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
        sync (bool, optional): If set to :obj:`True`, the rows of a process
            of :mod:`torch.distributed` are its share of all rows: in
            training mode all processes fit the same :math:`q`, to all rows,
            and the mean of the losses over processes is the loss of one
            process on all of them. Shares may differ in size, and be empty.
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
        sync: bool = False,
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
        self.sync = sync
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

    def forward(
        self, x: Tensor, y: Tensor, sizes: Sequence[int] | None = None
    ) -> Tensor:
        r"""Fits :math:`q` (in training mode) and returns the bound.

        Args:
            x (torch.Tensor): The rows that predict, :math:`(N, C)`.
            y (torch.Tensor): The rows that are predicted, :math:`(N, D)`.
            sizes (list[int], optional): With :obj:`sync`, the number of rows
                in every process, if known: to ask for it takes a wait for
                the device. (default: :obj:`None`)
        """
        if not self.training:
            return self.bound(x, y)
        x, y, shares = self._rows(x, y, sizes)
        self.fit(x, y, shares)
        if self.frozen:
            out = self.bound(x, y, shares)
        else:
            assert isinstance(self.estimator, LinearGaussian)
            with torch.autocast(x.device.type, enabled=False):
                tensors = self.estimator.solve(x, y, shares)
                out = self._bound(x, y, tensors, shares)
        if not self.unbiased:
            return out
        num_rows = x.size(0) if shares is None else sum(shares)
        return unbiased(out, num_rows, self.in_channels, self.out_channels)

    def fit(
        self, x: Tensor, y: Tensor, sizes: Sequence[int] | None = None
    ) -> None:
        r"""Fits :math:`q(\mathbf{y} \mid \mathbf{x})` to matched rows: in
        closed form, or by :obj:`num_steps` steps of Adam.

        Args:
            x (torch.Tensor): The rows that predict, :math:`(N, C)`.
            y (torch.Tensor): The rows that are predicted, :math:`(N, D)`.
            sizes (list[int], optional): As above. (default: :obj:`None`)
        """
        x, y, shares = self._rows(x.detach(), y.detach(), sizes)
        num_rows = x.size(0) if shares is None else sum(shares)
        if num_rows < 4 * self.in_channels:
            warnings.warn(
                f"'{self.__class__.__name__}' was fitted on {num_rows} rows "
                f'of {self.in_channels} channels: the bound is far too high. '
                f'Pass at least {4 * self.in_channels} rows, e.g., all items',
                stacklevel=2,
            )
        with torch.autocast(x.device.type, enabled=False):
            self.estimator.fit(x, y, shares)
        self._mark_fitted()

    def bound(
        self, x: Tensor, y: Tensor, sizes: Sequence[int] | None = None
    ) -> Tensor:
        r"""Returns the bound under the current :math:`q`, held constant and
        never corrected.

        Args:
            x (torch.Tensor): The rows that predict, :math:`(N, C)`.
            y (torch.Tensor): The rows that are predicted, :math:`(N, D)`.
            sizes (list[int], optional): As above. (default: :obj:`None`)
        """
        if not self._is_fitted:
            raise RuntimeError(
                f"'{self.__class__.__name__}' was evaluated before its first "
                f"fit: call it in training mode, or call 'fit(x, y)', or load "
                f'a state dict'
            )
        x, y, shares = self._rows(x, y, sizes)
        with torch.autocast(x.device.type, enabled=False):
            tensors = [
                t.detach().to(x.dtype, copy=True)  # A later fit writes them.
                for t in self.estimator.tensors()
            ]
            return self._bound(x, y, tensors, shares)

    def learning_loss(self, x: Tensor, y: Tensor) -> Tensor:
        r"""Returns the negative log-likelihood :math:`-\tfrac{1}{N} \sum_i
        \log q(\mathbf{y}_i \mid \mathbf{x}_i)` of the detached rows, less
        the constant :math:`\tfrac{D}{2} \log 2 \pi`, with gradients for
        :meth:`estimator_parameters`.

        Args:
            x (torch.Tensor): The rows that predict, :math:`(N, C)`.
            y (torch.Tensor): The rows that are predicted, :math:`(N, D)`.
        """
        widths = [self.in_channels, self.out_channels]
        x, y = matched_rows(x.detach(), y.detach(), widths)
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

    def _rows(
        self, x: Tensor, y: Tensor, sizes: Sequence[int] | None
    ) -> tuple[Tensor, Tensor, list[int] | None]:
        synced = self.sync and self.training
        shares = row_sizes(x, sizes) if synced else None
        widths = [self.in_channels, self.out_channels]
        return *matched_rows(x, y, widths, shares), shares

    def _bound(
        self,
        x: Tensor,
        y: Tensor,
        tensors: list[Tensor],
        shares: list[int] | None,
    ) -> Tensor:
        mean, log_var = self.estimator(x, tensors)
        return contrastive_bound(y, mean, log_var, self.negatives, shares)

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
