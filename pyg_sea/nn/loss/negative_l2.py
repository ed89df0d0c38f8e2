from collections.abc import Sequence

from torch import Tensor
from torch.nn import Module

from ..distributed import share_of_mean


class NegativeL2Loss(Module):
    r"""The negative squared distance, a cheap distancing term (eq. 30 of the
    `SEA paper <https://arxiv.org/abs/2406.08270>`_).

    .. math::
        \mathcal{L} = - \frac{1}{N D} \sum_{i=1}^N
        \| \mathbf{x}_i - \mathbf{y}_i \|^2

    It has no lower bound: keep the rows at a bounded scale, or its weight
    small.

    Args:
        sync (bool, optional): If set to :obj:`True`, the rows of a process
            of :mod:`torch.distributed` are its share of all rows: in
            training mode the mean of the losses over processes is the loss
            of one process on all of them. Shares may differ in size, and be
            empty. (default: :obj:`False`)

    Shapes:
        - **input:** matched rows :math:`(N, D)` and :math:`(N, D)`
        - **output:** a scalar

    Raises:
        ValueError: If the shapes differ.

    Example:
        >>> import torch
        >>> from pyg_sea.nn import NegativeL2Loss
        >>> NegativeL2Loss()(torch.zeros(4, 2), torch.full((4, 2), 3.0))
        tensor(-9.)
    """

    def __init__(self, sync: bool = False) -> None:
        super().__init__()
        self.sync = sync

    def forward(
        self, x: Tensor, y: Tensor, sizes: Sequence[int] | None = None
    ) -> Tensor:
        r"""Returns the loss.

        Args:
            x (torch.Tensor): Rows :math:`(N, D)`.
            y (torch.Tensor): Rows :math:`(N, D)`.
            sizes (list[int], optional): With :obj:`sync`, the number of rows
                in every process, if known. (default: :obj:`None`)
        """
        if x.shape != y.shape:
            raise ValueError(
                f"'x' and 'y' need to have equal shapes "
                f'(got {list(x.shape)} and {list(y.shape)})'
            )
        square = (x - y).square()
        if not (self.sync and self.training):
            return -square.mean()
        count = None if sizes is None else sum(sizes) * x.shape[1:].numel()
        return -share_of_mean(square, count)

    def __repr__(self) -> str:
        return f'{self.__class__.__name__}()'
