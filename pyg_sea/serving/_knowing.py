from collections.abc import Hashable
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pyg_sea.serving._base import Base
from pyg_sea.serving._similar import similar
from pyg_sea.serving.explanation import Explanation, explain


class Knowing(Base):
    """What is known of users and items."""

    def score(self, users: Any, items: Any) -> NDArray[np.float32]:
        """The scores of pairs.

        Args:
            users: The ids of users.
            items: As many ids of items.

        Shapes:
            - output: `[B]`

        Raises a `KeyError` that names unknown ids, and a `ValueError` if
        there are more of one than of the other.
        """
        user = self.state.users.local(users)
        item = self.state.items.local(items)
        if len(user) != len(item):
            raise ValueError(
                f"'users' and 'items' need to be as many (got {len(user)} "
                f'and {len(item)})'
            )
        out = np.empty(len(user), np.float32)
        for start in range(0, len(user), 2**16):
            part = slice(start, start + 2**16)
            rows = self.state.user[user[part]] * self.state.item[item[part]]
            out[part] = rows.sum(dim=1).numpy()
        return out

    def similar_items(
        self,
        items: Any,
        k: int = 20,
        part: Literal['all', 'generic', 'unique'] = 'all',
        modality: str | None = None,
    ) -> pd.DataFrame:
        """The nearest other items by the cosine of their rows or of a part of
        them: `item`, `similar`, `rank`, `score`.

        `'generic'` asks what all modalities agree on; `'unique'` with
        `modality='image'` asks what only images know.

        Args:
            items: Their ids, one or many.
            k: Neighbours per item (default: 20).
            part: `'all'`, `'generic'` or `'unique'` (default: `'all'`).
            modality: The modality to compare, `'id'` for the items' own
                vectors (default: `None`, all of them).

        Raises a `KeyError` that names unknown ids, and a `ValueError` for a
        part or a modality that there is not, or a `k` that is not positive.
        """
        local = self.state.items.local(items)
        return similar(self.state, local, k, part, modality)

    def explain(self, user: Any, item: Any) -> Explanation:
        """Takes a score apart; see :class:`Explanation`.

        Args:
            user: The id of a user.
            item: The id of an item.

        Raises a `KeyError` that names unknown ids, and a `TypeError` for many
        at once.
        """
        for name, value in (('user', user), ('item', item)):
            if not isinstance(value, Hashable):
                raise TypeError(f"'{name}' needs to be one id (got {value!r})")
        [local_user] = self.state.users.local([user])
        [local_item] = self.state.items.local([item])
        return explain(self.state, int(local_user), int(local_item))
