import math

import pytest
import torch
import torch.nn.functional as F

from pyg_sea.nn import SoloSimLoss
from pyg_sea.nn.loss import solo_sim


def naive(x, y, temperature=0.2):
    """Eq. 16, row by row."""
    loss = 0.0
    for i in range(len(x)):
        cos = torch.stack(
            [F.cosine_similarity(x[i], y[j], dim=0) for j in range(len(y))]
        )
        loss = loss - (cos / temperature).log_softmax(dim=0)[i]
    return loss / len(x)


def grads(loss_fn, x, y):
    x, y = x.clone().requires_grad_(), y.clone().requires_grad_()
    loss = loss_fn(x, y)
    loss.backward()
    return loss.detach(), x.grad, y.grad


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
@pytest.mark.parametrize('chunk_size', ['auto', None, 1, 7, 16, 1000])
def test_equals_naive(dtype, chunk_size):
    x, y = torch.randn(2, 23, 6, dtype=dtype)
    out = grads(SoloSimLoss(chunk_size=chunk_size), x, y)
    torch.testing.assert_close(out, grads(naive, x, y))


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
@pytest.mark.parametrize('name', ['_fused', '_checkpointed'])
def test_both_chunked_forms_equal_naive(dtype, name):
    if name == '_fused' and not hasattr(F, 'linear_cross_entropy'):
        pytest.skip('needs torch.nn.functional.linear_cross_entropy')
    chunked = getattr(solo_sim, name)

    def loss_fn(x, y):
        x, y = F.normalize(x) / 0.2, F.normalize(y)
        return chunked(x, y, torch.arange(len(x)), 8)

    x, y = torch.randn(2, 23, 6, dtype=dtype)
    torch.testing.assert_close(grads(loss_fn, x, y), grads(naive, x, y))


def test_old_torch_takes_the_checkpointed_form(monkeypatch):
    monkeypatch.delattr(F, 'linear_cross_entropy', raising=False)
    x, y = torch.randn(2, 23, 6, dtype=torch.double)
    out = grads(SoloSimLoss(chunk_size=5), x, y)
    torch.testing.assert_close(out, grads(naive, x, y))


@pytest.mark.parametrize('temperature', [0.1, 0.2, 1.0])
def test_closed_forms(temperature):
    loss = SoloSimLoss(temperature)
    e = math.exp(1 / temperature)
    expected = -math.log(e / (e + 15))
    out = loss(3 * torch.eye(16), torch.eye(16))
    assert float(out) == pytest.approx(expected, abs=1e-5)
    ones = torch.ones(16, 4)
    assert float(loss(ones, ones)) == pytest.approx(math.log(16), rel=1e-5)


def test_scale_of_rows_does_not_matter():
    x, y = torch.randn(2, 9, 4, dtype=torch.double)
    scale = torch.rand(9, 1, dtype=torch.double) + 0.1
    loss = SoloSimLoss()
    torch.testing.assert_close(loss(x, y), loss(scale * x, 7 * y))


def test_symmetric_adds_the_reverse():
    x, y = torch.randn(2, 9, 4)
    loss = SoloSimLoss(symmetric=True)
    torch.testing.assert_close(loss(x, y), naive(x, y) + naive(y, x))
    torch.testing.assert_close(loss(x, y), loss(y, x))


def test_without_negatives():
    x, y = torch.randn(2, 9, 4)
    expected = -F.cosine_similarity(x, y).mean() / 0.2
    torch.testing.assert_close(SoloSimLoss(negatives='none')(x, y), expected)


@pytest.mark.parametrize('negatives', ['all', 'none'])
def test_anchors_are_an_unbiased_estimate(negatives):
    x, y = torch.randn(2, 40, 4, dtype=torch.double)
    full = SoloSimLoss(negatives=negatives)(x, y)
    loss = SoloSimLoss(negatives=negatives, num_anchors=5)
    draws = torch.stack([loss(x, y) for _ in range(2000)])
    error = (draws.mean() - full).abs()
    assert draws.std() > 0.01
    assert error < 4 * draws.std() / len(draws) ** 0.5

    torch.testing.assert_close(loss.eval()(x, y), full)


def test_anchor_gradients_are_an_unbiased_estimate():
    x, y = torch.randn(2, 12, 4, dtype=torch.double)
    full = grads(SoloSimLoss(), x, y)
    loss = SoloSimLoss(num_anchors=3)
    draws = [grads(loss, x, y) for _ in range(3000)]
    for i in (1, 2):
        stack = torch.stack([draw[i] for draw in draws])
        error = (stack.mean(dim=0) - full[i]).abs()
        assert (error < 5 * stack.std(dim=0) / 3000**0.5 + 1e-12).all()


def test_more_anchors_than_rows_is_all_rows():
    x, y = torch.randn(2, 9, 4, dtype=torch.double)
    out = SoloSimLoss(num_anchors=100)(x, y)
    torch.testing.assert_close(out, naive(x, y))


def test_auto_chunk_stays_in_budget(monkeypatch):
    sizes = []
    monkeypatch.setitem(solo_sim.MAX_SIMILARITIES, 'cpu', 64)
    monkeypatch.setattr(
        solo_sim,
        '_fused',
        lambda x, y, index, size: (
            sizes.append(size) or solo_sim._checkpointed(x, y, index, size)
        ),
    )
    if not hasattr(F, 'linear_cross_entropy'):
        monkeypatch.setattr(F, 'linear_cross_entropy', None, raising=False)
    x, y = torch.randn(2, 20, 4, dtype=torch.double)
    out = SoloSimLoss()(x, y)
    assert sizes == [3]  # 3 * 20 <= 64
    torch.testing.assert_close(out, naive(x, y))


def test_compile_fullgraph():
    x, y = torch.randn(2, 9, 4)
    loss = SoloSimLoss(chunk_size=None)
    compiled = torch.compile(loss, fullgraph=True, backend='aot_eager')
    torch.testing.assert_close(compiled(x, y), naive(x, y))

    inductor = torch.compile(loss, fullgraph=True)
    torch.testing.assert_close(inductor(x, y), naive(x, y))

    chunked = torch.compile(SoloSimLoss(chunk_size=4), backend='aot_eager')
    torch.testing.assert_close(grads(chunked, x, y), grads(naive, x, y))


def test_dense_form_has_second_order_gradients():
    x, y = torch.randn(2, 5, 3, dtype=torch.double, requires_grad=True)
    loss = SoloSimLoss(chunk_size=None)
    assert torch.autograd.gradgradcheck(loss, (x, y))


@pytest.mark.parametrize(
    ('kwargs', 'match'),
    [
        ({'temperature': 0.0}, 'temperature'),
        ({'negatives': 'some'}, 'negatives'),
        ({'num_anchors': 0}, 'num_anchors'),
        ({'chunk_size': 0}, 'chunk_size'),
        ({'chunk_size': 'big'}, 'chunk_size'),
    ],
)
def test_rejects_arguments(kwargs, match):
    with pytest.raises(ValueError, match=match):
        SoloSimLoss(**kwargs)


def test_rejects_input():
    with pytest.raises(ValueError, match='matched rows'):
        SoloSimLoss()(torch.randn(3, 2), torch.randn(4, 2))
    assert 'temperature=0.2' in str(SoloSimLoss())
