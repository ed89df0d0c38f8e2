import builtins
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch.utils._python_dispatch import TorchDispatchMode
from torch_geometric.data import HeteroData
from torch_geometric.transforms import Compose
from torch_geometric.utils import to_dense_adj

from pyg_sea.datasets import FakeMultimodal, MMRecDataset
from pyg_sea.transforms import ModalKNNGraph, read_knn_graph

SIMILAR = ('item', 'similar', 'item')


def shop(**features: torch.Tensor) -> HeteroData:
    data = HeteroData()
    data['user'].num_nodes = 2
    data['item'].num_nodes = len(next(iter(features.values())))
    for name, x in features.items():
        data['item'][f'x_{name}'] = x
    return data


def dense(data: HeteroData) -> torch.Tensor:
    """Return S with S[i, j] the weight of neighbour j in item i."""
    store = data[SIMILAR]
    num = data['item'].num_nodes
    index = store.edge_index
    return to_dense_adj(
        index.flip(0), edge_attr=store.edge_weight, max_num_nodes=num
    )[0]


def naive(x: np.ndarray, k: int, include_self: bool = True) -> np.ndarray:
    x = x.astype(np.float64)
    norm = np.linalg.norm(x, axis=1, keepdims=True)
    cosine = (x / norm) @ (x / norm).T
    np.fill_diagonal(cosine, 2 if include_self else -2)
    nearest = np.argsort(-cosine, axis=1, kind='stable')[:, :k]
    out = np.zeros_like(cosine)
    np.put_along_axis(out, nearest, 1 / k, axis=1)
    return out


@pytest.fixture(scope='module')
def lfm2k(data_dir):
    files = ['all-MiniLM-L6-v2', 'vggish', 'whisper']
    return MMRecDataset(
        data_dir, 'lfm2k', {name: f'{name}.npy' for name in files}
    )[0]


@pytest.mark.parametrize('backend', ['torch', 'faiss'])
@pytest.mark.parametrize('include_self', [True, False])
def test_real_features_against_dense_numpy(lfm2k, backend, include_self):
    if backend == 'faiss':
        pytest.importorskip('faiss')
    weights = {'all-MiniLM-L6-v2': 0.7, 'vggish': 0.2, 'whisper': 0.1}
    transform = ModalKNNGraph(10, weights, include_self, backend)
    found = dense(transform(lfm2k)).numpy()
    expected = sum(
        weight * naive(lfm2k['item'][f'x_{name}'].numpy(), 10, include_self)
        for name, weight in weights.items()
    )
    # float32 swaps a few neighbours of nearly the same cosine.
    differ = np.abs(found - expected).max(axis=1) > 1e-6
    assert differ.mean() < 0.01
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(
        found.diagonal(), 0.1 if include_self else 0, atol=1e-6
    )


def test_random_features_against_dense_numpy():
    x = {name: torch.randn(50, 8) for name in ('a', 'b')}
    for k in (1, 7, 50):
        found = dense(ModalKNNGraph(k, backend='torch')(shop(**x)))
        expected = sum(naive(v.numpy(), k) for v in x.values()) / 2
        np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize('include_self', [True, False])
@pytest.mark.parametrize('k', [1, 5, 39])
def test_backends_agree(k, include_self):
    pytest.importorskip('faiss')
    data = shop(a=torch.randn(40, 8))
    torch_, faiss = (
        dense(ModalKNNGraph(k, None, include_self, backend)(data))
        for backend in ('torch', 'faiss')
    )
    assert torch.equal(torch_, faiss)


@pytest.mark.parametrize('block_size', [1, 7, 40, 100])
def test_blocks_do_not_matter(block_size):
    data = shop(a=torch.randn(40, 8))
    whole = ModalKNNGraph(5)(data)[SIMILAR]
    parts = ModalKNNGraph(5, block_size=block_size)(data)[SIMILAR]
    assert torch.equal(whole.edge_index, parts.edge_index)
    assert torch.equal(whole.edge_weight, parts.edge_weight)


