import sys
from itertools import permutations

import pytest
import torch

from pyg_sea import dependence as measures
from pyg_sea.nn import ModalParts

pytest.importorskip('sklearn', reason='fits ridge regressions')


def rows(n, d):
    return torch.randn(n, d, dtype=torch.double)


# --- R2


def test_r2_of_a_linear_map_is_one():
    x = rows(300, 6)
    y = 5 + x @ rows(6, 4)
    assert measures.cross_validated_r2(x, y) == pytest.approx(1, abs=1e-3)
    # The units of either side do not matter.
    for of_x, of_y in ((1e-4, 1e4), (1, 1e-12)):
        value = measures.cross_validated_r2(of_x * x, of_y * y)
        assert value == pytest.approx(1, abs=1e-3)


def test_r2_with_noise_is_the_share_of_signal():
    x = rows(4000, 3)
    y = x @ torch.eye(3, dtype=torch.double) + rows(4000, 3)
    assert measures.cross_validated_r2(x, y) == pytest.approx(0.5, abs=0.03)


def test_r2_of_independent_parts_is_not_positive():
    # In sample it would be about 30 / 200.
    value = measures.cross_validated_r2(rows(200, 30), rows(200, 10))
    assert -0.2 < value < 0.02


def test_constant_columns_do_not_count():
    x = rows(300, 3)
    constant = torch.full((300, 2), 0.7, dtype=torch.double)
    y = torch.cat([x @ rows(3, 2), constant], 1)
    assert measures.cross_validated_r2(x, y) == pytest.approx(1, abs=1e-3)
    assert measures.cross_validated_r2(x, constant) == 0


# --- retrieval


def test_retrieval_of_equal_parts(monkeypatch):
    x = rows(50, 8)
    assert measures.retrieval_at_1(x, 3 * x) == 1
    assert measures.retrieval_at_1(x, -x) == 0
    shifted = x.roll(1, 0)
    assert measures.retrieval_at_1(x, shifted) == 0
    half = torch.cat([x[:25], shifted[25:]])
    noisy = measures.retrieval_at_1(x, half)
    assert 0.48 <= noisy <= 0.5  # Row 24 stands there twice.
    monkeypatch.setattr(measures, 'MAX_SIMILARITIES', 7 * 50)
    assert measures.retrieval_at_1(x, half) == noisy


def test_retrieval_by_chance():
    x = torch.ones(40, 8, dtype=torch.double)
    assert measures.retrieval_at_1(x, rows(40, 8)) == pytest.approx(1 / 40)
    assert measures.retrieval_at_1(rows(40, 8), x) == pytest.approx(1 / 40)


# --- HSIC


def test_unbiased_hsic_equals_its_definition():
    # The mean over all quadruples of different items.
    n = 6
    K, L = (measures.gaussian_kernel(rows(n, 2)) for _ in range(2))
    terms = [
        K[i, j] * (L[i, j] + L[q, r] - 2 * L[i, q])
        for i, j, q, r in permutations(range(n), 4)
    ]
    expected = torch.stack(terms).mean()
    assert measures.unbiased_hsic(K, L) == pytest.approx(float(expected))


def test_kernel_is_as_wide_as_the_median_distance():
    x = torch.tensor([[0.0], [1.0], [3.0]])  # Distances of 1, 2 and 3.
    K = measures.gaussian_kernel(x)
    squares = torch.tensor([[0.0, 1, 9], [1, 0, 4], [9, 4, 0]])
    torch.testing.assert_close(K, (-squares / 8).exp())
    most = torch.tensor([[0.0], [0.0], [0.0], [2.0]])
    assert measures.gaussian_kernel(most)[0, 3] == pytest.approx(
        torch.tensor(-2.0).exp().item()
    )


def test_hsic_of_equal_parts_is_one():
    x = rows(80, 4)
    rotation = torch.linalg.qr(rows(4, 4)).Q
    assert measures.hsic(x, x) == pytest.approx(1)
    assert measures.hsic(x, 2 * x @ rotation - 3) == pytest.approx(1)
    constant = torch.ones(80, 2, dtype=torch.double)
    assert measures.hsic(x, constant) == 0


def test_hsic_finds_what_is_not_linear():
    x = rows(400, 1)
    y = x.abs()
    assert measures.cross_validated_r2(x, y) < 0.05
    assert measures.hsic(x, y) > 0.2
    assert measures.hsic(x, y) == measures.hsic(x, y)


def test_hsic_of_independent_parts_is_zero_in_expectation():
    values = torch.tensor(
        [measures.hsic(rows(40, 3), rows(40, 3)) for _ in range(200)]
    )
    error = float(values.std()) / 200**0.5
    assert abs(float(values.mean())) < 4 * error
    assert (values < 0).any()


def test_the_order_of_items_does_not_matter():
    x, y = rows(60, 3), rows(60, 3)
    y = y + x
    perm = torch.randperm(60)
    assert measures.hsic(x[perm], y[perm]) == pytest.approx(
        measures.hsic(x, y)
    )
    assert measures.retrieval_at_1(x[perm], y[perm]) == pytest.approx(
        measures.retrieval_at_1(x, y)
    )
    assert measures.hsic(x, y[perm]) < 0.5 * measures.hsic(x, y)


def test_many_items_are_drawn(monkeypatch):
    x = rows(120, 2)
    y = x + 0.5 * rows(120, 2)
    monkeypatch.setattr(measures, 'MAX_ITEMS', 60)
    drawn = [measures.hsic(x, y, seed) for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]
    monkeypatch.undo()
    assert measures.hsic(x, y) == pytest.approx(drawn[0], abs=0.2)


# --- all of them


def test_all_measures_by_name():
    generic = torch.randn(200, 4)
    unique = torch.randn(200, 3)
    parts = {
        'image': ModalParts(generic, generic[:, :2] + 1),
        'text': ModalParts(2 * generic.requires_grad_(), unique),
        'audio': ModalParts(torch.randn(200, 4), torch.ones(200, 2)),
    }
    out = measures.dependence(parts)
    assert list(out) == [
        *('r2/image', 'r2/text', 'r2/audio'),
        *('retrieval/text-image', 'retrieval/audio-image'),
        'retrieval/audio-text',
        *('hsic/image', 'hsic/text', 'hsic/audio'),
    ]
    assert all(type(value) is float for value in out.values())
    assert out['r2/image'] == pytest.approx(1, abs=1e-3)
    assert out['r2/text'] < 0.05
    assert out['r2/audio'] == out['hsic/audio'] == 0
    assert out['retrieval/text-image'] == 1
    assert out['retrieval/audio-image'] < 0.1
    assert out['hsic/image'] > 0.3 > abs(out['hsic/text'])
    assert measures.dependence(parts) == out
    assert list(measures.dependence({'text': parts['text']})) == [
        'r2/text',
        'hsic/text',
    ]


def test_what_cannot_be_measured():
    x, y = rows(4, 2), rows(5, 2)
    for measure, least in (
        (measures.cross_validated_r2, 5),
        (measures.retrieval_at_1, 1),
        (measures.hsic, 4),
    ):
        with pytest.raises(ValueError, match=r'got 4 and 5 rows'):
            measure(x, y)
        few = x[: least - 1]
        with pytest.raises(ValueError, match=f'at least {least} items'):
            measure(few, few)


def test_without_scikit_learn(monkeypatch):
    monkeypatch.setitem(sys.modules, 'sklearn.linear_model', None)
    with pytest.raises(ImportError, match=r'pyg_sea\[plot\]'):
        measures.cross_validated_r2(rows(9, 2), rows(9, 2))
