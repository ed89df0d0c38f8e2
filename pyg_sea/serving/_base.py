from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pandas as pd

from pyg_sea.serving._choose import Searches
from pyg_sea.serving._state import Block, State

if TYPE_CHECKING:
    from typing_extensions import Self


class Base:
    """What a recommender is without its methods.

    Args:
        state: What it holds.

    Raises a `TypeError` for anything else, such as a model.
    """

    def __init__(self, state: State) -> None:
        if not isinstance(state, State):
            raise TypeError(
                f"'{type(self).__name__}' needs to be made by 'from_model', "
                f"'load' or 'from_pretrained' (got {type(state).__name__})"
            )
        self.state = state
        self._searches = Searches(state)

    @property
    def user_ids(self) -> 'pd.Index[Any]':
        """The ids of users."""
        return self.state.users.index

    @property
    def item_ids(self) -> 'pd.Index[Any]':
        """The ids of items."""
        return self.state.items.index

    @property
    def blocks(self) -> Mapping[Block, slice]:
        """The columns of each (modality, part)."""
        return self.state.blocks

    @property
    def exact_below(self) -> int:
        """Up to how many items all are compared."""
        return self._searches.exact_below

    @exact_below.setter
    def exact_below(self, value: int) -> None:
        self._searches.exact_below = value

    @property
    def recall(self) -> float:
        """The share of the best items that faiss has to find."""
        return self._searches.recall

    @recall.setter
    def recall(self, value: float) -> None:
        self._searches.recall = value

    @property
    def recall_(self) -> float | None:
        """The share that it finds; `None` as long as it was not asked."""
        return self._searches.recall_

    def _with(self, state: State) -> 'Self':
        out = type(self)(state)
        out._searches = self._searches.of(state)
        return out

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}(users={len(self.state.users)}, '
            f'items={len(self.state.items)}, dim={self.state.item.size(1)})'
        )
