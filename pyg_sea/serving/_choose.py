"""Which search serves a request."""

from copy import copy
from importlib.util import find_spec

import torch

from pyg_sea.serving._index import FaissSearch
from pyg_sea.serving._rank import ExactSearch, Local, Search
from pyg_sea.serving._state import State

# How much longer a row in a cell takes than one in a matrix product, measured.
_SLOWER = 8


class Searches:
    """Makes an index when it is first needed, and again when another recall
    is asked for.

    Args:
        state: The recommender.
    """

    def __init__(self, state: State) -> None:
        self.state = state
        self.exact_below = 200_000
        self.recall = 0.95
        self._index: tuple[float, FaissSearch] | None = None

    def of(self, state: State) -> 'Searches':
        """The same for another state, with the index if items are the same."""
        out = copy(self)
        out.state = state
        if state.item is not self.state.item:
            out._index = None
        return out

    @property
    def recall_(self) -> float | None:
        """What the index was measured to find."""
        return None if self._index is None else self._index[1].recall

    def choose(self, method: str, candidates: Local | None) -> Search:
        """The search for a method.

        Raises a `ValueError` for an unknown one, an `ImportError` without
        faiss.
        """
        if method not in ('auto', 'exact', 'faiss'):
            raise ValueError(
                "'method' needs to be 'auto', 'exact' or 'faiss' (got "
                f'{method!r})'
            )
        item = self.state.item
        if candidates is not None:
            return ExactSearch(item[torch.from_numpy(candidates)])
        small = item.size(0) <= self.exact_below
        if method == 'exact' or (
            method == 'auto' and (small or find_spec('faiss') is None)
        ):
            return ExactSearch(item)
        if not 0 < self.recall <= 1:
            raise ValueError(
                "'recall' needs to be above 0 and at most 1 (got "
                f'{self.recall})'
            )
        if self._index is None or self._index[0] != self.recall:
            index = FaissSearch(item, self.state.user, self.recall)
            self._index = self.recall, index
        index = self._index[1]
        slow = index.num_probes * _SLOWER > index.num_cells
        return ExactSearch(item) if method == 'auto' and slow else index
