from collections.abc import Mapping

import torch
from torch import Tensor

from pyg_sea.nn.distributed import sum_over_ranks, world_size


class LossTerms:
    """Collects the named loss terms of an epoch, and refuses NaN and inf.

    Values stay on their device and are looked at together, once in `every`
    steps, so that a GPU is not made to wait in each of them. With several
    processes of :mod:`torch.distributed`, all of which have to look, these
    are means over processes: what one of them refuses, all of them refuse.

    Args:
        every: Steps between two looks.

    Raises a `FloatingPointError` naming epoch, step and term at the first
    look at a value that is not finite.

    Example:
        >>> import torch
        >>> from pyg_sea.training.terms import LossTerms
        >>> terms = LossTerms(every=2)
        >>> for bpr in (0.75, 0.25):
        ...     terms.add({'bpr': torch.tensor(bpr)})
        >>> terms.means()
        {'bpr': 0.5}
    """

    def __init__(self, every: int = 1) -> None:
        self.every = every
        self.start(0)

    def start(self, epoch: int) -> None:
        """Begins an epoch."""
        self.epoch = epoch
        self.step = 0
        self._names: tuple[str, ...] = ()
        self._window: list[Tensor] = []
        self._sums: dict[str, float] = {}
        self._counts: dict[str, int] = {}

    def add(self, terms: Mapping[str, Tensor]) -> None:
        """Adds the terms of one step.

        Args:
            terms: Scalars by name.
        """
        if tuple(terms) != self._names:
            self.flush()
            self._names = tuple(terms)
        values = [term.detach().float() for term in terms.values()]
        self._window.append(torch.stack(values))
        if len(self._window) >= self.every:
            self.flush()

    def flush(self) -> None:
        """Looks at what has been added since the last look."""
        if not self._window:
            return
        [values] = sum_over_ranks(torch.stack(self._window))
        values = values.double().cpu() / world_size()
        self._window = []
        finite = values.isfinite()
        if not bool(finite.all()):
            row = int((~finite).any(dim=1).nonzero()[0])
            bad = [
                f"'{name}' = {float(value)}"
                for name, value in zip(self._names, values[row], strict=True)
                if not bool(value.isfinite())
            ]
            raise FloatingPointError(
                f'the loss is not finite in epoch {self.epoch}, step '
                f'{self.step + row}: {", ".join(bad)}. Lower the learning '
                f'rate or clip gradients, and look for extreme features'
            )
        self.step += values.size(0)
        for name, value in zip(self._names, values.sum(0), strict=True):
            self._sums[name] = self._sums.get(name, 0.0) + float(value)
            self._counts[name] = self._counts.get(name, 0) + values.size(0)

    def means(self) -> dict[str, float]:
        """The mean of each term over the epoch so far."""
        self.flush()
        return self.seen()

    def seen(self) -> dict[str, float]:
        """The same of what has been looked at, without another look."""
        return {
            name: value / self._counts[name]
            for name, value in self._sums.items()
        }
