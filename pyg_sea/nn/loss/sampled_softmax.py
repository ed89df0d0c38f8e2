import torch
from torch import Tensor
from torch.nn import Module
from torch_geometric.typing import OptTensor

from ..distributed import (
    broadcast,
    gather_rows,
    own_rows,
    row_sizes,
    share_of_mean,
    world_size,
)
from ..item_bias import with_bias
from ..unit_rows import unit_rows
from .rival_cross_entropy import rival_cross_entropy
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

    With :obj:`reverse` the users of the batch compete for the chosen item
    too, as in contrastive learning of pairs, with
    :math:`\mathbf{y}_{t_b}` and the :math:`\mathbf{x}_c` of other users in
    place of :math:`\mathbf{x}_b` and :math:`\mathbf{y}_j`, and at most
    :math:`K` of them drawn: an item that all users like is not what tells
    them apart.

    With :obj:`bias`, an item has :math:`\cos(\mathbf{x}_b, \mathbf{y}_j) +
    b_j` in place of its cosine where items compete; where users compete for
    it, they all have it.

    Args:
        temperature (float, optional): The temperature :math:`\tau`.
            (default: :obj:`0.2`)
        num_negatives (int, optional): The number :math:`K` of rows to draw;
            :obj:`None` takes all. (default: :obj:`1024`)
        reverse (float, optional): The weight of users that compete for
            items, beside items that compete for users.
            (default: :obj:`0.5`)
        sync (bool, optional): If set to :obj:`True`, the pairs are this
            process's share of a batch: in training mode the mean of the loss
            over the processes of :mod:`torch.distributed` is that of one
            process on all pairs, with the rows that the first of them has
            drawn. (default: :obj:`False`)

    Shapes:
        - **input:** rows of users :math:`(B, D)`, rows of all items
          :math:`(I, D)`, the chosen items :math:`(B)`, the users
          :math:`(B)` *(optional)*, biases :math:`(I)` *(optional)*
        - **output:** a scalar, in nats

    Raises:
        ValueError: If an option is out of range.

    Example:
        >>> import torch
        >>> from pyg_sea.nn import SampledSoftmaxLoss
        >>> x, y = torch.tensor([[1.0, 0.0]]), torch.eye(2)
        >>> loss = SampledSoftmaxLoss(reverse=0.0)
        >>> loss(x, y, torch.tensor([0]))  # ln(1 + exp(-5))
        tensor(0.0067)
    """

    def __init__(
        self,
        temperature: float = 0.2,
        num_negatives: int | None = 1024,
        reverse: float = 0.5,
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
        if reverse < 0:
            raise ValueError(
                f"'reverse' needs to be at least 0 (got {reverse})"
            )
        self.temperature = temperature
        self.num_negatives = num_negatives
        self.reverse = reverse
        self.sync = sync

    def forward(
        self,
        x: Tensor,
        y: Tensor,
        target: Tensor,
        users: OptTensor = None,
        bias: OptTensor = None,
    ) -> Tensor:
        r"""Returns the loss.

        Args:
            x (torch.Tensor): Rows of users :math:`(B, D)`.
            y (torch.Tensor): Rows of all items :math:`(I, D)`.
            target (torch.Tensor): The item that each user has chosen, its
                row in :obj:`y`, :math:`(B)`.
            users (torch.Tensor, optional): The ids of the users :math:`(B)`:
                with :obj:`reverse`, nobody competes with himself. If set to
                :obj:`None`, all are different. (default: :obj:`None`)
            bias (torch.Tensor, optional): What every item has beside its
                cosines, :math:`(I)`. (default: :obj:`None`)
        """
        synced = self.sync and self.training and world_size() > 1
        x = unit_rows(x)
        drawn = self._draw(y.size(0), y.device, synced)
        rows = target if drawn is None else torch.cat([target, drawn])
        biases = None
        if bias is not None:
            bias = bias / self.temperature
            biases = bias.index_select(0, rows)
        rows = unit_rows(y.index_select(0, rows)) / self.temperature
        chosen, others = rows.split([x.size(0), rows.size(0) - x.size(0)])
        positive = (x * chosen).sum(dim=-1)
        if drawn is None:
            scaled = x / self.temperature
            pair = with_bias(scaled, unit_rows(y), bias)
            loss = info_nce(*pair, target, rows_per_chunk(y))
        else:
            logit, rivals = positive, biases
            if biases is not None:
                own, rivals = biases.split([x.size(0), others.size(0)])
                logit = positive + own
            loss = rival_cross_entropy(
                logit,
                x,
                others,
                target,
                drawn,
                y.size(0) / others.size(0),
                rows_per_chunk(others),
                rivals,
            )
        if self.reverse > 0:
            reverse = self._of_users(positive, x, chosen, users, synced)
            loss = loss + self.reverse * reverse
        return share_of_mean(loss.expand(x.size(0))) if synced else loss

    def _draw(
        self, num_rows: int, device: torch.device, synced: bool
    ) -> OptTensor:
        # `None`: all rows.
        K = self.num_negatives
        if not self.training or K is None or num_rows <= K:
            return None
        index = torch.randint(num_rows, (K,), device=device)
        return broadcast(index) if synced else index

    def _of_users(
        self,
        positive: Tensor,
        x: Tensor,
        chosen: Tensor,
        users: OptTensor,
        synced: bool,
    ) -> Tensor:
        num_rows = x.size(0)
        ids = torch.arange(num_rows, device=x.device)
        if synced:
            sizes = row_sizes(x)
            assert sizes is not None
            num_rows = sum(sizes)
            ids = ids + own_rows(sizes).start
            x = gather_rows(x, sizes)
        ids = ids if users is None else users
        # Not `ids` itself: `torch.compile` wants different tensors.
        all_ids = gather_rows(ids, sizes) if synced else ids[:]
        drawn = self._draw(num_rows, x.device, synced)
        if drawn is not None:
            x = x.index_select(0, drawn)
            all_ids = all_ids.index_select(0, drawn)
        return rival_cross_entropy(
            positive,
            chosen,
            x,
            ids,
            all_ids,
            num_rows / x.size(0) if num_rows > 0 else 1.0,
            rows_per_chunk(x),
        )

    def __repr__(self) -> str:
        return (
            f'{self.__class__.__name__}(temperature={self.temperature}, '
            f'num_negatives={self.num_negatives}, reverse={self.reverse})'
        )
