from typing import NamedTuple

from torch import Tensor
from torch.nn import Identity, Linear, Module


class ModalParts(NamedTuple):
    r"""The two parts of one modality.

    Args:
        generic (torch.Tensor): What the modalities share.
        unique (torch.Tensor): What only this modality knows.

    Shapes:
        - **generic:** :math:`(N, D_g)`
        - **unique:** :math:`(N, D_u)`

    Example:
        >>> import torch
        >>> from pyg_sea.nn import ModalParts
        >>> parts = ModalParts(torch.zeros(3, 4), torch.ones(3, 2))
        >>> parts.unique.shape
        torch.Size([3, 2])
    """

    generic: Tensor
    unique: Tensor


class GenericUniqueSplit(Module):
    r"""Splits the rows of one modality into a generic and a unique part
    (eq. 13-14 of the `SEA paper <https://arxiv.org/abs/2406.08270>`_).

    .. math::
        \mathbf{g} = \mathbf{W}_g \mathbf{x} + \mathbf{b}_g, \qquad
        \mathbf{u} = \mathbf{W}_u \mathbf{x} + \mathbf{b}_u

    Args:
        in_channels (int): Size :math:`C` of the rows.
        generic_channels (int): Size :math:`D_g` of the generic part.
        unique_channels (int, optional): Size :math:`D_u` of the unique part.
            If set to :obj:`None`, is what :obj:`generic_channels` leaves of
            :obj:`in_channels`. (default: :obj:`None`)
        mode (str, optional): :obj:`"linear"` learns one linear map per part;
            :obj:`"slice"` takes the first columns as the generic and the
            last ones as the unique part, without parameters.
            (default: :obj:`"linear"`)

    Shapes:
        - **input:** rows :math:`(N, C)`
        - **output:** :class:`ModalParts` of :math:`(N, D_g)` and
          :math:`(N, D_u)`

    Raises:
        ValueError: If a size is not positive, :obj:`mode` is unknown, or the
            slices do not add up to :obj:`in_channels`.

    Example:
        >>> import torch
        >>> from pyg_sea.nn import GenericUniqueSplit
        >>> split = GenericUniqueSplit(64, generic_channels=24)
        >>> generic, unique = split(torch.randn(10, 64))
        >>> generic.shape, unique.shape
        (torch.Size([10, 24]), torch.Size([10, 40]))
    """

    def __init__(
        self,
        in_channels: int,
        generic_channels: int,
        unique_channels: int | None = None,
        mode: str = 'linear',
    ) -> None:
        super().__init__()

        if unique_channels is None:
            unique_channels = in_channels - generic_channels
        if generic_channels < 1 or unique_channels < 1:
            raise ValueError(
                f"'generic_channels' and 'unique_channels' need to be "
                f'positive (got {generic_channels} and {unique_channels} of '
                f'{in_channels} channels)'
            )
        if mode not in ('linear', 'slice'):
            raise ValueError(
                f"'mode' needs to be 'linear' or 'slice' (got {mode!r})"
            )
        if mode == 'slice' and (
            generic_channels + unique_channels != in_channels
        ):
            raise ValueError(
                f"'generic_channels' and 'unique_channels' need to add up to "
                f"'in_channels' in mode 'slice' (got {generic_channels} + "
                f'{unique_channels} != {in_channels})'
            )

        self.in_channels = in_channels
        self.generic_channels = generic_channels
        self.unique_channels = unique_channels
        self.mode = mode

        self.generic: Module = Identity()
        self.unique: Module = Identity()
        if mode == 'linear':
            self.generic = Linear(in_channels, generic_channels)
            self.unique = Linear(in_channels, unique_channels)

    def reset_parameters(self) -> None:
        r"""Resets all learnable parameters of the module."""
        for module in (self.generic, self.unique):
            if isinstance(module, Linear):
                module.reset_parameters()

    def forward(self, x: Tensor) -> ModalParts:
        r"""Splits the rows.

        Args:
            x (torch.Tensor): Rows :math:`(N, C)`.
        """
        if x.size(-1) != self.in_channels:
            raise ValueError(
                f"'x' needs to have {self.in_channels} columns "
                f'(got shape {list(x.shape)})'
            )
        if self.mode == 'slice':
            generic, unique = x.split(
                [self.generic_channels, self.unique_channels], dim=-1
            )
            return ModalParts(generic, unique)
        return ModalParts(self.generic(x), self.unique(x))

    def __repr__(self) -> str:
        return (
            f'{self.__class__.__name__}({self.in_channels}, '
            f'generic={self.generic_channels}, '
            f'unique={self.unique_channels}, mode={self.mode!r})'
        )
