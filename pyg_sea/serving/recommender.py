from collections.abc import Iterator, Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from torch_geometric.data import HeteroData
from torch_geometric.typing import EdgeType

from pyg_sea.recommend import TopK
from pyg_sea.serving import _new_users
from pyg_sea.serving import _rank as ranking
from pyg_sea.serving._build import build
from pyg_sea.serving._growing import Growing
from pyg_sea.serving._knowing import Knowing
from pyg_sea.serving._stored import Stored
from pyg_sea.transforms.modal_knn_graph import ModalKNNGraph

Method = Literal['auto', 'exact', 'faiss']


class Recommender(Knowing, Growing, Stored):
    """A trained model at work, with your own ids; `pyg_sea.Recommender`.

    It holds the rows of users and items, not the model, on the CPU, and is
    made by :meth:`from_model`, :meth:`load` or :meth:`from_pretrained`. It
    never changes: :meth:`add_items` and :meth:`add_interactions` return
    another one. (:class:`pyg_sea.nn.Recommender` is something else, the base
    class of models.)

    In memory and on disk it takes `4 D (U + 3 I)` bytes, with D the columns of
    an embedding (256 for two modalities; that of biases comes once, `4 (U +
    I)`), and `2 I F` for features in half precision, with F their widths,
    added up. Models other than :class:`~pyg_sea.nn.SEA` take `4 D (U + I)`.

    Up to `exact_below` items (200,000), all are compared. Beyond, if faiss is
    installed, the first request sorts them into cells and searches as many as
    find `recall` (0.95) of the best items of a sample of users; what they do
    find is in `recall_`. An index that would be slower than to compare all is
    not used. `exact_below` and `recall` are attributes to be set before.

    Args:
        state: What it holds.

    Raises a `TypeError` for anything else, such as a model.

    Example:
        >>> from pyg_sea import Recommender
        >>> from pyg_sea.datasets import FakeMultimodal
        >>> from pyg_sea.nn import SEA
        >>> from pyg_sea.transforms import ModalKNNGraph
        >>> graph = ModalKNNGraph(k=5)
        >>> data = FakeMultimodal(50, 40, transform=graph)[0]
        >>> model = SEA(50, 40, {'image': 64, 'text': 64})
        >>> item_ids = [f'sku-{i}' for i in range(40)]
        >>> recommender = Recommender.from_model(
        ...     model, data, item_ids=item_ids, graph=graph)
        >>> recommender
        Recommender(users=50, items=40, dim=257)
        >>> list(recommender.recommend([7, 3], k=2))
        ['user', 'item', 'rank', 'score']
        >>> recommender.similar_items('sku-7', 3, 'unique', 'image').shape
        (3, 4)
        >>> why = recommender.explain(7, 'sku-7')
        >>> total = why.contributions['contribution'].sum()
        >>> abs(float(total - why.score)) < 1e-5
        True
    """

    @classmethod
    def from_model(
        cls,
        model: Any,
        data: HeteroData,
        user_ids: Any = None,
        item_ids: Any = None,
        *,
        graph: ModalKNNGraph | None = None,
        features: bool | None = None,
        edge_type: EdgeType | None = None,
    ) -> 'Recommender':
        """Computes all rows of a trained model once.

        Args:
            model: Any module with `get_embedding(**model_inputs(data))`.
            data: What it was trained on.
            user_ids: One id per user, of any hashable type (default: `None`,
                those that `data` carries, as of
                :func:`~pyg_sea.datasets.from_pandas`, else local ids).
            item_ids: One id per item (default: `None`, as of users).
            graph: The transform that made the graph of similar items, for
                :meth:`add_items`, if `data` does not say (default: `None`,
                what it says, as :class:`~pyg_sea.transforms.ModalKNNGraph`
                leaves it there).
            features: Whether to keep features for :meth:`add_items`
                (default: `None`, up to 1 GiB).
            edge_type: The type of the train edges (default: `None`, the only
                type from `'user'` to `'item'`).

        Raises a `ValueError` if ids repeat, are too few or too many, or
        `graph` did not make the graph in `data`.
        """
        return cls(
            build(model, data, user_ids, item_ids, graph, features, edge_type)
        )

    def recommend(
        self,
        users: Any = None,
        k: int = 20,
        exclude_seen: bool = True,
        candidates: Any = None,
        *,
        exclude: Any = None,
        method: Method = 'auto',
        chunk_size: int = 8192,
    ) -> pd.DataFrame:
        """The best items of each user: `user`, `item`, `rank` (from 1),
        `score`, in the order of `users`; fewer than `k` rows for a user who
        has fewer candidates.

        Args:
            users: Their ids, one or many, repeated or not (default: `None`,
                all users).
            k: Items per user (default: 20).
            exclude_seen: Whether to leave out the items that a user has in
                the train edges or by :meth:`add_interactions`
                (default: `True`).
            candidates: The ids of the items to choose from (default: `None`,
                all items).
            exclude: What else to leave out: a `DataFrame` with the columns
                `user` and `item`, or a dictionary of users and lists of items
                (default: `None`).
            method: `'exact'`, `'faiss'` (candidates are always compared
                exactly), or `'auto'`, see the class (default: `'auto'`).
            chunk_size: Users served at a time (default: 8192).

        Raises a `KeyError` that names unknown ids, a `ValueError` for another
        `method`, or a `k` or `chunk_size` that is not positive, a `TypeError`
        for another `exclude`, and an `ImportError` for `'faiss'` without it.
        """
        local = self._users(users)
        request = self._request(
            k, exclude_seen, candidates, exclude, method, chunk_size
        )
        # Half as wide as what comes, for a million users at once.
        chunks = [
            (top.items.int(), top.scores)
            for _, top in ranking.rank(self.state, local, request)
        ]
        if not chunks:
            chunks = [(torch.empty(0, k, dtype=torch.int), torch.empty(0, k))]
        top = TopK(*(torch.cat(part) for part in zip(*chunks)))
        return self._table(local, top)

    def recommend_iter(
        self,
        users: Any = None,
        k: int = 20,
        exclude_seen: bool = True,
        candidates: Any = None,
        *,
        exclude: Any = None,
        method: Method = 'auto',
        chunk_size: int = 8192,
    ) -> Iterator[pd.DataFrame]:
        """Yields what :meth:`recommend` returns, some users at a time, to be
        written away. The arguments are the same, and are checked at once.
        """
        local = self._users(users)
        request = self._request(
            k, exclude_seen, candidates, exclude, method, chunk_size
        )
        chunks = ranking.rank(self.state, local, request)
        return (self._table(some, top) for some, top in chunks)

    def recommend_for(
        self,
        items: Any,
        k: int = 20,
        exclude_seen: bool = True,
        candidates: Any = None,
        *,
        weights: Sequence[float] | None = None,
        method: Method = 'auto',
    ) -> pd.DataFrame:
        """The best items for somebody who was not there in training and has
        these items: `item`, `rank`, `score`. No gradient step: the row is
        what the graph would pass on from them, without a free vector, with
        the mean weight of each modality.

        Args:
            items: Their ids, one or many; without weights, a repeated one
                counts once.
            k: How many (default: 20).
            exclude_seen: Whether to leave these out (default: `True`).
            candidates: As of :meth:`recommend` (default: `None`).
            weights: Their weights, if the model was trained with weights
                (default: `None`, 1 each).
            method: As of :meth:`recommend` (default: `'auto'`).

        Raises what :meth:`recommend` raises, and a `ValueError` if the model
        is not :class:`~pyg_sea.nn.SEA`, if there is no item, or `weights` are
        not positive, one per item.
        """
        self.state.require_terms('recommend_for')
        local = torch.from_numpy(self.state.items.local(items))
        if local.numel() == 0:
            raise ValueError("'items' needs at least one item (got none)")
        weight = None
        if weights is None:
            local = local.unique()
        else:
            weight = _new_users.check_weight("'weights'", weights, local)
        row = _new_users.fold_in(self.state, local, weight)
        request = self._request(k, False, candidates, method=method)
        own = torch.stack([torch.zeros_like(local), local])
        pairs = [own] if exclude_seen else []
        top = ranking.rank_rows(self.state, row, pairs, request)
        nobody = np.zeros(1, dtype=np.int64)
        return self._table(nobody, top).drop(columns='user')

    def _users(self, users: Any) -> ranking.Local:
        if users is None:
            return np.arange(len(self.state.users))
        return self.state.users.local(users)

    def _request(
        self,
        k: int,
        seen: bool,
        candidates: Any,
        exclude: Any = None,
        method: Method = 'auto',
        chunk_size: int = 1,
    ) -> ranking.Request:
        if candidates is not None:
            candidates = np.unique(self.state.items.local(candidates))
        search = self._searches.choose(method, candidates)
        pairs = ranking.to_pairs(self.state, exclude)
        return ranking.Request(search, k, seen, pairs, candidates, chunk_size)

    def _table(self, users: ranking.Local, top: TopK) -> pd.DataFrame:
        ids, items = self.state.users, self.state.items
        return ranking.frame('user', ids, users, 'item', items, top)
