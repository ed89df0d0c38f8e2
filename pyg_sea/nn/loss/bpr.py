import torch.nn.functional as F
from torch import Tensor
from torch.nn import Module


class BPRLoss(Module):
    r"""The ranking loss from the `"BPR: Bayesian Personalized Ranking from
    Implicit Feedback" <https://arxiv.org/abs/1205.2618>`_ paper (eq. 18 of
    the `SEA paper <https://arxiv.org/abs/2406.08270>`_), with the natural
    logarithm and without a regularizer.

    .. math::
        \mathcal{L} = - \frac{1}{B} \sum_{b=1}^B \ln
        \sigma(\hat{y}^+_b - \hat{y}^-_b)

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

    def forward(self, pos_score: Tensor, neg_score: Tensor) -> Tensor:
        r"""Returns the loss.

        Args:
            pos_score (torch.Tensor): Scores of positive pairs :math:`(B)`.
            neg_score (torch.Tensor): Scores of negative pairs :math:`(B)`.
        """
        return -F.logsigmoid(pos_score - neg_score).mean()

    def __repr__(self) -> str:
        return f'{self.__class__.__name__}()'
