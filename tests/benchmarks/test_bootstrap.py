import sys
from pathlib import Path

import numpy as np
import pytest

FOLDER = Path(__file__).parents[2] / 'benchmarks' / 'quality'
sys.path.insert(0, str(FOLDER))
import bootstrap  # noqa: E402
from bootstrap import compare  # noqa: E402

sys.path.remove(str(FOLDER))


def test_comparison_of_known_samples():
    rng = np.random.default_rng(1)
    user = rng.random(400)  # Users differ more than models do.
    same = user + 0.02 * rng.standard_normal((5, 400))
    other = user + 0.02 * rng.standard_normal((5, 400))
    out = compare(same + 0.01, same, 2000)
    assert out.mean == pytest.approx(0.01)
    assert out.low < 0.01 < out.high
    assert out.p < 0.01
    none = compare(same, other, 2000)
    assert none.p > 0.05
    assert none.low < 0 < none.high
    assert compare(same, other, 2000) == none

    mirrored = compare(other, same, 2000)
    assert mirrored.mean == pytest.approx(-none.mean)
    assert compare(same[:1], same[:1], 200).p == 1.0
    with pytest.raises(ValueError, match='one column per user'):
        compare(same, other[:, 1:])


def test_interval_is_that_of_the_normal_approximation():
    # One seed: the bootstrap of a mean of 400 paired differences.
    rng = np.random.default_rng(2)
    a, b = rng.random((2, 1, 400))
    out = compare(a, b, 4000)
    error = (a - b).std() / 20
    assert out.high - out.low == pytest.approx(2 * 1.96 * error, rel=0.1)

    # Seeds alone: all users of a seed alike.
    a = rng.random((6, 1)) * np.ones((1, 50))
    b = np.zeros((2, 50))
    out = compare(a, b, 4000)
    error = a[:, 0].std(ddof=1) / 6**0.5
    assert out.high - out.low == pytest.approx(2 * 1.96 * error, rel=0.15)


def test_false_alarms_come_as_often_as_stated():
    rng = np.random.default_rng(3)
    p = []
    for _ in range(200):
        user = rng.random(200)
        a, b = user + 0.1 * rng.standard_normal((2, 1, 200))
        p.append(compare(a, b, 400).p)
    assert 0.01 <= np.mean(np.array(p) < 0.05) <= 0.1
    assert np.mean(p) == pytest.approx(0.5, abs=0.08)


@pytest.mark.parametrize('num_seeds', [2, 3, 5])
def test_draws_of_seeds_spread_as_seeds_do(num_seeds):
    rng = np.random.default_rng(4)
    value = rng.random(num_seeds)
    share = bootstrap._shares(rng, 40_000, num_seeds)
    np.testing.assert_allclose(share.sum(axis=1), 1)
    mean = share @ value
    assert mean.mean() == pytest.approx(value.mean(), abs=0.01)
    expected = value.var(ddof=1) / num_seeds
    assert mean.var() == pytest.approx(expected, rel=0.04)


def test_false_alarms_where_five_seeds_are_all_that_tells():
    # Ten times as far apart as users make them: a tenth, not a twentieth.
    rng = np.random.default_rng(4)
    p = []
    for _ in range(200):
        seeds = 0.1 * rng.standard_normal((2, 5, 1))
        a, b = rng.random(100) + seeds + 0.1 * rng.standard_normal((2, 5, 100))
        p.append(compare(a, b, 400).p)
    assert 0.03 < np.mean(np.array(p) < 0.05) < 0.13
