import math

import pytest
import torch

from pyg_sea.nn.loss.rival_cross_entropy import rival_cross_entropy


def inputs(dtype=torch.double):
    args = [
        torch.randn(*shape, dtype=dtype) for shape in [(5,), (5, 3), (4, 3)]
    ]
    return [arg.requires_grad_() for arg in args]


X_IDS, Y_IDS = torch.tensor([0, 1, 2, 2, 9]), torch.tensor([2, 0, 2, 7])


def written(positive, x, y, scale):
    losses = []
    for b in range(5):
        rivals = [
            (x[b] @ y[k]).exp() for k in range(4) if Y_IDS[k] != X_IDS[b]
        ]
        mass = positive[b].exp() + scale * sum(rivals)
        losses.append(mass.log() - positive[b])
    return torch.stack(losses).mean()


@pytest.mark.parametrize('chunk_size', [1, 2, 5, 100])
@pytest.mark.parametrize('scale', [1.0, 0.3, 700.0])
def test_is_the_written_formula(scale, chunk_size):
    args = inputs()
    out = rival_cross_entropy(*args, X_IDS, Y_IDS, scale, chunk_size)
    expected = written(*args, scale)
    torch.testing.assert_close(out, expected)
    grads = torch.autograd.grad(2.5 * out, args)
    torch.testing.assert_close(
        grads, torch.autograd.grad(2.5 * expected, args)
    )


def test_large_logits():
    positive, x, y = inputs()
    args = [positive * 1e4, x * 1e4, y]
    out = rival_cross_entropy(*args, X_IDS, Y_IDS, 2.0, 3)
    assert out.isfinite()
    grads = torch.autograd.grad(out, (positive, x, y))
    assert all(grad.isfinite().all() for grad in grads)


def test_without_rivals():
    """Nothing to lose, with gradients of 0."""
    args = inputs()
    same = torch.full((5,), 3), torch.full((4,), 3)
    out = rival_cross_entropy(*args, *same, 1.0, 2)
    assert out.item() == 0
    for grad in torch.autograd.grad(out, args):
        assert not grad.any()


def test_closed_form():
    x, ids = torch.eye(6), torch.arange(6)
    out = rival_cross_entropy(torch.ones(6), x, x, ids, ids, 1.0, 4)
    assert out.item() == pytest.approx(math.log(1 + 5 / math.e))


@pytest.mark.parametrize('dtype', [torch.half, torch.bfloat16])
def test_half_precision(dtype):
    args = inputs()
    expected = rival_cross_entropy(*args, X_IDS, Y_IDS, 2.0, 3)
    half = [arg.detach().to(dtype).requires_grad_() for arg in args]
    out = rival_cross_entropy(*half, X_IDS, Y_IDS, 2.0, 3)
    assert out.dtype == dtype
    assert out.item() == pytest.approx(expected.item(), rel=0.03)
    grads = torch.autograd.grad(expected, args)
    for a, b in zip(torch.autograd.grad(out, half), grads):
        assert a.dtype == dtype
        torch.testing.assert_close(a.double(), b, atol=0.03, rtol=0.05)


def test_autocast():
    args = inputs(torch.float)
    expected = rival_cross_entropy(*args, X_IDS, Y_IDS, 2.0, 3)
    with torch.autocast('cpu', torch.bfloat16):
        out = rival_cross_entropy(*args, X_IDS, Y_IDS, 2.0, 3)
    assert out.item() == pytest.approx(expected.item(), rel=0.02)
    grads = torch.autograd.grad(expected, args)
    for a, b in zip(torch.autograd.grad(out, args), grads):
        torch.testing.assert_close(a, b, atol=0.02, rtol=0.05)


def test_no_gradients_are_computed_in_vain():
    args = [arg.detach() for arg in inputs()]
    out = rival_cross_entropy(*args, X_IDS, Y_IDS, 2.0, 3)
    assert not out.requires_grad
