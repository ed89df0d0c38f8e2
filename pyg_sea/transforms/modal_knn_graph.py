import zlib
from collections.abc import Mapping
from importlib.util import find_spec
from math import isfinite
from pathlib import Path
from typing import Literal
from zipfile import BadZipFile

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import HeteroData
from torch_geometric.transforms import BaseTransform
from torch_geometric.utils import coalesce, degree

from pyg_sea.transforms._knn import knn_faiss, knn_torch, unit_rows
from pyg_sea.transforms._modal_x import modal_features, num_nodes_of
from pyg_sea.transforms.model_inputs import ITEM_EDGE_TYPE

_UNREADABLE = (
    EOFError,
    OSError,
    TypeError,
    ValueError,
    BadZipFile,
    zlib.error,
)


class ModalKNNGraph(BaseTransform):
    r"""Connects every item with the items that its modalities hold similar
    (eq. 8-12 of SEA, `arXiv 2406.08270 <https://arxiv.org/abs/2406.08270>`_).

    .. math::
        \mathbf{S} = \sum_m w_m \mathbf{K}_m, \qquad
        (\mathbf{K}_m)_{ij} = \begin{cases}
        1/k & \text{if } j \text{ is among the } k \text{ nearest of } i
        \text{ by cosine in } m \\ 0 & \text{otherwise} \end{cases}

    It is exact and directed, and adds `data['item', 'similar', 'item']`:
    :math:`S_{ij}` is the weight of the edge from neighbour :math:`j` to item
    :math:`i`. Edges that several modalities have in common are added up, so
    the weights into an item sum to :math:`\sum_m w_m`.

    Among equal cosines the lower item comes first (`'torch'`). An item whose
    features are all zero has no direction: it is its own only neighbour, with
    weight 1, or has none without `include_self`.

    Never more than one block of similarities is held.

    Args:
        k: Number of neighbours per modality (default: `10`).
        weights: The weight :math:`w_m` of each modality; those left out are
            not used (default: `None`, equal weights that sum to 1).
        include_self: Whether an item is its own first neighbour
            (default: `True`).
        backend: `'torch'` (blocked `topk`), `'faiss'`
            (`pip install "pyg_sea[knn]"`), or `'auto'`: faiss for more than
            50,000 items if it is installed (default: `'auto'`).
        block_size: Rows per block of `'torch'`
            (default: `None`, blocks of 64 MiB).
        neighbors: Ready-made neighbours by modality, used in place of its
            features: `[2, E]`, from neighbour to item, each item's `n_i`
            neighbours weighing `1 / n_i`; see
            :func:`~pyg_sea.transforms.read_knn_graph`. They may name
            modalities that `data` has no features of (default: `None`).

    Shapes:
        - `data['item', 'similar', 'item'].edge_index`: `[2, E']`, row 0 the
          neighbour, row 1 the item, sorted by item
        - `data['item', 'similar', 'item'].edge_weight`: `[E']`, float32,
          or float64 if the features are

    Raises a `ValueError` for a `k` that is not positive or more than there
    are items, weights that are negative or of unknown modalities, and
    neighbours that repeat or are no items; an `ImportError` for `'faiss'`
    without it.

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
    ) -> None:
        for name, value in (('k', k), ('block_size', block_size)):
            if value is not None and value < 1:
                raise ValueError(
                    f"'{name}' needs to be a positive integer (got {value})"
                )
        if backend not in ('auto', 'faiss', 'torch'):
            raise ValueError(
                "'backend' needs to be 'auto', 'faiss' or 'torch' (got "
                f'{backend!r})'
            )
        values = list((weights or {}).values())
        if weights is not None and not (
            any(values) and all(isfinite(w) and w >= 0 for w in values)
        ):
            raise ValueError(
                "'weights' need to be finite, not negative and not all zero "
                f'(got {dict(weights)})'
            )
        self.k = k
        self.weights = None if weights is None else dict(weights)
        self.include_self = include_self
        self.backend = backend
        self.block_size = block_size
        self.neighbors = dict(neighbors or {})

    def forward(self, data: HeteroData) -> HeteroData:
        """Add the graph to `data`."""
        num_items = num_nodes_of(data, 'item')
        modal_x = modal_features(data)
        known = list(dict.fromkeys([*modal_x, *self.neighbors]))
        weights = self.weights
        if weights is None:
            weights = dict.fromkeys(known, 1 / len(known))
        unknown = [name for name in weights if name not in known]
        if unknown:
            raise ValueError(
                f"'weights' name unknown modalities {unknown} (known: {known})"
            )

        x = next(iter(modal_x.values()))
        dtype = torch.promote_types(x.dtype, torch.float32)
        edges, values = [], []
        for name, weight in weights.items():
            if weight == 0:
                continue
            if name in self.neighbors:
                edge_index = _check_neighbors(
                    name, self.neighbors[name].to(x.device), num_items
                )
            else:
                edge_index = self._search(modal_x[name])
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
        return data

    def _search(self, x: Tensor) -> Tensor:
        num_items = x.size(0)
        if num_items < self.k + (not self.include_self):
            raise ValueError(
                f"'k' = {self.k} neighbours "
                f'{"with" if self.include_self else "without"} the item '
                f'itself need more items than the {num_items} there are; '
                "lower 'k'"
            )
        unit = unit_rows(x)
        backend = self.backend
        if backend == 'auto':
            large = num_items > 50_000 and find_spec('faiss') is not None
            backend = 'faiss' if large else 'torch'
        if backend == 'faiss':
            index = knn_faiss(unit, self.k, self.include_self)
        else:
            index = knn_torch(unit, self.k, self.include_self, self.block_size)
        item = torch.arange(num_items, device=x.device)
        edge_index = torch.stack(
            [index.flatten(), item.repeat_interleave(self.k)]
        )
        # An item without features has no direction, hence no neighbours.
        has_features = unit.any(dim=1)
        keep = has_features[edge_index[1]] | (edge_index[0] == edge_index[1])
        return edge_index[:, keep]

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


def read_knn_graph(path: str | Path) -> Tensor:
    r"""Reads a published neighbour graph for
    :class:`~pyg_sea.transforms.ModalKNNGraph`.

    Args:
        path: An `.npz` file with the integers `row` (items), `col` (their
            neighbours) and `n` (number of items). Other fields, such as
            weights, are not used: SEA's graph gives all neighbours of an item
            the same weight.

    Shapes:
        - output: `[2, E]`, row 0 the neighbour, row 1 the item

    Raises a `FileNotFoundError`, or a `ValueError` if the file is damaged,
    pickled, lacks a field or has ids that are no items.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> import numpy as np
        >>> from pyg_sea.transforms import read_knn_graph
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, 'image_knn2.npz')
        ...     np.savez(path, row=[0, 0, 1, 1], col=[0, 1, 1, 0], n=2)
        ...     read_knn_graph(path).tolist()
        [[0, 1, 1, 0], [0, 0, 1, 1]]
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            edge_index = np.stack([file['col'], file['row']])
            num = int(file['n'])
    except FileNotFoundError:
        raise
    except KeyError as error:
        raise ValueError(
            f"'{path}' needs the fields 'row', 'col' and 'n': {error}"
        ) from error
    except _UNREADABLE as error:
        raise ValueError(f"'{path}' is no readable .npz: {error}") from error
    if edge_index.ndim != 2 or not np.issubdtype(edge_index.dtype, np.integer):
        raise ValueError(
            f"'row' and 'col' of '{path}' need to be lists of integers (got "
            f'{edge_index.dtype} {list(edge_index.shape[1:])})'
        )
    if edge_index.size > 0 and not (
        edge_index.min() >= 0 and edge_index.max() < num
    ):
        raise ValueError(
            f"'row' and 'col' of '{path}' need to be items in [0, {num}) (got "
            f'{edge_index.min()} to {edge_index.max()})'
        )
    return torch.from_numpy(edge_index.astype(np.int64))
