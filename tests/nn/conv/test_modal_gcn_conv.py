import sys

import pytest
import torch
import torch.nn.functional as F
from torch_geometric.nn import LightGCN
from torch_geometric.nn.conv.gcn_conv import gcn_norm
from torch_geometric.testing import assert_module
from torch_geometric.utils import scatter, to_torch_csr_tensor

from pyg_sea.nn import ModalGCNConv

NUM_USERS, NUM_ITEMS = 6, 5


def bipartite(num_edges: int = 14) -> torch.Tensor:
    """Distinct edges, both directions; user 5 and item 4 have none."""
    pairs = torch.randperm((NUM_USERS - 1) * (NUM_ITEMS - 1))[:num_edges]
    user = pairs // (NUM_ITEMS - 1)
    item = pairs % (NUM_ITEMS - 1) + NUM_USERS
    edge_index = torch.stack([user, item])
    return torch.cat([edge_index, edge_index.flip(0)], dim=1)


@pytest.fixture
def x():
    return torch.randn(NUM_USERS, 8), torch.randn(NUM_ITEMS, 12)


def dense_reference(conv, x, edge_index, edge_weight=None):
    """Eq. 6-7 with dense matrices."""
    num_nodes = NUM_USERS + NUM_ITEMS
    adj = torch.zeros(num_nodes, num_nodes)
    weight = torch.ones(edge_index.size(1))
    adj[edge_index[1], edge_index[0]] = (
        weight if edge_weight is None else edge_weight
    )
    degree = adj.sum(dim=1)
    scale = torch.where(degree > 0, degree, torch.inf).rsqrt()
    adj = scale[:, None] * adj * scale
    h = torch.cat([x[0], conv.mlp(x[1])])
    h = h / h.norm(dim=1, keepdim=True)
    return h + adj @ h + adj @ adj @ h


