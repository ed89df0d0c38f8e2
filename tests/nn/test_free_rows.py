import pytest
import torch

from pyg_sea.nn.free_rows import drop_rows, start_rows


@pytest.mark.parametrize('width', [16, 256])
def test_rows_start_at_a_length(width):
    rows = [torch.empty(500, width), torch.empty(300, width)]
    start_rows(rows, 0.01)
    for x in rows:
        length = x.norm(dim=1).mean().item()
        assert length == pytest.approx(0.01, rel=0.05)
        assert abs(x.mean().item()) < 1e-3 / width**0.5


def test_without_a_length_rows_are_xavier_normal():
    x = torch.empty(300, 100)
    start_rows([x], None)
    assert x.std().item() == pytest.approx((2 / 400) ** 0.5, rel=0.05)


def test_parameters_take_new_values():
    weight = torch.nn.Parameter(torch.zeros(5, 4))
    start_rows([weight], 1.0)
    assert weight.any(dim=1).all()
    assert weight.requires_grad


def test_whole_rows_are_dropped():
    x = torch.rand(2000, 3) + 1
    out = drop_rows(x, 0.25)
    gone = ~out.any(dim=1)
    assert gone.float().mean().item() == pytest.approx(0.25, abs=0.04)
    assert torch.equal(out[~gone], x[~gone])
    assert not torch.equal(drop_rows(x, 0.25), out)


def test_dropped_rows_get_no_gradient():
    x = torch.ones(100, 2, requires_grad=True)
    out = drop_rows(x, 0.5)
    out.sum().backward()
    assert torch.equal(x.grad, out.detach())
