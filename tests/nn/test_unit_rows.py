import pytest
import torch
import torch.nn.functional as F
from torch.autograd import gradcheck

from pyg_sea.nn.unit_rows import unit_rows


@pytest.mark.parametrize('shape', [(5, 3), (4, 2, 3)])
def test_is_normalize(shape):
    x = torch.randn(shape, dtype=torch.double, requires_grad=True)
    torch.testing.assert_close(unit_rows(x), F.normalize(x, dim=-1))
    assert gradcheck(unit_rows, x)


def test_short_rows():
    x = torch.tensor([[0.0, 0.0], [3e-13, 4e-13], [3.0, 4.0]]).double()
    grad = torch.randn(3, 2, dtype=torch.double)
    results = []
    for function in (unit_rows, lambda x: F.normalize(x, dim=-1)):
        leaf = x.clone().requires_grad_()
        out = function(leaf)
        out.backward(grad)
        results.append((out.detach(), leaf.grad))
    torch.testing.assert_close(*results)
    assert results[0][1].isfinite().all()


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_zero_rows_in_half_precision(dtype):
    x = torch.tensor([[0.0, 0.0], [3.0, 4.0]], dtype=dtype, requires_grad=True)
    out = unit_rows(x)
    assert out[0].tolist() == [0, 0]
    torch.testing.assert_close(
        out[1], torch.tensor([0.6, 0.8], dtype=dtype), rtol=1e-2, atol=0
    )


def test_backward_under_autocast():
    x = torch.randn(50, 16, requires_grad=True)
    weight = torch.randn(50, 16)
    [expected] = torch.autograd.grad((unit_rows(x) * weight).sum(), x)
    out = (unit_rows(x) * weight).sum()
    with torch.autocast('cpu', torch.bfloat16):
        [grad] = torch.autograd.grad(out, x)
    torch.testing.assert_close(grad, expected, rtol=0, atol=0)