def test_never_holds_all_similarities():
    class Largest(TorchDispatchMode):
        size = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            out = func(*args, **(kwargs or {}))
            if isinstance(out, torch.Tensor):
                self.size = max(self.size, out.numel())
            return out

    data = shop(a=torch.randn(1000, 4))
    with Largest() as largest:
        ModalKNNGraph(5, backend='torch', block_size=10)(data)
    assert 0 < largest.size <= 10 * 1000


def test_edges_point_from_the_neighbour_to_the_item():
    # Item 2 is nearest to 1, whose own nearest is 0.
    angle = torch.tensor([0.0, 0.1, 0.3])
    x = torch.stack([angle.cos(), angle.sin()], dim=1)
    store = ModalKNNGraph(1, include_self=False)(shop(a=x))[SIMILAR]
    assert store.edge_index.tolist() == [[1, 0, 1], [0, 1, 2]]
    assert store.edge_weight.tolist() == [1, 1, 1]
    assert store.edge_weight.dtype == torch.float32


def test_shared_neighbours_are_added_up():
    x = torch.randn(30, 4)
    data = shop(a=x, b=2 * x, c=torch.randn(30, 4))
    both = ModalKNNGraph(4, {'a': 0.1, 'b': 0.9})(data)[SIMILAR]
    assert both.edge_index.size(1) == 30 * 4
    assert torch.allclose(both.edge_weight, torch.tensor(0.25))
    equal = dense(ModalKNNGraph(4)(data))
    assert torch.allclose(equal.sum(dim=1), torch.ones(30))
    weights = {'c': 2.0, 'a': 0.0}
    only_c = dense(ModalKNNGraph(4, weights)(data))
    assert torch.allclose(
        only_c, 2 * dense(ModalKNNGraph(4)(shop(c=data['item'].x_c)))
    )


def test_ties_go_to_the_lower_item():
    x = torch.eye(2).repeat_interleave(4, dim=0)
    for block_size in (1, 3, None):
        transform = ModalKNNGraph(
            2, include_self=False, backend='torch', block_size=block_size
        )
        store = transform(shop(a=x))[SIMILAR]
        by_item = store.edge_index[0].view(8, 2).tolist()
        assert by_item == [
            [1, 2],
            [0, 2],
            [0, 1],
            [0, 1],
            [5, 6],
            [4, 6],
            [4, 5],
            [4, 5],
        ]
        with_self = ModalKNNGraph(2, backend='torch', block_size=block_size)
        found = dense(with_self(shop(a=x)))
        assert (found.diagonal() == 0.5).all()


@pytest.mark.parametrize('backend', ['torch', 'faiss'])
def test_many_duplicates_still_include_the_item_itself(backend):
    if backend == 'faiss':
        pytest.importorskip('faiss')
    data = shop(a=torch.ones(60, 3))
    found = dense(ModalKNNGraph(5, backend=backend)(data))
    assert torch.allclose(found.diagonal(), torch.tensor(0.2))
    assert torch.allclose(found.sum(dim=1), torch.ones(60))
    found = dense(ModalKNNGraph(5, None, False, backend)(data))
    assert (found.diagonal() == 0).all()
    assert torch.allclose(found.sum(dim=1), torch.ones(60))


@pytest.mark.parametrize('backend', ['torch', 'faiss'])
def test_rows_without_features(backend):
    if backend == 'faiss':
        pytest.importorskip('faiss')
    x = torch.randn(20, 5)
    x[[3, 8]] = 0
    data = shop(a=x)
    found = dense(ModalKNNGraph(4, backend=backend)(data))
    assert found.isfinite().all()
    assert torch.allclose(found.sum(dim=1), torch.ones(20))
    assert torch.equal(found[[3, 8]], torch.eye(20)[[3, 8]])
    found = dense(ModalKNNGraph(4, None, False, backend)(data))
    assert (found[[3, 8]] == 0).all()
    assert torch.allclose(found.sum(dim=1)[:3], torch.ones(3))


