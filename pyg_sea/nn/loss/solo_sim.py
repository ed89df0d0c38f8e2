from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn import Module
from torch.utils.checkpoint import checkpoint

from ..distributed import gather_rows, own_rows, row_sizes, world_size

# Similarities kept at a time by `chunk_size='auto'`: what stays in the caches
# of a CPU, and more elsewhere.
MAX_SIMILARITIES = {'cpu': 2**21, 'cuda': 2**26}


class SoloSimLoss(Module):
    r"""The alignment term (eq. 16) of the `"It is Never Too Late to Mend:
    Separate Learning for Multimedia Recommendation"
    <https://arxiv.org/abs/2406.08270>`_ paper: one-directional InfoNCE
    between matched rows, without within-modality negatives.

    .. math::
        \mathcal{L} = - \frac{1}{N} \sum_{i=1}^N \log
        \frac{\exp(\cos(\mathbf{x}_i, \mathbf{y}_i) / \tau)}
        {\sum_{j=1}^N \exp(\cos(\mathbf{x}_i, \mathbf{y}_j) / \tau)}

    The :math:`N \times N` similarities are worked off in chunks of rows.

    Args:
        temperature (float, optional): The temperature :math:`\tau`.
            (default: :obj:`0.2`)
        symmetric (bool, optional): If set to :obj:`True`, adds the reverse
            term, from :math:`\mathbf{y}` to :math:`\mathbf{x}`.
            (default: :obj:`False`)
        negatives (str, optional): :obj:`"all"` takes all rows of
            :math:`\mathbf{y}` as candidates; :obj:`"none"` returns
            :math:`-\tfrac{1}{N} \sum_i \cos(\mathbf{x}_i, \mathbf{y}_i) /
            \tau`. (default: :obj:`"all"`)
        num_anchors (int, optional): If set, draws that many rows of
            :math:`\mathbf{x}` in training mode and ranks them against all
            rows of :math:`\mathbf{y}`: an unbiased estimate of the loss.
            (default: :obj:`None`)
        chunk_size (int or str, optional): Rows per chunk. :obj:`"auto"` keeps
            a chunk below :math:`2^{21}` similarities on CPU and
            :math:`2^{26}` on GPU; :obj:`None` computes
            all at once, which :meth:`torch.compile` needs to fuse the loss
            and which alone has higher-order gradients.
            (default: :obj:`"auto"`)
        sync (bool, optional): If set to :obj:`True`, the rows of a process
            of :mod:`torch.distributed` are its share of all rows: in
            training mode the mean of the losses over processes is the loss
            of one process on all of them. Candidates are gathered, and
            :obj:`num_anchors` counts those of all processes. Shares may
            differ in size, and be empty. (default: :obj:`False`)

    Shapes:
        - **input:** matched rows :math:`(N, D)` and :math:`(N, D)`
        - **output:** a scalar, in nats

    Raises:
        ValueError: If an option is out of range or the shapes differ.

    Example:
        >>> import torch
        >>> from pyg_sea.nn import SoloSimLoss
        >>> loss = SoloSimLoss(temperature=0.2)
        >>> loss(torch.eye(3), torch.eye(3))  # -log(e^5 / (e^5 + 2))
        tensor(0.0134)
    """

    def __init__(
        self,
        temperature: float = 0.2,
        symmetric: bool = False,
        negatives: str = 'all',
        num_anchors: int | None = None,
        chunk_size: int | str | None = 'auto',
        sync: bool = False,
    ) -> None:
        super().__init__()

        if temperature <= 0:
            raise ValueError(
                f"'temperature' needs to be positive (got {temperature})"
            )
        if negatives not in ('all', 'none'):
            raise ValueError(
                f"'negatives' needs to be 'all' or 'none' (got {negatives!r})"
            )
        if num_anchors is not None and num_anchors < 1:
            raise ValueError(
                f"'num_anchors' needs to be positive (got {num_anchors})"
            )
        if chunk_size not in ('auto', None) and (
            not isinstance(chunk_size, int) or chunk_size < 1
        ):
            raise ValueError(
                f"'chunk_size' needs to be positive, 'auto' or None "
                f'(got {chunk_size!r})'
            )

        self.temperature = temperature
        self.symmetric = symmetric
        self.negatives = negatives
        self.num_anchors = num_anchors
        self.chunk_size = chunk_size
        self.sync = sync

    def forward(
        self, x: Tensor, y: Tensor, sizes: Sequence[int] | None = None
    ) -> Tensor:
        r"""Returns the loss.

        Args:
            x (torch.Tensor): Rows that look for their partner, :math:`(N, D)`.
            y (torch.Tensor): Their partners, row by row, :math:`(N, D)`.
            sizes (list[int], optional): With :obj:`sync`, the number of rows
                in every process, if known: to ask for it takes a wait for
                the device. (default: :obj:`None`)
        """
        if x.dim() != 2 or x.shape != y.shape:
            raise ValueError(
                f"'x' and 'y' need to be matched rows of one shape [N, D] "
                f'(got {list(x.shape)} and {list(y.shape)})'
            )
        x = F.normalize(x, dim=-1)
        y = F.normalize(y, dim=-1)

        synced = self.sync and self.training
        shares = row_sizes(x, sizes) if synced else None
        index: Tensor | None = None
        num_rows = x.size(0) if shares is None else sum(shares)
        # All rows need no draw.
        if self.training and (self.num_anchors or num_rows) < num_rows:
            assert self.num_anchors is not None
            index = self._draw(x, self.num_anchors, shares)

        loss = self._one_way(x, y, index, shares)
        if self.symmetric:
            loss = loss + self._one_way(y, x, index, shares)
        return loss

    @staticmethod
    def _draw(x: Tensor, num_anchors: int, shares: list[int] | None) -> Tensor:
        if shares is None:
            return torch.randperm(x.size(0), device=x.device)[:num_anchors]
        # An order of all rows, of which each process reads its own stretch:
        # equal seeds draw different anchors, and stay equal.
        num_rows, own = sum(shares), own_rows(shares)
        order = torch.randperm(num_rows, device=x.device)[own].argsort()
        start, stop = (
            min(num_anchors, num_rows) * end // num_rows
            for end in (own.start, own.stop)
        )
        # Without an anchor, the rows of a process would never count.
        return order[: max(stop - start, 1)]

    def _one_way(
        self,
        x: Tensor,
        y: Tensor,
        index: Tensor | None,
        shares: list[int] | None,
    ) -> Tensor:
        if shares is None:
            return self._mean(x, y, index, 0)
        weight = world_size() * x.size(0) / sum(shares)
        offset = own_rows(shares).start
        if self.negatives == 'all':
            y = gather_rows(y, shares)
        if x.size(0) == 0:  # Others wait for these gradients.
            return x.sum() + 0.0 * y.sum()
        return weight * self._mean(x, y, index, offset)

    def _mean(
        self, x: Tensor, y: Tensor, index: Tensor | None, offset: int
    ) -> Tensor:
        if self.negatives == 'none':
            cos = (x * y).sum(dim=-1)
            cos = cos if index is None else cos.index_select(0, index)
            return -cos.mean() / self.temperature

        if index is None:
            index = torch.arange(x.size(0), device=x.device)
        else:
            x = x.index_select(0, index)
        return info_nce(
            x / self.temperature,
            y,
            index + offset,
            self._chunk_size(x, y),
        )

    def _chunk_size(self, x: Tensor, y: Tensor) -> int:
        if self.chunk_size is None:
            return x.size(0)
        if isinstance(self.chunk_size, int):
            return self.chunk_size
        return rows_per_chunk(y)

    def __repr__(self) -> str:
        return (
            f'{self.__class__.__name__}(temperature={self.temperature}, '
            f'symmetric={self.symmetric}, negatives={self.negatives!r})'
        )


