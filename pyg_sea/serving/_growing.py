from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pandas as pd

from pyg_sea.serving import _new_items, _new_users
from pyg_sea.serving._base import Base

if TYPE_CHECKING:
    from typing_extensions import Self


class Growing(Base):
    """Items and users that were not there in training."""

    def add_items(self, features: Mapping[str, Any], ids: Any) -> 'Self':
        """Returns a recommender with further items, without training. Their
        rows are foretold by kernel ridge regression: from rows of trained
        items by how similar their features are, corrected by how much nearest
        neighbours differ from it. Rows of old items stay as they are.

        Args:
            features: One matrix per modality, prepared as those of training
                were. A row of NaN or zeros, or a modality left out, is
                missing: what is foretold hangs on the other ones.
            ids: The ids of the new items.

        Shapes:
            - features: `[N, F_m]` each

        Raises a `ValueError` if the model is not :class:`~pyg_sea.nn.SEA`, if
        an id is there already, or features do not fit.
        """
        return self._with(_new_items.add_items(self.state, features, ids))

    def add_interactions(
        self,
        interactions: pd.DataFrame,
        user: str = 'user',
        item: str = 'item',
        weight: str | None = None,
    ) -> 'Self':
        """Returns a recommender that knows what users did since: their rows
        take it up as the graph would, and it counts as seen. Users who are
        new are added, as in :meth:`recommend_for`. Rows of items, and of all
        other users, stay as they are.

        Args:
            interactions: One row per interaction; pairs that are known add
                nothing, unless there are weights.
            user: The column of user ids (default: `'user'`).
            item: The column of item ids (default: `'item'`).
            weight: The column of positive weights (default: `None`).

        Raises a `KeyError` that names items that are unknown: add them first.
        """
        return self._with(
            _new_users.add_interactions(
                self.state, interactions, user, item, weight
            )
        )