@pytest.mark.parametrize('scale', [1e-30, 1e30])
@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
def test_extreme_scales(scale, dtype):
    x = torch.randn(20, 5, dtype=dtype)
    plain = dense(ModalKNNGraph(4)(shop(a=x)))
    assert torch.equal(plain, dense(ModalKNNGraph(4)(shop(a=x * scale))))


@settings(deadline=None, max_examples=50)
@given(
    arrays(
        np.float32,
        st.tuples(st.integers(5, 15), st.integers(1, 4)),
        elements=st.floats(-100, 100, width=32, allow_subnormal=False),
    ),
    st.integers(1, 4),
    st.booleans(),
    st.integers(1, 20),
)
def test_weights_into_an_item_sum_to_the_total(x, k, include_self, block_size):
    data = shop(a=torch.from_numpy(x), b=torch.from_numpy(x[::-1].copy()))
    weights = {'a': 0.25, 'b': 1.5}
    found = dense(
        ModalKNNGraph(k, weights, include_self, 'torch', block_size)(data)
    )
    full = torch.from_numpy(x.any(axis=1)).float()
    expected = 0.25 * full + 1.5 * full.flip(0)
    if include_self:
        expected = torch.full_like(expected, 1.75)
    torch.testing.assert_close(found.sum(dim=1), expected)
    assert ((found.diagonal() > 0).all()) == include_self


def test_leaves_its_input_alone_and_composes():
    dataset = FakeMultimodal(40, 30, transform=Compose([ModalKNNGraph(3)]))
    assert SIMILAR in dataset[0].edge_types
    data = FakeMultimodal(40, 30)[0]
    ModalKNNGraph(3)(data)
    assert SIMILAR not in data.edge_types


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ({'k': 0}, "'k' needs to be a positive integer .got 0"),
        ({'block_size': 0}, "'block_size' needs"),
        ({'backend': 'annoy'}, "got 'annoy'"),
        ({'weights': {'a': -1.0}}, "'weights' need to be finite"),
        ({'weights': {'a': float('nan')}}, "'weights' need to be finite"),
        ({'weights': {'a': 0.0}}, 'not all zero'),
        ({'weights': {}}, 'not all zero'),
        ({'weights': {'b': 1.0}}, r"unknown modalities \['b'\] .*\['a'\]"),
        ({'k': 6}, "'k' = 6 neighbours with .* than the 5 there"),
        ({'k': 5, 'include_self': False}, "'k' = 5 neighbours without"),
    ],
)
def test_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        ModalKNNGraph(**arguments)(shop(a=torch.randn(5, 2)))


def test_faiss_limits_and_absence(monkeypatch):
    data = shop(a=torch.randn(2100, 2))
    with pytest.raises(ValueError, match="use backend='torch'"):
        ModalKNNGraph(2048, backend='faiss')(data)
    monkeypatch.setitem(sys.modules, 'faiss', None)
    with pytest.raises(ImportError, match=r'"pyg_sea\[knn\]"'):
        ModalKNNGraph(5, backend='faiss')(data)


def test_auto_does_without_faiss(monkeypatch):
    real = builtins.__import__

    def refuse(name, *args, **kwargs):
        assert name != 'faiss'
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, '__import__', refuse)
    data = ModalKNNGraph(5)(shop(a=torch.randn(30, 2)))
    assert data[SIMILAR].num_edges == 150


def test_auto_asks_faiss_for_large_catalogues(monkeypatch):
    module = sys.modules['pyg_sea.transforms.modal_knn_graph']
    calls = []

    def search(x: torch.Tensor, k: int, include_self: bool) -> torch.Tensor:
        calls.append(len(x))
        return torch.arange(len(x)).unsqueeze(1).expand(-1, k)

    monkeypatch.setattr(module, 'knn_faiss', search)
    monkeypatch.setattr(module, 'find_spec', lambda name: name)
    ModalKNNGraph(1)(shop(a=torch.randn(50_001, 1)))
    assert calls == [50_001]


