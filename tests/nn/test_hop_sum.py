import pytest
import torch
from torch.autograd import gradcheck
from torch_geometric.utils import to_torch_csr_tensor

from pyg_sea.nn.hop_sum import hop_sum


def graph(n=6, dtype=torch.double):
    dense = (torch.rand(n, n) < 0.4) * torch.rand(n, n, dtype=dtype)
    pair = []
    for matrix in (dense, dense.t()):
        index = matrix.nonzero().t()
        pair.append(
            to_torch_csr_tensor(index, matrix[tuple(index)], size=(n, n))
        )
    return dense, *pair


@pytest.mark.parametrize('K', [0, 1, 2, 4])
def test_is_the_sum_of_powers(K):
    dense, adj, adj_t = graph()
    x = torch.randn(6, 3, dtype=torch.double, requires_grad=True)
    out = hop_sum(x, adj, adj_t, K)
    powers = sum(torch.linalg.matrix_power(dense, k) for k in range(K + 1))
    torch.testing.assert_close(out, powers @ x)
    assert gradcheck(lambda x: hop_sum(x, adj, adj_t, K), x)


def test_does_not_hand_out_its_input():
    _, adj, adj_t = graph()
    x = torch.randn(6, 3, dtype=torch.double)
    assert hop_sum(x, adj, adj_t, 0).data_ptr() != x.data_ptr()


def test_keeps_no_rows_for_the_backward_pass():
    _, adj, adj_t = graph()
    saved = []
    with torch.autograd.graph.saved_tensors_hooks(
        lambda x: saved.append(x) or x, lambda x: x
    ):
        x = torch.randn(6, 3, dtype=torch.double, requires_grad=True)
        hop_sum(x, adj, adj_t, 2)
    assert not saved


def test_has_no_second_derivative():
    _, adj, adj_t = graph()
    x = torch.randn(6, 3, dtype=torch.double, requires_grad=True)
    [grad] = torch.autograd.grad(
        hop_sum(x, adj, adj_t, 2).square().sum(), x, create_graph=True
    )
    with pytest.raises(RuntimeError, match='once_differentiable'):
        grad.sum().backward()


@pytest.mark.parametrize('dtype', [torch.float, torch.bfloat16])
def test_autocast_stays_out_of_both_directions(dtype):
    dense, adj, adj_t = graph(dtype=torch.float)
    x = torch.randn(6, 3).to(dtype).requires_grad_()
    weight = torch.randn(6, 3)
    with torch.autocast('cpu', torch.bfloat16):
        out = hop_sum(x, adj, adj_t, 2)
        (out * weight).sum().backward()
    powers = torch.eye(6) + dense + dense @ dense
    assert out.dtype == torch.float
    torch.testing.assert_close(out, powers @ x.float())
    assert x.grad.dtype == dtype
    torch.testing.assert_close(x.grad, (powers.t() @ weight).to(dtype))