def rows_per_chunk(y: Tensor) -> int:
    r"""Returns how many rows are ranked against the candidates :obj:`y` at a
    time.
    """
    limit = MAX_SIMILARITIES.get(y.device.type, MAX_SIMILARITIES['cuda'])
    return max(limit // max(y.size(0), 1), 1)


def info_nce(x: Tensor, y: Tensor, index: Tensor, chunk_size: int) -> Tensor:
    r"""Returns the mean cross entropy of :obj:`x @ y.T` against the column
    :obj:`index`, with at most :obj:`chunk_size` rows of it in memory.
    """
    if x.size(0) <= chunk_size:
        return F.cross_entropy(x @ y.t(), index)

    if hasattr(F, 'linear_cross_entropy') and x.dtype == y.dtype:
        return _fused(x, y, index, chunk_size)
    return _checkpointed(x, y, index, chunk_size)


def _fused(x: Tensor, y: Tensor, index: Tensor, chunk_size: int) -> Tensor:
    options = torch.nn.LinearCrossEntropyOptions(
        batch_chunk_size=chunk_size, chunking_method=None
    )
    return F.linear_cross_entropy(x, y, index, options=options)


def _checkpointed(
    x: Tensor, y: Tensor, index: Tensor, chunk_size: int
) -> Tensor:
    def chunk_loss(x: Tensor, index: Tensor) -> Tensor:
        return F.cross_entropy(x @ y.t(), index, reduction='sum')

    losses = [
        checkpoint(chunk_loss, *chunk, use_reentrant=False)
        for chunk in zip(x.split(chunk_size), index.split(chunk_size))
    ]
    return torch.stack(losses).sum() / x.size(0)
