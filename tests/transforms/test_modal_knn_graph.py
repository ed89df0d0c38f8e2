import builtins
import sys
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch.utils._python_dispatch import TorchDispatchMode
from torch_geometric.data import HeteroData
from torch_geometric.transforms import Compose
from torch_geometric.utils import scatter, to_dense_adj

from pyg_sea.datasets import FakeMultimodal, MMRecDataset
from pyg_sea.transforms import ModalKNNGraph, read_knn_graph
from pyg_sea.transforms._ivf import Approximate

module = sys.modules['pyg_sea.transforms.modal_knn_graph']
knn = sys.modules['pyg_sea.transforms._knn']
unit = sys.modules['pyg_sea.transforms._unit_rows']
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


@pytest.mark.parametrize('backend', ['torch', 'faiss'])
@pytest.mark.parametrize('dtype', [torch.float16, torch.float64])
def test_large_features_give_the_same_graph(monkeypatch, backend, dtype):
    if backend == 'faiss':
        pytest.importorskip('faiss')
    x = torch.randn(60, 8).to(dtype)
    x[[7, 20]] = 0
    x[30:50] = x[10:30]
    expected = ModalKNNGraph(5, backend='torch')(shop(a=x))[SIMILAR]
    monkeypatch.setattr(unit, '_LARGE_NUMEL', 0)
    monkeypatch.setattr(unit, '_BLOCK_NUMEL', 24)
    monkeypatch.setattr(knn, '_TILE_NUMEL', 64)
    for block_size in (None, 4, 64):
        transform = ModalKNNGraph(5, backend=backend, block_size=block_size)
        store = transform(shop(a=x))[SIMILAR]
        if backend == 'torch':
            assert torch.equal(store.edge_index, expected.edge_index)
        assert store.edge_index.shape == expected.edge_index.shape
        assert torch.equal(store.edge_weight, expected.edge_weight)


def test_never_holds_all_similarities_or_features(monkeypatch):
    class Largest(TorchDispatchMode):
        size = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            out = func(*args, **(kwargs or {}))
            if isinstance(out, torch.Tensor) and (
                out.untyped_storage().data_ptr() != x.data_ptr()
            ):
                self.size = max(self.size, out.numel())
            return out

    x = torch.randn(1000, 50).half()
    monkeypatch.setattr(unit, '_LARGE_NUMEL', 0)
    monkeypatch.setattr(unit, '_BLOCK_NUMEL', 500)
    monkeypatch.setattr(knn, '_TILE_NUMEL', 2000)
    data = shop(a=x)
    with Largest() as largest:
        ModalKNNGraph(5, backend='torch', block_size=20)(data)
    # The edges are 5,000.
    assert 0 < largest.size <= 10_000


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
    if full.sum() == 1:
        expected.zero_()  # There is no other item to be near to.
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
        ({'recall': 0.0}, "'recall' needs to be above 0 .*got 0.0"),
        ({'recall': 95}, "'recall' needs .*got 95"),
        ({'k': 6}, "'k' = 6 neighbours with .* than the 5 there"),
        ({'k': 5, 'include_self': False}, "'k' = 5 neighbours without"),
    ],
)
def test_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        ModalKNNGraph(**arguments)(shop(a=torch.randn(5, 2)))


def test_absence_of_faiss(monkeypatch):
    data = shop(a=torch.randn(30, 2))
    monkeypatch.setitem(sys.modules, 'faiss', None)
    for exact_below in (10, 100):
        transform = ModalKNNGraph(5, backend='faiss', exact_below=exact_below)
        with pytest.raises(ImportError, match=r'"pyg_sea\[knn\]"'):
            transform(data)


def test_auto_does_without_faiss(monkeypatch):
    real = builtins.__import__

    def refuse(name, *args, **kwargs):
        assert name != 'faiss'
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, '__import__', refuse)
    data = ModalKNNGraph(5)(shop(a=torch.randn(30, 2)))
    assert data[SIMILAR].num_edges == 150


