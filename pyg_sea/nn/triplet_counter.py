import torch
from torch import Tensor

from .distributed import sum_over_ranks, world_size


class TripletCounter:
    r"""Counts the triplets of all processes of :mod:`torch.distributed`,
    to tell when an epoch is over.

    Sums over processes stay on the device and are only read, which waits for
    it, when an epoch may be over: until then, what is known is of the same
    epoch. This holds as long as no batch is larger than those before it.

    Args:
        known (int): The number to start from.

    Shapes:
        - **input:** the share of a batch :math:`(3, B)` of this process

    Example:
        >>> import torch
        >>> counter = TripletCounter(7)
        >>> counter.add(torch.zeros(3, 5), num_per_epoch=20)
        >>> counter.known, counter.total()
        (12, 12)
    """

    def __init__(self, known: int) -> None:
        self.known = known
        self._unread = torch.tensor(0)
        self._num_unread = self._num_read = self._largest = 0
        self._patience = 1

    def total(self) -> int:
        r"""Returns the number, after a wait for the device."""
        return self.known + int(self._unread)

    def add(self, triplets: Tensor, num_per_epoch: int) -> None:
        r"""Counts one batch. All processes have to call.

        Args:
            triplets (torch.Tensor): The share of this process.
            num_per_epoch (int): The number of triplets in an epoch.
        """
        if world_size() == 1:
            self.known += triplets.size(1)
            return
        count = torch.full((), triplets.size(1), device=triplets.device)
        [count] = sum_over_ranks(count)
        self._unread = self._unread.to(count.device) + count
        self._num_unread += 1
        if self._num_unread >= self._patience:
            self._read(num_per_epoch)

    def _read(self, num_per_epoch: int) -> None:
        num = int(self._unread)
        self.known += num
        self._largest = max(self._largest, -(-num // self._num_unread))
        self._num_read += self._num_unread
        self._unread, self._num_unread = torch.tensor(0), 0
        # No longer than was looked at: the first batch may be a small one.
        left = num_per_epoch - self.known % num_per_epoch
        steps = min(left // max(1, self._largest), self._num_read)
        self._patience = max(1, steps)