@pytest.mark.parametrize('weighted', [False, True])
def test_equals_dense_reference(x, weighted):
    edge_index = bipartite()
    edge_weight = None
    if weighted:
        half = torch.rand(edge_index.size(1) // 2) + 0.1
        edge_weight = torch.cat([half, half])
    conv = ModalGCNConv(12, 8)
    out = conv(x, edge_index, edge_weight)
    expected = dense_reference(conv, x, edge_index, edge_weight)
    torch.testing.assert_close(out, expected)


@pytest.mark.filterwarnings('ignore:Sparse')
def test_layouts_agree(x):
    edge_index = bipartite()
    num_nodes = NUM_USERS + NUM_ITEMS
    conv = ModalGCNConv(12, 8)
    expected = conv(x, edge_index)

    norm = gcn_norm(edge_index, None, num_nodes, add_self_loops=False)
    conv.normalize = False
    torch.testing.assert_close(conv(x, *norm), expected)
    adj = to_torch_csr_tensor(
        norm[0].flip(0), norm[1], size=(num_nodes, num_nodes)
    )
    torch.testing.assert_close(conv(x, adj), expected)

    conv.normalize = True
    raw = to_torch_csr_tensor(edge_index, size=(num_nodes, num_nodes))
    torch.testing.assert_close(conv(x, raw), expected)


def test_assert_module(x):
    conv = ModalGCNConv(12, 8)
    assert str(conv) == 'ModalGCNConv(12, 8, K=2)'
    assert conv.hidden_channels == 32
    # `gcn_norm` knows no CSC, so the layouts are tested without it.
    conv.normalize = False
    assert_module(
        conv,
        x,
        bipartite(),
        expected_size=(NUM_USERS + NUM_ITEMS, 8),
        sparse_size=(NUM_USERS + NUM_ITEMS,) * 2,
        atol=1e-6,
    )


def test_shared_propagation_equals_one_by_one(x):
    edge_index = bipartite()
    convs = [ModalGCNConv(12, 8), ModalGCNConv(12, 8), ModalGCNConv(12, 8)]
    stacked = torch.cat([conv.encode(x) for conv in convs], dim=-1)
    out = convs[0].propagate_hops(stacked, edge_index)
    for block, conv in zip(out.split(8, dim=-1), convs):
        torch.testing.assert_close(block, conv(x, edge_index))


def test_linear_encoder_equals_lightgcn(x):
    """LightGCN with all layer weights 1, on the same normalized rows."""
    edge_index = bipartite()
    conv = ModalGCNConv(12, 8, hidden_channels=0)
    assert sum(p.numel() for p in conv.parameters()) == 12 * 8 + 8

    model = LightGCN(NUM_USERS + NUM_ITEMS, 8, num_layers=2, alpha=1.0)
    rows = torch.cat([x[0], conv.mlp.lins[0](x[1])])
    model.embedding.weight.data = F.normalize(rows.detach())
    out = conv(x, edge_index)
    torch.testing.assert_close(out, model.get_embedding(edge_index))


def test_degree_zero_keeps_its_row_and_stays_finite(x):
    conv = ModalGCNConv(12, 8)
    out = conv(x, bipartite())
    alone = [NUM_USERS - 1, NUM_USERS + NUM_ITEMS - 1]
    torch.testing.assert_close(out[alone], conv.encode(x)[alone])

    empty = torch.empty(2, 0, dtype=torch.long)
    torch.testing.assert_close(conv(x, empty), conv.encode(x))


def test_zero_rows_have_finite_gradients():
    conv = ModalGCNConv(12, 8)
    user = torch.zeros(NUM_USERS, 8, requires_grad=True)
    conv((user, torch.zeros(NUM_ITEMS, 12)), bipartite()).sum().backward()
    assert user.grad.isfinite().all()
    assert all(p.grad.isfinite().all() for p in conv.parameters())


def test_integer_weights_count_repeated_edges(x):
    edge_index = bipartite()
    conv = ModalGCNConv(12, 8)
    count = torch.ones(edge_index.size(1), dtype=torch.long)
    count[[0, edge_index.size(1) // 2]] = 3
    repeated = torch.repeat_interleave(edge_index, count, dim=1)
    torch.testing.assert_close(conv(x, edge_index, count), conv(x, repeated))


def test_gradients_reach_users_items_and_weights(x):
    edge_index = bipartite()
    weight = torch.rand(edge_index.size(1), requires_grad=True)
    conv = ModalGCNConv(12, 8)
    leaves = tuple(t.requires_grad_() for t in x)
    conv(leaves, edge_index, weight).square().sum().backward()
    for tensor in (*leaves, weight, *conv.parameters()):
        assert tensor.grad is not None
        assert tensor.grad.abs().sum() > 0


def test_reset_parameters_and_hops(x):
    conv = ModalGCNConv(12, 8, K=0)
    torch.testing.assert_close(conv(x, bipartite()), conv.encode(x))
    before = conv.mlp.lins[0].weight.clone()
    conv.reset_parameters()
    assert not torch.equal(before, conv.mlp.lins[0].weight)


def test_compile_fullgraph(x):
    edge_index = bipartite()
    conv = ModalGCNConv(12, 8)
    for backend in ('aot_eager', 'inductor'):
        compiled = torch.compile(conv, fullgraph=True, backend=backend)
        out = compiled(x, edge_index)
        torch.testing.assert_close(out, conv(x, edge_index))


@pytest.mark.parametrize('hidden_channels', [None, 0])
def test_items_of_other_precision_are_read_in_chunks(x, hidden_channels):
    edge_index = bipartite()
    conv = ModalGCNConv(12, 8, hidden_channels)
    half = x[1].half()
    expected = conv((x[0], half.float()), edge_index)
    grads = torch.autograd.grad(expected.square().sum(), conv.parameters())
    out = conv((x[0], half), edge_index)
    torch.testing.assert_close(out, expected)
    found = torch.autograd.grad(out.square().sum(), conv.parameters())
    torch.testing.assert_close(found, grads)

    compiled = torch.compile(conv, fullgraph=True, backend='aot_eager')
    torch.testing.assert_close(compiled((x[0], half), edge_index), expected)


def test_large_items_are_read_in_chunks(x, monkeypatch):
    conv = ModalGCNConv(12, 8)
    expected = conv.encode(x)
    module = sys.modules['pyg_sea.nn.chunked_linear']
    monkeypatch.setattr(module, '_LARGE_NUMEL', x[1].numel())
    monkeypatch.setattr(module, '_CHUNK_NUMEL', 24)
    torch.testing.assert_close(conv.encode(x), expected)


def test_items_in_memory_take_the_plain_way(x, monkeypatch):
    conv = ModalGCNConv(12, 8)
    monkeypatch.delattr('pyg_sea.nn.conv.modal_gcn_conv.chunked_linear')
    assert torch.equal(conv.encode_items(x[1]), conv.mlp(x[1]))
    with pytest.raises(NameError):
        conv.encode_items(x[1].half())


def test_items_may_stay_on_another_device(x):
    conv = ModalGCNConv(12, 8).to('meta')
    out = conv.encode((x[0].to('meta'), x[1]))
    assert (out.device.type, out.shape) == ('meta', (11, 8))


def test_propagation_is_linear_and_bounded(x):
    """The normalized adjacency has spectral radius 1 at most."""
    edge_index = bipartite()
    conv = ModalGCNConv(12, 8, K=1)
    h = conv.encode(x)
    hop = conv.propagate_hops(h, edge_index) - h
    assert hop.norm() <= h.norm() * (1 + 1e-6)
    degree = scatter(torch.ones(edge_index.size(1)), edge_index[1])
    eigenvector = torch.zeros(h.size(0), 1)
    eigenvector[: degree.size(0)] = degree.sqrt().view(-1, 1)
    hop = conv.propagate_hops(eigenvector, edge_index) - eigenvector
    torch.testing.assert_close(hop, eigenvector)


@pytest.mark.parametrize(
    ('args', 'match'),
    [
        ((0, 8), 'in_channels'),
        ((12, 0), 'out_channels'),
        ((12, 8, None, -1), "'K'"),
        ((12, 8, -1), 'hidden_channels'),
    ],
)
def test_rejects_arguments(args, match):
    with pytest.raises(ValueError, match=match):
        ModalGCNConv(*args)


def test_rejects_input(x):
    conv = ModalGCNConv(12, 8)
    with pytest.raises(ValueError, match=r'\[num_users, 8\]'):
        conv((torch.randn(3, 7), x[1]), bipartite())
    with pytest.raises(ValueError, match=r'\[num_items, 12\]'):
        conv((x[0], torch.randn(3, 7)), bipartite())
    with pytest.raises(ValueError, match='pair'):
        conv(x[0], bipartite())
    sparse = torch.eye(NUM_USERS + NUM_ITEMS).to_sparse_coo()
    with pytest.raises(ValueError, match='cannot go with a sparse'):
        conv(x, sparse, torch.ones(NUM_USERS + NUM_ITEMS))