@pytest.mark.parametrize(
    ('num_items', 'installed', 'expected'),
    [
        (50_000, True, 'top_torch'),
        (50_001, True, 'top_faiss'),
        (50_001, False, 'top_torch'),
        (60_001, True, 'knn_ivf'),
        (60_001, False, 'top_torch'),
    ],
)
def test_auto_goes_by_size(monkeypatch, num_items, installed, expected):
    calls = []

    def exact(x, k, include_self, top, block_size):
        calls.append(top.__name__)
        return torch.arange(len(x)).unsqueeze(1)

    def approximate(x, k, include_self, recall):
        calls.append('knn_ivf')
        return Approximate(torch.arange(len(x)).view(-1, 1), 0.5, 1, 1, 1)

    monkeypatch.setattr(module, 'knn_exact', exact)
    monkeypatch.setattr(module, 'knn_ivf', approximate)
    monkeypatch.setattr(module, 'find_spec', lambda name: installed or None)
    transform = ModalKNNGraph(1, exact_below=60_000)
    with warnings.catch_warnings(record=True) as record:
        warnings.simplefilter('always')
        transform(shop(a=torch.ones(num_items, 1)))
    assert calls == [expected]
    assert transform.recall_ == {'a': 0.5 if expected == 'knn_ivf' else 1.0}
    messages = [str(warning.message) for warning in record]
    if expected == 'knn_ivf':
        assert 'recall 0.500' in messages[0]
    elif num_items > 60_000:
        assert '"pyg_sea[knn]"' in messages[0]
    else:
        assert not messages
    assert all(warning.filename == __file__ for warning in record)


@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs CUDA, a GPU')
def test_searches_on_the_gpu():
    x = torch.randn(50_001, 4)
    store = ModalKNNGraph(2, include_self=False)(shop(a=x.cuda()))[SIMILAR]
    assert store.edge_index.is_cuda
    few = ModalKNNGraph(2, include_self=False, backend='faiss')
    assert few(shop(a=x[:99].cuda()))[SIMILAR].edge_index.is_cuda


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


def clusters(num: int, width: int = 8) -> torch.Tensor:
    centre = torch.randn(20, width)
    return centre[torch.arange(num) % 20] + 0.5 * torch.randn(num, width)


def found_of(data: HeteroData, exact: HeteroData) -> float:
    """The share of the exact neighbours, other than the item itself."""
    pairs, true = (
        {
            pair
            for pair in zip(*graph[SIMILAR].edge_index.tolist(), strict=True)
            if pair[0] != pair[1]
        }
        for graph in (data, exact)
    )
    return len(pairs & true) / len(true)


@pytest.mark.parametrize('include_self', [True, False])
@pytest.mark.parametrize('recall', [0.5, 0.95, 1.0])
def test_approximate_neighbours_reach_the_recall(recall, include_self):
    pytest.importorskip('faiss')
    data = shop(a=clusters(3000))
    exact = ModalKNNGraph(6, None, include_self, 'torch')
    transform = ModalKNNGraph(
        6, None, include_self, 'faiss', exact_below=2999, recall=recall
    )
    with pytest.warns(UserWarning, match="'a': neighbours among 3,000"):
        graph = transform(data)
    reported = transform.recall_['a']
    assert recall <= reported <= 1
    # It was measured on 2,000 of the 3,000 items.
    assert abs(found_of(graph, exact(data)) - reported) < 0.01
    assert exact.recall_ == {'a': 1.0}

    store = graph[SIMILAR]
    assert torch.allclose(
        scatter(store.edge_weight, store.edge_index[1]), torch.ones(3000)
    )
    own = store.edge_index[0] == store.edge_index[1]
    assert own.sum() == (3000 if include_self else 0)
    with pytest.warns(UserWarning, match='approximate'):
        again = transform(data)[SIMILAR]
    assert torch.equal(store.edge_index, again.edge_index)


@pytest.mark.filterwarnings('ignore:.*approximate')
def test_less_recall_is_searched_in_fewer_cells():
    pytest.importorskip('faiss')
    data, found = shop(a=torch.randn(3000, 16)), []
    for recall in (0.3, 0.6, 1.0):
        transform = ModalKNNGraph(
            5, backend='faiss', exact_below=0, recall=recall
        )
        transform(data)
        found.append(transform.recall_['a'])
    assert 0.3 <= found[0] < 0.6 <= found[1] < found[2] == 1


@pytest.mark.filterwarnings('ignore:.*approximate')
def test_approximate_neighbours_are_never_too_few():
    pytest.importorskip('faiss')
    # One cell, of some 40 rows, does not hold 300 of them.
    transform = ModalKNNGraph(
        300, backend='faiss', exact_below=0, recall=0.001
    )
    store = transform(shop(a=clusters(1000)))[SIMILAR]
    assert store.edge_index.size(1) == 300 * 1000
    assert 0.001 <= transform.recall_['a'] < 1


