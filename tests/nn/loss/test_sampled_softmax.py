import math

import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from pyg_sea.nn import SampledSoftmaxLoss
from pyg_sea.nn.loss.solo_sim import MAX_SIMILARITIES


def rows(B=6, num_items=9, D=4):
    x = torch.randn(B, D, dtype=torch.double, requires_grad=True)
    y = torch.randn(num_items, D, dtype=torch.double, requires_grad=True)
    return x, y, torch.randint(num_items, (B,))


def full(x, y, target, temperature):
    cos = F.normalize(x, dim=-1) @ F.normalize(y, dim=-1).t()
    return F.cross_entropy(cos / temperature, target)


@pytest.mark.parametrize('num_negatives', [None, 9, 100])
def test_all_items_make_a_cross_entropy(num_negatives):
    x, y, target = rows()
    loss = SampledSoftmaxLoss(0.3, num_negatives, reverse=0)(x, y, target)
    expected = full(x, y, target, 0.3)
    torch.testing.assert_close(loss, expected)
    grads = torch.autograd.grad(loss, (x, y))
    torch.testing.assert_close(grads, torch.autograd.grad(expected, (x, y)))


class Largest(TorchDispatchMode):
    """The size of the largest tensor that any operation returns."""

    size = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for x in tree_leaves(out):
            if isinstance(x, torch.Tensor):
                self.size = max(self.size, x.numel())
        return out


@pytest.mark.parametrize('training', [False, True])
def test_all_items_are_worked_off_in_chunks(monkeypatch, training):
    x, y, target = rows(B=101, num_items=60)
    loss = SampledSoftmaxLoss(0.3, None if training else 5, reverse=0)
    loss.train(training)
    expected = loss(x, y, target)
    grads = torch.autograd.grad(expected, (x, y))
    monkeypatch.setitem(MAX_SIMILARITIES, 'cpu', 8 * 60)
    with Largest() as largest:
        out = loss(x, y, target)
        out_grads = torch.autograd.grad(out, (x, y))
    torch.testing.assert_close(out, expected)
    torch.testing.assert_close(out_grads, grads)
    assert largest.size <= 8 * 60


def test_closed_forms():
    eye = torch.eye(8, dtype=torch.double)
    for reverse in (0.0, 0.5, 2.0):
        kwargs = {'reverse': reverse}
        loss = SampledSoftmaxLoss(0.5, **kwargs)(eye, eye, torch.arange(8))
        one_way = math.log(1 + 7 * math.exp(-2))
        assert loss.item() == pytest.approx((1 + reverse) * one_way)
        ones = torch.ones(8, 3)
        loss = SampledSoftmaxLoss(**kwargs)(ones, ones, torch.arange(8))
        assert loss.item() == pytest.approx((1 + reverse) * math.log(8))


def written(x, y, target, users, drawn_items, drawn_users, reverse, bias):
    """The formula, one pair after the other, at a temperature of 0.3."""
    cos = F.normalize(x, dim=-1) @ F.normalize(y, dim=-1).t() / 0.3
    losses = []
    for b, t in enumerate(target.tolist()):
        score = cos[b] + bias / 0.3
        items = sum(score[j].exp() for j in drawn_items if j != t)
        others = [c for c in drawn_users if users[c] != users[b]]
        rivals = sum(cos[c, t].exp() for c in others)
        items = items * len(y) / len(drawn_items)
        rivals = rivals * len(x) / len(drawn_users)
        positive = score[t].exp()
        loss = -(positive / (positive + items)).log()
        positive = cos[b, t].exp()
        losses.append(loss - reverse * (positive / (positive + rivals)).log())
    return torch.stack(losses).mean()


def assert_written(loss, x, y, target, users, *args):
    ids = range(len(x)) if users is None else users.tolist()
    none = x.new_zeros(len(y))
    expected = written(x, y, target, ids, *args, loss.reverse, none)
    out = loss(x, y, target, users)
    torch.testing.assert_close(out, expected)
    grads = torch.autograd.grad(out, (x, y))
    torch.testing.assert_close(grads, torch.autograd.grad(expected, (x, y)))


USERS = [None, torch.tensor([5, 0, 5, 5, 2, 0])]


@pytest.mark.parametrize('reverse', [0.0, 0.5, 3.0])
@pytest.mark.parametrize('users', USERS)
def test_sample_is_the_written_formula(monkeypatch, users, reverse):
    x, y, target = rows()
    drawn = {9: torch.tensor([0, 3, 3, int(target[0])])}
    if reverse:  # Nobody is drawn in vain.
        drawn[6] = torch.tensor([1, 2, 2, 5])
    monkeypatch.setattr(
        torch, 'randint', lambda high, size, device: drawn.pop(high)
    )
    lists = drawn[9].tolist(), [1, 2, 2, 5]
    loss = SampledSoftmaxLoss(0.3, num_negatives=4, reverse=reverse)
    assert_written(loss, x, y, target, users, *lists)
    assert not drawn


@pytest.mark.parametrize(
    ('num_negatives', 'training'), [(None, True), (9, True), (4, False)]
)
@pytest.mark.parametrize('users', USERS)
def test_whole_batch_is_the_written_formula(users, num_negatives, training):
    x, y, target = rows()
    loss = SampledSoftmaxLoss(0.3, num_negatives, 0.7).train(training)
    assert_written(loss, x, y, target, users, range(9), range(6))


