import math

import torch
from torch import Tensor
from torch.nn import Module

from ..distributed import broadcast, share_of_mean, world_size
from ..unit_rows import unit_rows
from .solo_sim import info_nce, rows_per_chunk


class SampledSoftmaxLoss(Module):
    r"""The ranking loss from the `"On the Effectiveness of Sampled Softmax
    Loss for Item Recommendation" <https://arxiv.org/abs/2201.02327>`_ paper:
    the chosen item competes with many others at once, in cosines, where
    :class:`BPRLoss` takes one other.

    .. math::
        \mathcal{L} = - \frac{1}{B} \sum_{b=1}^B \ln \frac{\exp(\cos(
        \mathbf{x}_b, \mathbf{y}_{t_b}) / \tau)}{\exp(\cos(\mathbf{x}_b,
        \mathbf{y}_{t_b}) / \tau) + \frac{I}{K} \sum_{j \in \mathcal{N}
        \setminus \{t_b\}} \exp(\cos(\mathbf{x}_b, \mathbf{y}_j) / \tau)}

    In training mode :math:`\mathcal{N}` are :math:`K` rows drawn uniformly,
    the same for the whole batch, so that a step costs :math:`\mathcal{O}(B K
    D)` for any number of items; :math:`\frac{I}{K}` brings their sum to the
    scale of all items. In evaluation mode, and where there are no more than
    :math:`K` items, all items compete, and the :math:`B \times I`
    similarities are worked off in chunks of rows, as those of
    :class:`SoloSimLoss`.

    Args:
        temperature (float, optional): The temperature :math:`\tau`.
            (default: :obj:`0.2`)
        num_negatives (int, optional): The number :math:`K` of rows to draw;
            :obj:`None` takes all. (default: :obj:`1024`)
        sync (bool, optional): If set to :obj:`True`, the pairs are this
            process's share of a batch: in training mode the mean of the loss
            over the processes of :mod:`torch.distributed` is that of one
            process on all pairs, with the rows that the first of them has
            drawn. (default: :obj:`False`)

    Shapes:
        - **input:** rows of users :math:`(B, D)`, rows of all items
          :math:`(I, D)`, the chosen items :math:`(B)`
        - **output:** a scalar, in nats

    Raises:
        ValueError: If an option is not positive.

    Example:
        >>> import torch
        >>> from pyg_sea.nn import SampledSoftmaxLoss
        >>> x, y = torch.tensor([[1.0, 0.0]]), torch.eye(2)
        >>> SampledSoftmaxLoss()(x, y, torch.tensor([0]))  # ln(1 + exp(-5))
        tensor(0.0067)
    """

    def __init__(
        self,
        temperature: float = 0.2,
        num_negatives: int | None = 1024,
        sync: bool = False,
    ) -> None:
        super().__init__()

        if temperature <= 0:
            raise ValueError(
                f"'temperature' needs to be positive (got {temperature})"
            )
        if num_negatives is not None and num_negatives < 1:
            raise ValueError(
                f"'num_negatives' needs to be positive (got {num_negatives})"
            )
        self.temperature = temperature
        self.num_negatives = num_negatives
        self.sync = sync

    def forward(self, x: Tensor, y: Tensor, target: Tensor) -> Tensor:
        r"""Returns the loss.

        Args:
            x (torch.Tensor): Rows of users :math:`(B, D)`.
            y (torch.Tensor): Rows of all items :math:`(I, D)`.
            target (torch.Tensor): The item that each user has chosen, its
                row in :obj:`y`, :math:`(B)`.
        """
        K = self.num_negatives
        synced = self.sync and self.training and world_size() > 1
        x = unit_rows(x) / self.temperature
        if self.training and K is not None and y.size(0) > K:
            index = torch.randint(y.size(0), (K,), device=y.device)
            index = broadcast(index) if synced else index
            loss = self._against(x, y, target, index)
            return share_of_mean(loss) if synced else loss.mean()

        mean = info_nce(x, unit_rows(y), target, rows_per_chunk(y))
        return share_of_mean(mean.expand(x.size(0))) if synced else mean

    @staticmethod
    def _against(
        x: Tensor, y: Tensor, target: Tensor, index: Tensor
    ) -> Tensor:
        positive = (x * unit_rows(y.index_select(0, target))).sum(dim=-1)
        negative = x @ unit_rows(y.index_select(0, index)).t()
        negative.masked_fill_(
            index == target.unsqueeze(-1), torch.finfo(negative.dtype).min
        )
        # What all others would add up to.
        scale = math.log(y.size(0) / index.size(0))
        negative = negative.logsumexp(dim=-1) + scale
        return torch.logaddexp(positive, negative) - positive

    def __repr__(self) -> str:
        return (
            f'{self.__class__.__name__}(temperature={self.temperature}, '
            f'num_negatives={self.num_negatives})'
        )
