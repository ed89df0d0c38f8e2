from torch import Tensor
from torch.nn import Module


class NegativeL2Loss(Module):
    r"""The negative squared distance, a cheap distancing term (eq. 30 of the
    `SEA paper <https://arxiv.org/abs/2406.08270>`_).

    .. math::
        \mathcal{L} = - \frac{1}{N D} \sum_{i=1}^N
        \| \mathbf{x}_i - \mathbf{y}_i \|^2

    It has no lower bound: keep the rows at a bounded scale, or its weight
    small.

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

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        r"""Returns the loss.

        Args:
            x (torch.Tensor): Rows :math:`(N, D)`.
            y (torch.Tensor): Rows :math:`(N, D)`.
        """
        if x.shape != y.shape:
            raise ValueError(
                f"'x' and 'y' need to have equal shapes "
                f'(got {list(x.shape)} and {list(y.shape)})'
            )
        return -(x - y).square().mean()

    def __repr__(self) -> str:
        return f'{self.__class__.__name__}()'
