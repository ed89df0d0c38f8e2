"""PyG takes torch-scatter up by itself; results must not depend on it."""

import pytest
import torch
import torch_geometric.typing
from torch_geometric.utils import scatter, segment, softmax

from pyg_sea.nn import ModalGCNConv

torch_scatter = pytest.importorskip(
    'torch_scatter', reason='torch-scatter is not installed'
)

INDEX = torch.tensor([0, 0, 1, 3, 3, 3])
PTR = torch.tensor([0, 2, 3, 3, 6])


def conv(x, aggr):
    torch.manual_seed(0)
    module = ModalGCNConv(4, 4, aggr=aggr).to(x.dtype)
    edge_index = torch.tensor([[0, 1, 1, 3, 4, 5], [3, 4, 5, 0, 1, 1]])
    edge_weight = x[:, 0].square()
    return module((x[:3], x[3:]), edge_index, edge_weight)


OPERATORS = {
    **{
        f'scatter-{reduce}': lambda x, reduce=reduce: scatter(
            x, INDEX, dim_size=4, reduce=reduce
        )
        for reduce in ('sum', 'mean', 'min', 'max')
    },
    **{
        f'segment-{reduce}': lambda x, reduce=reduce: segment(x, PTR, reduce)
        for reduce in ('sum', 'mean', 'min', 'max')
    },
    'softmax-index': lambda x: softmax(x, INDEX),
    'softmax-ptr': lambda x: softmax(x, ptr=PTR),
    **{
        f'conv-{aggr}': lambda x, aggr=aggr: conv(x, aggr)
        for aggr in ('sum', 'mean', 'max')
    },
}


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
@pytest.mark.parametrize('name', OPERATORS)
def test_both_paths_agree(name, dtype, monkeypatch):
    x = torch.randn(6, 4, dtype=dtype, requires_grad=True)
    outs, grads = [], []
    for with_scatter in (False, True):
        monkeypatch.setattr(
            torch_geometric.typing, 'WITH_TORCH_SCATTER', with_scatter
        )
        out = OPERATORS[name](x)
        [grad] = torch.autograd.grad(out.square().sum(), x)
        outs.append(out)
        grads.append(grad)
    torch.testing.assert_close(*outs)
    torch.testing.assert_close(*grads)


def test_it_is_taken_up(monkeypatch):
    calls = []
    original = torch_scatter.segment_csr
    monkeypatch.setattr(
        torch_scatter,
        'segment_csr',
        lambda *args, **kwargs: calls.append(1) or original(*args, **kwargs),
    )
    segment(torch.randn(6, 4), PTR)
    assert calls
