import warnings
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Literal

import torch
from torch import Tensor
from torch_geometric.data import HeteroData
from torch_geometric.transforms import BaseTransform
from torch_geometric.utils import coalesce, degree

from pyg_sea._count import check_count
from pyg_sea._weights import check_weights
from pyg_sea.transforms._ivf import knn_ivf
from pyg_sea.transforms._knn import knn_exact, top_faiss, top_torch
from pyg_sea.transforms._modal_x import modal_features, num_nodes_of
from pyg_sea.transforms.model_inputs import ITEM_EDGE_TYPE


class ModalKNNGraph(BaseTransform):
    r"""Connects every item with the items that its modalities hold similar
    (eq. 8-12 of SEA, `arXiv 2406.08270 <https://arxiv.org/abs/2406.08270>`_).

    .. math::
        \mathbf{S} = \sum_m w_m \mathbf{K}_m, \qquad
        (\mathbf{K}_m)_{ij} = \begin{cases}
        1/k & \text{if } j \text{ is among the } k \text{ nearest of } i
        \text{ by cosine in } m \\ 0 & \text{otherwise} \end{cases}

    It is directed, and adds `data['item', 'similar', 'item']`:
    :math:`S_{ij}` is the weight of the edge from neighbour :math:`j` to item
    :math:`i`. Edges that several modalities have in common are added up, so
    the weights into an item sum to :math:`\sum_m w_m`.

    Among equal cosines the lower item comes first (`'torch'`). An item whose
    features are all zero lacks that modality: there it is no neighbour of
    others, and its own only one, with weight 1, or has none without
    `include_self`. Its neighbours in other modalities keep their weights.

    Up to `exact_below` items the neighbours are exact. Never more than one
    block of similarities is held, and features that are memory-mapped are
    read in blocks. Beyond, faiss sorts the items into cells and searches as
    many of them as find the wanted `recall` of the true neighbours of 2,000
    items, for which it holds one copy of the features in single precision.
    What was found is in `recall_`, by modality, and in a warning. Both ways
    give the same graph every time.

    Args:
        k: Number of neighbours per modality (default: `10`).
        weights: The weight :math:`w_m` of each modality; those left out are
            not used (default: `None`, equal weights that sum to 1).
        include_self: Whether an item is its own first neighbour
            (default: `True`).
        backend: `'torch'` (blocked `topk`, always exact), `'faiss'`
            (`pip install "pyg_sea[knn]"`, on the CPU), or `'auto'`: faiss for
            more than 50,000 items on the CPU if it is installed
            (default: `'auto'`).
        block_size: Rows per block of an exact search
            (default: `None`, blocks of 64 MiB).
        neighbors: Ready-made neighbours by modality, used in place of its
            features: `[2, E]`, from neighbour to item, each item's `n_i`
            neighbours weighing `1 / n_i`; see
            :func:`~pyg_sea.transforms.read_knn_graph`. They may name
            modalities that `data` has no features of (default: `None`).
        exact_below: Up to how many items `'faiss'` is exact; a million take
            it about an hour of two cores (default: `200_000`).
        recall: The share of true neighbours, other than the item itself, that
            is to be found beyond (default: `0.95`).

    Shapes:
        - `data['item', 'similar', 'item'].edge_index`: `[2, E']`, row 0 the
          neighbour, row 1 the item, sorted by item
        - `data['item', 'similar', 'item'].edge_weight`: `[E']`, float32,
          or float64 if the features are

    `.settings` beside them, a dictionary of `k`, `weights` and
    `include_self`, says how the graph was made: that is how
    :meth:`~pyg_sea.serving.Recommender.add_items` places new items.

    Raises a `ValueError` for a `k` that is not positive or more than there
    are items, weights that are negative or of unknown modalities, a `recall`
    beyond 0 to 1, and neighbours that repeat or are no items; an
    `ImportError` for `'faiss'` without it. Warns with the recall of
    approximate neighbours, and of exact ones that will take long.

    Example:
        >>> from pyg_sea.datasets import FakeMultimodal
        >>> from pyg_sea.transforms import ModalKNNGraph
        >>> data = FakeMultimodal(num_users=50, num_items=40)[0]
        >>> transform = ModalKNNGraph(5, weights={'image': 0.1, 'text': 0.9})
        >>> transform
        ModalKNNGraph(k=5, weights={'image': 0.1, 'text': 0.9})
        >>> store = transform(data)['item', 'similar', 'item']
        >>> round(float(store.edge_weight.sum()), 3)
        40.0
    """

    def __init__(
        self,
        k: int = 10,
        weights: Mapping[str, float] | None = None,
        include_self: bool = True,
        backend: Literal['auto', 'faiss', 'torch'] = 'auto',
        block_size: int | None = None,
        neighbors: Mapping[str, Tensor] | None = None,
        *,
        exact_below: int = 200_000,
        recall: float = 0.95,
    ) -> None:
        for name, value in (('k', k), ('block_size', block_size)):
            if value is not None:
                check_count(name, value)
        if backend not in ('auto', 'faiss', 'torch'):
            raise ValueError(
                "'backend' needs to be 'auto', 'faiss' or 'torch' (got "
                f'{backend!r})'
            )
        if weights is not None:
            check_weights(weights)
        if not 0 < recall <= 1:
            raise ValueError(
                f"'recall' needs to be above 0 and at most 1 (got {recall})"
            )
        self.k = k
        self.weights = None if weights is None else dict(weights)
        self.include_self = include_self
        self.backend = backend
        self.block_size = block_size
        self.neighbors = dict(neighbors or {})
        self.exact_below = exact_below
        self.recall = recall
        self.recall_: dict[str, float] = {}

    def forward(self, data: HeteroData) -> HeteroData:
        """Add the graph to `data`."""
        num_items = num_nodes_of(data, 'item')
        modal_x = modal_features(data)
        known = list(dict.fromkeys([*modal_x, *self.neighbors]))
        weights = self.weights
        if weights is None:
            weights = dict.fromkeys(known, 1 / len(known))
        check_weights(weights, known)

        x = next(iter(modal_x.values()))
        dtype = torch.promote_types(x.dtype, torch.float32)
        edges, values = [], []
        self.recall_ = {}
        for name, weight in weights.items():
            if weight == 0:
                continue
            if name in self.neighbors:
                edge_index = _check_neighbors(
                    name, self.neighbors[name].to(x.device), num_items
                )
            else:
                edge_index = self._search(name, modal_x[name])
            count = degree(edge_index[1], num_items, dtype)
            edges.append(edge_index)
            values.append(weight / count[edge_index[1]])
        store = data[ITEM_EDGE_TYPE]
        store.edge_index, store.edge_weight = coalesce(
            torch.cat(edges, dim=1),
            torch.cat(values),
            num_nodes=num_items,
            sort_by_row=False,
        )
        store.settings = {
            'k': self.k,
            'weights': weights,
            'include_self': self.include_self,
        }
        return data

    def _search(self, name: str, x: Tensor) -> Tensor:
        num_items = x.size(0)
        if num_items < self.k + (not self.include_self):
            raise ValueError(
                f"'k' = {self.k} neighbours "
                f'{"with" if self.include_self else "without"} the item '
                f'itself need more items than the {num_items} there are; '
                "lower 'k'"
            )
        self.recall_[name] = 1.0
        backend = self._backend(x)
        if backend == 'faiss' and num_items > self.exact_below:
            index = self._approximate(name, x)
        else:
            top = top_faiss if backend == 'faiss' else top_torch
            index = knn_exact(
                x, self.k, self.include_self, top, self.block_size
            )
        item = torch.arange(num_items, device=x.device)
        edge_index = torch.stack(
            [index.flatten(), item.repeat_interleave(self.k)]
        )
        return edge_index[:, edge_index[0] >= 0]

    def _backend(self, x: Tensor) -> str:
        if self.backend != 'auto' or x.device.type != 'cpu':
            return self.backend.replace('auto', 'torch')
        if x.size(0) <= 50_000:
            return 'torch'
        if find_spec('faiss') is not None:
            return 'faiss'
        if x.size(0) > self.exact_below:
            warnings.warn(
                f'comparing {x.size(0):,} items with each other may take '
                'hours without faiss: pip install "pyg_sea[knn]"',
                stacklevel=5,
            )
        return 'torch'

    def _approximate(self, name: str, x: Tensor) -> Tensor:
        found = knn_ivf(x, self.k, self.include_self, self.recall)
        self.recall_[name] = found.recall
        warnings.warn(
            f"modality '{name}': neighbours among {x.size(0):,} items are "
            f'approximate, recall {found.recall:.3f} of '
            f'{found.num_queries:,} of them ({found.num_probes:,} of '
            f"{found.num_cells:,} cells searched). Raise 'recall', or "
            "'exact_below' for exact ones",
            stacklevel=5,
        )
        return found.neighbors

    def __repr__(self) -> str:
        return f'{self.__class__.__name__}(k={self.k}, weights={self.weights})'


def _check_neighbors(name: str, edge_index: Tensor, num_items: int) -> Tensor:
    if edge_index.dim() != 2 or edge_index.size(0) != 2:
        raise ValueError(
            f"'neighbors' of modality '{name}' need the shape [2, E] (got "
            f'{list(edge_index.shape)})'
        )
    edge_index = edge_index.long()
    if edge_index.numel() > 0 and not (
        0 <= int(edge_index.min()) <= int(edge_index.max()) < num_items
    ):
        raise ValueError(
            f"'neighbors' of modality '{name}' need to be items in [0, "
            f'{num_items}) (got {int(edge_index.min())} to '
            f'{int(edge_index.max())})'
        )
    unique = coalesce(edge_index, num_nodes=num_items).size(1)
    if unique < edge_index.size(1):
        raise ValueError(
            f"'neighbors' of modality '{name}' repeat "
            f'{edge_index.size(1) - unique:,} of {edge_index.size(1):,} edges'
        )
    return edge_index
