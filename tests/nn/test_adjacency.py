import copy

import pytest
import torch
from torch_geometric import EdgeIndex
from torch_geometric.nn import LGConv
from torch_geometric.utils import to_torch_csr_tensor

from pyg_sea.nn.adjacency import AdjacencyCache

EDGE_INDEX = torch.tensor([[0, 1, 2, 2, 3], [2, 2, 0, 1, 1]])


@pytest.mark.parametrize('normalize', [True, False])
@pytest.mark.parametrize('weighted', [True, False])
def test_propagates_as_the_raw_edges(normalize, weighted):
    x = torch.randn(5, 3)
    weight = torch.rand(5) if weighted else None
    cache = AdjacencyCache(normalize)
    adj, none = cache(EDGE_INDEX, weight, 5, x.dtype)
    assert adj.layout == torch.sparse_csr
    assert none is None
    out = LGConv(normalize=False)(x, adj)
    expected = LGConv(normalize=normalize)(x, EDGE_INDEX, weight)
    torch.testing.assert_close(out, expected)


def test_converts_once_per_graph():
    cache = AdjacencyCache(normalize=True)
    edge_index = EDGE_INDEX.clone()
    weight = torch.ones(5)
    first = cache(edge_index, weight, 4, torch.float)[0]
    assert cache(edge_index, weight, 4, torch.float)[0] is first
    assert cache(edge_index, None, 4, torch.float)[0] is not first


def test_sees_every_change():
    cache = AdjacencyCache(normalize=True)
    edge_index, weight = EDGE_INDEX.clone(), torch.ones(5)

    def value():
        return cache(edge_index, weight, 4, torch.float)[0].to_dense()

    before = value()
    weight[0] = 7.0
    assert not torch.equal(value(), before)
    before = value()
    edge_index[1, 4] = 0
    assert not torch.equal(value(), before)
    assert cache(edge_index, weight, 9, torch.float)[0].shape == (9, 9)
    out = cache(edge_index, weight, 9, torch.double)[0]
    assert out.dtype == torch.double


def test_a_freed_tensor_is_no_hit():
    """A new tensor may get the id of a freed one."""
    cache = AdjacencyCache(normalize=False)
    for fill in range(50):
        weight = torch.full((5,), float(fill))
        adj = cache(EDGE_INDEX, weight, 4, torch.float)[0]
        assert (adj.values() == fill).all()
        del weight


def test_leaves_alone_what_it_must_not_convert():
    weight = torch.rand(5, requires_grad=True)
    cache = AdjacencyCache(normalize=True)
    edge_index, out = cache(EDGE_INDEX, weight, 4, torch.float)
    assert torch.equal(edge_index, EDGE_INDEX)
    assert out.requires_grad

    adj = to_torch_csr_tensor(EDGE_INDEX, size=(4, 4))
    cache = AdjacencyCache(normalize=False)
    assert cache(adj, None, 4, torch.float)[0] is adj


def test_normalizes_a_sparse_matrix():
    pairs = torch.cat([EDGE_INDEX, EDGE_INDEX.flip(0)], dim=1).unique(dim=1)
    adj = to_torch_csr_tensor(pairs, size=(4, 4))
    cache = AdjacencyCache(normalize=True)
    out = cache(adj, None, 4, torch.float)[0].to_dense()
    expected = cache(pairs, None, 4, torch.float)[0].to_dense()
    torch.testing.assert_close(out, expected)
    assert (
        cache(adj, None, 4, torch.float)[0]
        is (cache(adj, None, 4, torch.float)[0])
    )


def test_copies_start_empty():
    cache = AdjacencyCache(normalize=True)
    cache(EDGE_INDEX, None, 4, torch.float)
    other = copy.deepcopy(cache)
    assert other.normalize
    assert other._value is None
    cache.clear()
    assert cache._value is None


def test_inference_mode_leaves_no_trace():
    """What was cached there has to serve a training step later."""
    cache = AdjacencyCache(normalize=True)
    weight = torch.ones(5)
    with torch.inference_mode():
        adj, _ = cache(EDGE_INDEX, weight, 4, torch.float)
        made_inside = cache(EDGE_INDEX.clone(), None, 4, torch.float)
    assert not adj.is_inference()
    assert made_inside[0].shape == EDGE_INDEX.shape
    x = torch.randn(4, 2, requires_grad=True)
    LGConv(normalize=False)(x, adj).sum().backward()
    assert x.grad.isfinite().all()


def test_edge_index_of_pyg():
    edge_index = EdgeIndex(EDGE_INDEX, sparse_size=(4, 4))
    out = AdjacencyCache(normalize=True)(edge_index, None, 4, torch.float)[0]
    expected = AdjacencyCache(normalize=True)(
        EDGE_INDEX, None, 4, torch.float
    )[0]
    assert torch.equal(out.to_dense(), expected.to_dense())


def test_rejects_weights_beside_a_sparse_matrix():
    adj = to_torch_csr_tensor(EDGE_INDEX, size=(4, 4))
    cache = AdjacencyCache(normalize=True)
    with pytest.raises(ValueError, match='cannot go with a sparse'):
        cache(adj, torch.ones(5), 4, torch.float)


def test_transpose_is_made_once():
    cache = AdjacencyCache(normalize=False)
    weight = torch.rand(5)
    adj, _ = cache(EDGE_INDEX, weight, 4, torch.float)
    adj_t = cache.transposed(adj)
    assert torch.equal(adj_t.to_dense(), adj.to_dense().t())
    assert cache.transposed(adj) is adj_t
    cache(EDGE_INDEX, None, 4, torch.float)
    assert cache.transposed(adj) is None


def test_symmetric_graph_is_its_own_transpose():
    cache = AdjacencyCache(normalize=True)
    pairs = torch.cat([EDGE_INDEX, EDGE_INDEX.flip(0)], dim=1).unique(dim=1)
    adj, _ = cache(pairs, None, 4, torch.float)
    assert cache.transposed(adj) is adj


def test_transposes_only_what_it_made():
    cache = AdjacencyCache(normalize=False)
    adj = to_torch_csr_tensor(EDGE_INDEX, size=(4, 4))
    assert cache.transposed(cache(adj, None, 4, torch.float)[0]) is None


def test_sparse_weights_keep_their_gradient():
    weight = torch.rand(5, requires_grad=True)
    adj = to_torch_csr_tensor(EDGE_INDEX, weight, size=(4, 4))
    out, _ = AdjacencyCache(normalize=True)(adj, None, 4, torch.float)
    out.to_dense().sum().backward()
    assert weight.grad is not None


@pytest.mark.parametrize('normalize', [True, False])
def test_sparse_values_take_the_type_of_the_rows(normalize):
    adj = to_torch_csr_tensor(EDGE_INDEX, torch.rand(5).double(), size=(4, 4))
    out, _ = AdjacencyCache(normalize)(adj, None, 4, torch.float)
    assert out.dtype == torch.float