@pytest.mark.parametrize('name', ['image', 'text'])
@pytest.mark.filterwarnings('ignore:.*no train edge')
def test_published_graphs(data_dir, name):
    path = data_dir / 'baby' / f'{name}_knn10.npz'
    graph = read_knn_graph(path)
    data = MMRecDataset(data_dir, 'baby', {'text': 'text_spectral128.npy'})[0]
    store = ModalKNNGraph(weights={name: 0.5}, neighbors={name: graph})(data)[
        SIMILAR
    ]
    assert store.edge_index.size(1) == 70500
    assert torch.allclose(store.edge_weight, torch.tensor(0.05))
    with np.load(path) as file:
        expected = set(
            zip(file['col'].tolist(), file['row'].tolist(), strict=True)
        )
    assert set(zip(*store.edge_index.tolist(), strict=True)) == expected


def test_released_item_graph(golden_path):
    with np.load(golden_path) as golden:
        x = {
            name: torch.from_numpy(golden[f'input/{name}_feat']).double()
            for name in ('image', 'text')
        }
        weight = float(golden['hyper/image_weight'])
        k = int(golden['hyper/knn_k'])
        expected = golden['output/item_graph_dense']
    weights = {'image': weight, 'text': 1 - weight}
    found = dense(ModalKNNGraph(k, weights)(shop(**x))).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-15)


def test_ready_made_neighbours_weigh_one_by_their_number():
    neighbors = {'b': torch.tensor([[0, 1, 2, 1], [0, 0, 0, 2]])}
    data = shop(a=torch.eye(3))
    transform = ModalKNNGraph(1, {'a': 1.0, 'b': 3.0}, neighbors=neighbors)
    expected = torch.tensor([[2.0, 1, 1], [0, 1, 0], [0, 3, 1]])
    assert torch.allclose(dense(transform(data)), expected)
    equal = ModalKNNGraph(1, neighbors=neighbors)
    assert torch.allclose(dense(equal(data))[2], torch.tensor([0, 0.5, 0.5]))


@pytest.mark.parametrize(
    ('edges', 'message'),
    [
        ([[0, 1], [0, 3]], r'items in \[0, 3\) .got 0 to 3'),
        ([[0, -1], [0, 1]], 'got -1 to 1'),
        ([[0, 0], [1, 1]], 'repeat 1 of 2 edges'),
        ([0, 1], r'shape \[2, E\]'),
    ],
)
def test_refuses_neighbours(edges, message):
    transform = ModalKNNGraph(1, neighbors={'a': torch.tensor(edges)})
    with pytest.raises(ValueError, match=message):
        transform(shop(a=torch.eye(3)))


@pytest.mark.parametrize(
    ('fields', 'message'),
    [
        ({'row': [0], 'col': [0]}, "needs the fields 'row', 'col' and 'n'"),
        ({'row': [0], 'col': [2], 'n': 2}, r'items in \[0, 2\)'),
        ({'row': [-1], 'col': [0], 'n': 2}, 'got -1 to 0'),
        ({'row': [0.5], 'col': [0.5], 'n': 2}, 'lists of integers'),
        ({'row': [0, 1], 'col': [0], 'n': 2}, 'no readable .npz'),
        ({'row': [0], 'col': [0], 'n': [2, 2]}, 'no readable .npz'),
        ({'row': [None], 'col': [0], 'n': 2}, 'no readable .npz'),
    ],
)
def test_refuses_graph_files(tmp_path, fields, message):
    path = tmp_path / 'graph.npz'
    np.savez(path, **fields)
    with pytest.raises(ValueError, match=message):
        read_knn_graph(path)


def test_refuses_damaged_graph_files(tmp_path):
    path = tmp_path / 'graph.npz'
    np.savez(path, row=[0], col=[0], n=1)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(ValueError, match=r'no readable .npz'):
        read_knn_graph(path)
    with pytest.raises(FileNotFoundError):
        read_knn_graph(tmp_path / 'nothing.npz')
