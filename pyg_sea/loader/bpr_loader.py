import warnings
from collections.abc import Iterator, Mapping

import numpy as np
import torch
from torch import Tensor
from torch_geometric.utils import cumsum

from pyg_sea._rows import check_pairs
from pyg_sea.nn import distributed

# Triplets drawn at a time, so that 30 M edges need no 30 M negatives at once.
_BLOCK_SIZE = 2**20


class BPRLoader:
    r"""Yields the train edges once per epoch, each with one negative item,
    for the loss of the `"BPR: Bayesian Personalized Ranking from Implicit
    Feedback" <https://arxiv.org/abs/1205.2618>`_ paper.

    The negative is uniform over the items that appear in a train edge and are
    none of the user's own. It is drawn exactly and without rejection: the
    r-th of the items that a user has *not* chosen is found by one binary
    search over the items that the user has chosen.

    An epoch depends on `seed` and its number only, never on what else has
    drawn random numbers, so that a run can resume anywhere.

    The processes of :mod:`torch.distributed` share every batch: all of them
    make the same epoch, and each yields its own part of every batch. The
    parts differ by one triplet at most; they are empty in some processes if
    the last batch holds fewer triplets than there are processes.

    Args:
        edge_index: Train (user, item) pairs, local ids. Batches are drawn on
            its device, without synchronisation.
        num_users: The number of users.
        num_items: The number of items.
        batch_size: Triplets per batch (default: 2048).
        shuffle: Whether to shuffle the edges in every epoch (default:
            `True`).
        drop_last: Whether to drop a last, smaller batch (default: `False`).
        seed: A non-negative integer (default: `None`, drawn from torch's
            global generator, which `torch_geometric.seed_everything` seeds;
            with several processes by the first of them).
        num_replicas: The number of processes that share a batch (default:
            `None`, those of :mod:`torch.distributed`, or 1).
        rank: Which of them this is, from 0 (default: `None`, its rank in
            :mod:`torch.distributed`, or 0).

    Shapes:
        - `edge_index`: `[2, E]`
        - a batch: int64 `[3, B]`: user, positive item, negative item; with
          several processes a share of these columns

    Warns and leaves out users who have chosen every item: no negative exists
    for them. Raises a `ValueError` if an argument is malformed or no edge
    remains.

    Example:
        >>> import torch
        >>> from pyg_sea.loader import BPRLoader
        >>> edge_index = torch.tensor([[0, 0, 1, 2], [0, 1, 1, 2]])
        >>> loader = BPRLoader(edge_index, 3, 3, batch_size=2)
        >>> len(loader)
        2
        >>> for user, positive, negative in loader:
        ...     assert (positive != negative).all()
    """

    def __init__(
        self,
        edge_index: Tensor,
        num_users: int,
        num_items: int,
        batch_size: int = 2048,
        shuffle: bool = True,
        drop_last: bool = False,
        seed: int | None = None,
        num_replicas: int | None = None,
        rank: int | None = None,
    ) -> None:
        check_pairs('edge_index', edge_index, num_users, num_items)
        if batch_size < 1:
            raise ValueError(
                f"'batch_size' needs to be positive (got {batch_size})"
            )
        running = distributed.world_size()
        self.num_replicas = running if num_replicas is None else num_replicas
        self.rank = distributed.rank() if rank is None else rank
        if not 0 <= self.rank < self.num_replicas:
            raise ValueError(
                f"'rank' needs to be from 0 to below 'num_replicas' "
                f'(got {self.rank} of {self.num_replicas})'
            )
        if seed is None and self.num_replicas not in (1, running):
            raise ValueError(
                f"'seed' needs to be given, the same in all processes, where "
                f"'num_replicas' are not those of 'torch.distributed' "
                f'(got {num_replicas} and {running})'
            )
        if seed is None:
            seed = int(torch.randint(2**31, (1,)))
            if self.num_replicas > 1:
                seed = distributed.broadcast_int(seed)
        if seed < 0:
            raise ValueError(f"'seed' needs to be non-negative (got {seed})")

        self.batch_size = batch_size
        self.shuffle = shuffle
        self.drop_last = drop_last
        self.seed = seed
        self.edge_index = self._index(edge_index, num_users)
        self._epoch = 0
        self._position = (0, 0)
        self._resume: tuple[int, int] | None = None
        if len(self) == 0:
            raise ValueError(
                f"'edge_index' needs at least one batch of edges with a "
                f'negative item (got {self.edge_index.size(1)} of '
                f'{edge_index.size(1)} edges, {batch_size} per batch)'
            )

    def _index(self, edge_index: Tensor, num_users: int) -> Tensor:
        user = edge_index[0]
        self._seen, rank = edge_index[1].unique(return_inverse=True)
        num_seen = self._seen.numel()
        self._stride = num_seen + 1

        key = (user * num_seen + rank).unique()
        row, rank = key // max(1, num_seen), key % max(1, num_seen)
        degree = torch.bincount(row, minlength=num_users)
        self._ptr = cumsum(degree)
        self._num_free = num_seen - degree
        # The number of free items before each of a user's own never falls, so
        # that one sorted vector serves all users.
        nth = torch.arange(row.numel(), device=row.device) - self._ptr[row]
        self._free_before = row * self._stride + rank - nth

        mask = self._num_free[user] > 0
        if bool(mask.all()):
            return edge_index
        warnings.warn(
            f'{user[~mask].unique().numel()} users have chosen every item '
            f'and were left out: there is no negative item for them',
            stacklevel=3,
        )
        return edge_index[:, mask]

    def __len__(self) -> int:
        full, rest = divmod(self.edge_index.size(1), self.batch_size)
        return full + (rest > 0 and not self.drop_last)

    def __iter__(self) -> Iterator[Tensor]:
        epoch, first = self._resume or (self._epoch, 0)
        self._resume = None
        # An epoch that is broken off is followed by the next one.
        self._epoch = epoch + 1

        num_edges = self.edge_index.size(1)
        order: Tensor | None = None
        if self.shuffle:
            order = torch.randperm(
                num_edges,
                generator=self._generator(epoch, 0),
                device=self.edge_index.device,
            )
        per_block = max(1, _BLOCK_SIZE // self.batch_size)
        for block in range(first // per_block, -(-len(self) // per_block)):
            start = block * per_block * self.batch_size
            stop = start + per_block * self.batch_size
            edges = (
                self.edge_index[:, start:stop]
                if order is None
                else self.edge_index[:, order[start:stop]]
            )
            negative = self.sample(edges[0], self._generator(epoch, 1 + block))
            triplets = torch.cat([edges, negative.unsqueeze(0)])
            batches = triplets.split(self.batch_size, dim=1)
            begin = block * per_block
            for i in range(
                max(first, begin), min(len(self), begin + len(batches))
            ):
                last = i + 1 == len(self)
                self._position = (epoch + 1, 0) if last else (epoch, i + 1)
                batch = batches[i - begin]
                own = distributed.share(
                    batch.size(1), self.num_replicas, self.rank
                )
                yield batch[:, own]

    def sample(
        self, users: Tensor, generator: torch.Generator | None = None
    ) -> Tensor:
        """Draws one negative item for each of some users.

        Args:
            users: Local ids of users who have not chosen every item.
            generator: The source of random numbers, on the same device
                (default: `None`, torch's global one).
        """
        # 62 random bits make the bias of the modulus smaller than 1e-9.
        nth = torch.randint(
            2**62, users.shape, generator=generator, device=users.device
        )
        nth %= self._num_free[users]
        before = torch.searchsorted(
            self._free_before, users * self._stride + nth, right=True
        )
        return self._seen[nth + before - self._ptr[users]]

    def state_dict(self) -> dict[str, int]:
        """Where the loader stands: seed, epoch, and next batch."""
        epoch, batch = self._resume or self._position
        return {'seed': self.seed, 'epoch': epoch, 'batch': batch}

    def load_state_dict(self, state_dict: Mapping[str, int]) -> None:
        """Goes on where :meth:`state_dict` was taken: the next iteration
        yields the batches that were still to come.

        Args:
            state_dict: The dictionary to restore.
        """
        self.seed = state_dict['seed']
        self._resume = (state_dict['epoch'], state_dict['batch'])

    def _generator(self, epoch: int, stream: int) -> torch.Generator:
        sequence = np.random.SeedSequence([self.seed, epoch, stream])
        seed = int(sequence.generate_state(1, np.uint64)[0])
        generator = torch.Generator(self.edge_index.device)
        return generator.manual_seed(seed >> 1)

    def __repr__(self) -> str:
        return (
            f'{self.__class__.__name__}({self.edge_index.size(1)}, '
            f'batch_size={self.batch_size})'
        )
