import torch.nn.functional as F
from torch import Tensor
from torch.nn import Module

from ..distributed import share_of_mean


class BPRLoss(Module):
    r"""The ranking loss from the `"BPR: Bayesian Personalized Ranking from
    Implicit Feedback" <https://arxiv.org/abs/1205.2618>`_ paper (eq. 18 of
    the `SEA paper <https://arxiv.org/abs/2406.08270>`_), with the natural
    logarithm and without a regularizer.

    .. math::
        \mathcal{L} = - \frac{1}{B} \sum_{b=1}^B \ln
        \sigma(\hat{y}^+_b - \hat{y}^-_b)

    Args:
        sync (bool, optional): If set to :obj:`True`, the pairs of a process
            of :mod:`torch.distributed` are its share of all pairs: in
            training mode the mean of the losses over processes is the loss
            of one process on all of them. Shares may differ in size, and be
            empty. (default: :obj:`False`)

    Shapes:
        - **input:** scores of positive pairs :math:`(B)`, scores of negative
          pairs of the same users, any shape that broadcasts
        - **output:** a scalar, in nats

    Example:
        >>> import torch
        >>> from pyg_sea.nn import BPRLoss
        >>> BPRLoss()(torch.tensor([1.0, 1e4]), torch.tensor([1.0, -1e4]))
        tensor(0.3466)
    """

    def __init__(self, sync: bool = False) -> None:
        super().__init__()
        self.sync = sync

    def forward(self, pos_score: Tensor, neg_score: Tensor) -> Tensor:
        r"""Returns the loss.

        Args:
            pos_score (torch.Tensor): Scores of positive pairs :math:`(B)`.
            neg_score (torch.Tensor): Scores of negative pairs :math:`(B)`.
        """
        sync = self.sync and self.training
        mean = share_of_mean if sync else Tensor.mean
        return -mean(F.logsigmoid(pos_score - neg_score))

    def __repr__(self) -> str:
        return f'{self.__class__.__name__}()'