@pytest.mark.parametrize('reverse', [0.0, 0.7])
@pytest.mark.parametrize('num_negatives', [None, 4])
def test_biases_of_items(monkeypatch, num_negatives, reverse):
    x, y, target = rows()
    bias = torch.randn(9, dtype=torch.double, requires_grad=True)
    drawn = [0, 3, 3, 5] if num_negatives else range(9)
    drawn_users = [1, 2, 2, 5] if num_negatives else range(6)
    draws = {9: torch.tensor([*drawn]), 6: torch.tensor([*drawn_users])}
    monkeypatch.setattr(
        torch, 'randint', lambda high, size, device: draws[high]
    )
    loss = SampledSoftmaxLoss(0.3, num_negatives, reverse)
    args = target, range(6), drawn, drawn_users, reverse, bias
    expected = written(x, y, *args)
    out = loss(x, y, target, bias=bias)
    torch.testing.assert_close(out, expected)
    leaves = (x, y, bias)
    torch.testing.assert_close(
        torch.autograd.grad(out, leaves), torch.autograd.grad(expected, leaves)
    )


@pytest.mark.parametrize('num_negatives', [None, 3])
def test_nobody_competes_with_himself(num_negatives):
    x, y, target = rows()
    losses = []
    for reverse in (0.5, 0.0):
        torch.manual_seed(0)
        loss = SampledSoftmaxLoss(0.3, num_negatives, reverse)
        losses.append(loss(x, y, target, torch.full((6,), 4)))
    torch.testing.assert_close(*losses)
    grads = [torch.autograd.grad(loss, (x, y)) for loss in losses]
    torch.testing.assert_close(*grads)


def test_no_pairs_do_not_fail():
    """Without `sync`, a process may have none."""
    x, y, target = rows()
    assert SampledSoftmaxLoss()(x[:0], y, target[:0]).isnan()


def test_sample_estimates_all_items():
    x, y, target = rows(B=200, num_items=3000)
    sampled = SampledSoftmaxLoss(0.3, num_negatives=500, reverse=0)
    losses = torch.stack([sampled(x, y, target) for _ in range(20)])
    expected = full(x, y, target, 0.3)
    assert losses.mean().item() == pytest.approx(expected.item(), abs=0.02)
    assert losses.std() > 0
    assert sampled.eval()(x, y, target).item() == pytest.approx(
        expected.item()
    )


def test_sample_estimates_all_users():
    x, y, target = rows(B=1000, num_items=30)
    users = torch.randint(400, (1000,))
    sampled = SampledSoftmaxLoss(0.3, num_negatives=200)
    losses = [sampled(x, y, target, users) for _ in range(20)]
    expected = SampledSoftmaxLoss(0.3, None)(x, y, target, users)
    mean = torch.stack(losses).mean()
    assert mean.item() == pytest.approx(expected.item(), abs=0.01)
    assert torch.stack(losses).std() > 0
    out = sampled.eval()(x, y, target, users)
    assert out.item() == pytest.approx(expected.item())


@pytest.mark.parametrize('dtype', [torch.half, torch.bfloat16])
@pytest.mark.parametrize('num_negatives', [None, 4])
def test_half_precision(dtype, num_negatives):
    x, y, target = rows()
    torch.manual_seed(0)
    loss = SampledSoftmaxLoss(0.3, num_negatives)
    expected = loss(x, y, target, USERS[1])
    torch.manual_seed(0)
    out = loss(x.to(dtype), y.to(dtype), target, USERS[1])
    assert out.item() == pytest.approx(expected.item(), rel=0.03)
    assert torch.autograd.grad(out, x)[0].isfinite().all()


@pytest.mark.parametrize('num_negatives', [None, 4])
def test_compile_fullgraph(num_negatives):
    x, y, target = rows()
    loss = SampledSoftmaxLoss(0.3, num_negatives)
    compiled = torch.compile(loss, fullgraph=True, backend='aot_eager')
    outs = []
    for function in (loss, compiled):
        torch.manual_seed(0)
        outs.append(function(x, y, target, USERS[1]))
    torch.testing.assert_close(*outs)


def test_only_the_chosen_item_drawn(monkeypatch):
    """No other item or user is left: nothing to lose, and no NaN."""
    x, y, _ = rows()
    monkeypatch.setattr(
        torch, 'randint', lambda *args, **kwargs: torch.tensor([2])
    )
    same = torch.full((6,), 2)
    loss = SampledSoftmaxLoss(num_negatives=1)(x, y, same, same)
    assert loss.item() == 0
    loss.backward()
    assert x.grad.isfinite().all()


def test_blind_to_length():
    x, y, target = rows()
    loss = SampledSoftmaxLoss(num_negatives=None)
    torch.testing.assert_close(loss(x, y, target), loss(9 * x, y / 7, target))


@pytest.mark.parametrize(
    'kwargs', [{'temperature': 0.0}, {'num_negatives': 0}, {'reverse': -0.1}]
)
def test_rejects(kwargs):
    with pytest.raises(ValueError, match=f"'{next(iter(kwargs))}'"):
        SampledSoftmaxLoss(**kwargs)


def test_repr():
    assert repr(SampledSoftmaxLoss()) == (
        'SampledSoftmaxLoss(temperature=0.2, num_negatives=1024, reverse=0.5)'
    )