@pytest.mark.filterwarnings('ignore:.*approximate')
@pytest.mark.parametrize('include_self', [True, False])
def test_approximate_neighbours_of_rows_without_features(include_self):
    pytest.importorskip('faiss')
    x = clusters(500)
    x[::5] = 0
    transform = ModalKNNGraph(
        4, None, include_self, 'faiss', exact_below=0, recall=1.0
    )
    exact = ModalKNNGraph(4, None, include_self, 'torch')(shop(a=x))
    assert found_of(transform(shop(a=x)), exact) > 0.99
    found = dense(transform(shop(a=x)))
    expected = torch.eye(500)[::5] * include_self
    assert torch.equal(found[::5], expected)
    assert (found[:, ::5].sum() == expected.sum()).item()

    # Fewer rows than neighbours: each has all others.
    x[5:] = 0
    found = dense(transform(shop(a=x)))
    share = 1 / (3 + include_self)
    assert (found[1:5, 1:5].fill_diagonal_(share) == share).all()
    x[:] = 0
    found = dense(transform(shop(a=x)))
    assert torch.equal(found, torch.eye(500) * include_self)


@pytest.mark.filterwarnings('ignore:.*approximate')
def test_approximate_neighbours_of_duplicates():
    pytest.importorskip('faiss')
    x = torch.randn(20, 8).repeat(50, 1)
    transform = ModalKNNGraph(5, backend='faiss', exact_below=0)
    store = transform(shop(a=x))[SIMILAR]
    # Any of the 49 others will do.
    assert transform.recall_['a'] == 1
    assert torch.equal(store.edge_index[0] % 20, store.edge_index[1] % 20)
    only_self = ModalKNNGraph(1, backend='faiss', exact_below=0)
    store = only_self(shop(a=x))[SIMILAR]
    assert torch.equal(store.edge_index[0], store.edge_index[1])


@pytest.mark.filterwarnings('ignore:.*approximate')
@pytest.mark.parametrize('include_self', [True, False])
@pytest.mark.parametrize('backend', ['torch', 'faiss', 'approximate'])
@pytest.mark.parametrize('num_left', [0, 1, 2, 7, 100])
def test_items_without_features_are_no_neighbours(
    monkeypatch, backend, include_self, num_left
):
    if backend != 'torch':
        pytest.importorskip('faiss')
    x = torch.randn(300, 3)
    there = torch.randperm(300)[:num_left].sort().values
    features = torch.zeros_like(x)
    features[there] = x[there]
    k = 80  # Some of them are farther than a right angle.
    transform = ModalKNNGraph(
        k,
        None,
        include_self,
        backend.replace('approximate', 'faiss'),
        exact_below=0 if backend == 'approximate' else 300,
        recall=1.0,
    )
    expected = torch.eye(300) * include_self
    if num_left > 1:
        k = min(k, num_left - (not include_self))
        among = naive(x[there].numpy(), k, include_self)
        expected[there[:, None], there] = torch.from_numpy(among).float()
    torch.testing.assert_close(dense(transform(shop(a=features))), expected)
    assert transform.recall_ == {'a': 1.0}

    for name, value in [('_LARGE_NUMEL', 0), ('_BLOCK_NUMEL', 24)]:
        monkeypatch.setattr(unit, name, value)
    torch.testing.assert_close(dense(transform(shop(a=features))), expected)


@pytest.mark.filterwarnings('ignore:.*approximate')
def test_recall_is_that_among_items_with_features():
    pytest.importorskip('faiss')
    x = torch.randn(2000, 3)
    x[200:] = 0
    data = shop(a=x)
    transform = ModalKNNGraph(
        150, None, False, 'faiss', exact_below=0, recall=0.7
    )
    exact = ModalKNNGraph(150, None, False, 'torch')(data)
    found = found_of(transform(data), exact)
    # Cells that hold too few rows are made up for after it was measured.
    assert 0.7 <= transform.recall_['a'] <= found < 1


@pytest.mark.parametrize('backend', ['torch', 'faiss'])
@pytest.mark.parametrize('include_self', [True, False])
def test_items_that_lack_a_modality(backend, include_self):
    """They keep their neighbours, and their weights, in the others."""
    if backend == 'faiss':
        pytest.importorskip('faiss')
    x = {name: torch.randn(30, 8) for name in ('a', 'b')}
    lacking = torch.tensor([0, 7, 8, 29])
    x['a'][lacking] = 0
    weights = {'a': 0.7, 'b': 0.3}
    transform = ModalKNNGraph(4, weights, include_self, backend)
    found = dense(transform(shop(**x))).numpy()
    there = np.delete(np.arange(30), lacking)
    expected = 0.3 * naive(x['b'].numpy(), 4, include_self)
    part = 0.7 * naive(x['a'].numpy()[there], 4, include_self)
    expected[np.ix_(there, there)] += part
    if include_self:
        expected[lacking, lacking] += 0.7
    np.testing.assert_allclose(found, expected, atol=1e-6)
    total = np.ones(30)
    total[lacking] = 1 if include_self else 0.3
    np.testing.assert_allclose(found.sum(axis=1), total, atol=1e-6)
