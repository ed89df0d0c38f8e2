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
    loss = SampledSoftmaxLoss(0.3, num_negatives)(x, y, target)
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
    loss = SampledSoftmaxLoss(0.3, None if training else 5).train(training)
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
    loss = SampledSoftmaxLoss(0.5)(eye, eye, torch.arange(8))
    assert loss.item() == pytest.approx(math.log(1 + 7 * math.exp(-2)))
    ones = torch.ones(8, 3)
    loss = SampledSoftmaxLoss()(ones, ones, torch.arange(8))
    assert loss.item() == pytest.approx(math.log(8))


def test_sample_is_the_written_formula(monkeypatch):
    x, y, target = rows(num_items=7)
    drawn = torch.tensor([0, 3, 3, int(target[0])])
    monkeypatch.setattr(torch, 'randint', lambda *args, **kwargs: drawn)
    loss = SampledSoftmaxLoss(0.3, num_negatives=4)(x, y, target)
    cos = F.normalize(x, dim=-1) @ F.normalize(y, dim=-1).t() / 0.3
    expected = []
    for row, chosen in zip(cos, target):
        others = sum(row[j].exp() for j in drawn if j != chosen)
        expected.append(
            -(row[chosen] - (row[chosen].exp() + 7 / 4 * others).log())
        )
    torch.testing.assert_close(loss, torch.stack(expected).mean())


def test_sample_estimates_all_items():
    x, y, target = rows(B=200, num_items=3000)
    sampled = SampledSoftmaxLoss(0.3, num_negatives=500)
    losses = torch.stack([sampled(x, y, target) for _ in range(20)])
    expected = full(x, y, target, 0.3)
    assert losses.mean().item() == pytest.approx(expected.item(), abs=0.02)
    assert losses.std() > 0
    assert sampled.eval()(x, y, target).item() == pytest.approx(
        expected.item()
    )


def test_only_the_chosen_item_drawn(monkeypatch):
    """No other item is left: nothing to lose, and no NaN."""
    x, y, _ = rows()
    monkeypatch.setattr(
        torch, 'randint', lambda *args, **kwargs: torch.tensor([2])
    )
    loss = SampledSoftmaxLoss(num_negatives=1)(x, y, torch.full((6,), 2))
    assert loss.item() == 0
    loss.backward()
    assert x.grad.isfinite().all()


def test_blind_to_length():
    x, y, target = rows()
    loss = SampledSoftmaxLoss(num_negatives=None)
    torch.testing.assert_close(loss(x, y, target), loss(9 * x, y / 7, target))


@pytest.mark.parametrize(
    'kwargs', [{'temperature': 0.0}, {'num_negatives': 0}]
)
def test_rejects(kwargs):
    with pytest.raises(ValueError, match=f"'{next(iter(kwargs))}'"):
        SampledSoftmaxLoss(**kwargs)


def test_repr():
    assert repr(SampledSoftmaxLoss()) == (
        'SampledSoftmaxLoss(temperature=0.2, num_negatives=1024)'
    )
