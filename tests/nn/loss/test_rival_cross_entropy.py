import math

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

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


@pytest.mark.parametrize('chunk_size', [2, 100])
def test_biases_are_one_more_column(chunk_size):
    positive, x, y = inputs()
    bias = torch.randn(4, dtype=torch.double, requires_grad=True)
    leaves = (positive, x, y, bias)
    ids = X_IDS, Y_IDS, 0.3, chunk_size
    out = rival_cross_entropy(positive, x, y, *ids, bias)
    wider = (
        torch.cat([x, torch.ones(5, 1)], 1),
        torch.cat([y, bias[:, None]], 1),
    )
    expected = written(positive, *wider, 0.3)
    torch.testing.assert_close(out, expected)
    torch.testing.assert_close(
        torch.autograd.grad(2.5 * out, leaves),
        torch.autograd.grad(2.5 * expected, leaves),
    )
    # They alone may want a gradient.
    fixed = positive.detach(), x.detach(), y.detach()
    out = rival_cross_entropy(*fixed, *ids, bias)
    [grad] = torch.autograd.grad(out, bias)
    expected = written(
        fixed[0],
        fixed[1] @ fixed[2].t() + bias,
        torch.eye(4).double(),
        0.3,
    )
    [wanted] = torch.autograd.grad(expected, bias)
    torch.testing.assert_close(grad, wanted)


@pytest.mark.parametrize('dtype', [torch.half, torch.bfloat16])
def test_biases_are_not_rounded(dtype):
    positive, x, y = (arg.detach() for arg in inputs(torch.float))
    x, y = torch.zeros_like(x).to(dtype), y.to(dtype)
    bias = torch.tensor([0.0, 1.0009765, -2.0009765, 3.0009765])
    out = rival_cross_entropy(positive, x, y, X_IDS, Y_IDS, 1.0, 3, bias)
    expected = written(
        positive, x.float() @ y.float().t() + bias, torch.eye(4), 1.0
    )
    torch.testing.assert_close(out, expected, rtol=1e-6, atol=1e-6)


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


@pytest.mark.parametrize('num_rows', [0, 5])
def test_no_rivals_at_all(num_rows):
    """Nothing to lose; the mean over no rows is no number."""
    positive, x, _ = inputs()
    y = torch.empty(0, 3, dtype=torch.double, requires_grad=True)
    args = [positive[:num_rows], x[:num_rows], y]
    out = rival_cross_entropy(*args, X_IDS[:num_rows], Y_IDS[:0], 1.0, 2)
    assert out.isnan() if num_rows == 0 else out.item() == 0
    for grad in torch.autograd.grad(out, (positive, x, y)):
        assert not grad.any()


def test_no_rows():
    """As a process has that got no share of a batch."""
    positive, x, y = inputs()
    args = [positive[:0], x[:0], y]
    out = rival_cross_entropy(*args, X_IDS[:0], Y_IDS, 2.0, 2)
    grads = torch.autograd.grad(out.expand(0).sum(), (positive, x, y))
    assert not any(grad.any() for grad in grads)


@pytest.mark.parametrize('dtype', [torch.half, torch.bfloat16])
def test_many_chunks_add_up_in_half_precision(dtype):
    """A running sum in half precision would come to a halt."""
    x, y = torch.ones(5000, 1, dtype=dtype), torch.zeros(1, 1, dtype=dtype)
    ids = torch.zeros(5000, dtype=torch.long)
    y.requires_grad_()
    out = rival_cross_entropy(
        torch.zeros(5000, dtype=dtype), x, y, ids, ids[:1] + 1, 1.0, 4
    )
    out.backward()
    # Half a chance of losing.
    assert out.item() == pytest.approx(math.log(2), rel=0.01)
    assert y.grad.item() == pytest.approx(0.5, rel=0.01)


def test_no_gradients_are_computed_in_vain():
    wanted, plain = inputs(), [arg.detach() for arg in inputs()]
    product = 2 * 5 * 4 * 3
    for args, enabled, products in (
        (wanted, True, 3),
        (wanted, False, 1),
        (plain, True, 1),
    ):
        with (
            torch.set_grad_enabled(enabled),
            FlopCounterMode(display=False) as counter,
        ):
            out = rival_cross_entropy(*args, X_IDS, Y_IDS, 2.0, 3)
        assert counter.get_total_flops() == products * product
        assert out.requires_grad == (products == 3)


def test_has_no_second_derivative():
    args = inputs()
    out = rival_cross_entropy(*args, X_IDS, Y_IDS, 2.0, 3)
    [grad] = torch.autograd.grad(out.square(), args[1], create_graph=True)
    with pytest.raises(RuntimeError, match='once_differentiable'):
        grad.sum().backward()
