import time

import numpy as np
import pytest
import torch

from pyg_sea.datasets import FakeMultimodal

BUYS = ('user', 'buys', 'item')


@pytest.fixture(scope='module')
def data():
    return FakeMultimodal()[0]


def recall_at_20(score: np.ndarray, data) -> float:
    score = score.copy()
    user, item = data[BUYS].edge_index.numpy()
    score[user, item] = -np.inf
    top = np.argpartition(-score, 20, axis=1)[:, :20]
    hit = np.zeros_like(score, dtype=bool)
    np.put_along_axis(hit, top, True, axis=1)
    user, item = data[BUYS].test_edge_index.numpy()
    num = np.bincount(user, minlength=len(score))
    hits = np.bincount(user, hit[user, item], minlength=len(score))
    return float((hits[num > 0] / num[num > 0]).mean())


def oracle(data) -> np.ndarray:
    user, item = data['user'], data['item']
    score = (user.taste_generic @ item.generic_factor.T) / 8**0.5
    for m in ('image', 'text'):
        part = user[f'taste_unique_{m}'] @ item[f'unique_factor_{m}'].T
        score = score + part / 16**0.5
    return score.numpy()


def test_clicks_follow_the_planted_factors(data):
    popularity = np.bincount(data[BUYS].edge_index[1], minlength=1000)
    popular = np.broadcast_to(popularity, (2000, 1000)).astype(float)
    known = recall_at_20(oracle(data), data)
    assert known > 2 * recall_at_20(popular, data)
    user, item = data['user'], data['item']
    generic = (user.taste_generic @ item.generic_factor.T).numpy()
    unique = (user.taste_unique_text @ item.unique_factor_text.T).numpy()
    for part in (generic, unique):
        assert 0.03 < recall_at_20(part, data) < known


def test_features_hold_the_factors_and_nothing_of_the_other_modality(data):
    def r2(x: torch.Tensor, y: torch.Tensor) -> float:
        x = torch.cat([x, torch.ones(len(x), 1)], dim=1)
        fit, held = slice(0, 700), slice(700, None)
        weight = torch.linalg.lstsq(x[fit], y[fit]).solution
        rest = (y[held] - x[held] @ weight).square().mean(0)
        return float((1 - rest / y[held].var(0)).mean())

    item = data['item']
    for m, other in (('image', 'text'), ('text', 'image')):
        x = item[f'x_{m}']
        assert r2(x, item.generic_factor) > 0.8
        assert r2(x, item[f'unique_factor_{m}']) > 0.8
        assert r2(x, item[f'unique_factor_{other}']) < 0.05


def test_degrees_look_real(data):
    store = data[BUYS]
    edges = torch.cat(
        [store.edge_index, store.val_edge_index, store.test_edge_index], 1
    )
    assert 25_000 < edges.size(1) < 35_000
    assert torch.unique(edges, dim=1).size(1) == edges.size(1)
    user = torch.bincount(edges[0], minlength=2000)
    item = torch.bincount(edges[1], minlength=1000).sort().values.float()
    assert user.min() >= 5
    assert user.max() > 10 * user.median()
    assert item.max() > 5 * item.median()
    assert torch.bincount(store.edge_index[0], minlength=2000).min() >= 1
    assert (
        torch.bincount(store.edge_index[1], minlength=1000) == 0
    ).sum() < 50


def test_is_quick_and_depends_on_its_seed_alone(data):
    start = time.process_time()
    again = FakeMultimodal(seed=0)[0]
    assert time.process_time() - start < 4
    for store, other in zip(data.stores, again.stores, strict=True):
        for key, value in store.items():
            same = value == other[key]
            assert (
                bool(same.all()) if isinstance(value, torch.Tensor) else same
            )
    another = FakeMultimodal(seed=1)[0]
    assert not torch.equal(another['item'].x_text, data['item'].x_text)


def test_one_or_three_modalities_of_any_name_and_width():
    widths = {'v1.5': 5, 'generic': 7, 'items': 9}
    data = FakeMultimodal(30, 25, widths, generic_dim=2, unique_dim=3)[0]
    for name, width in widths.items():
        assert data['item'][f'x_{name}'].shape == (25, width)
        assert data['item'][f'unique_factor_{name}'].shape == (25, 3)
        assert data['user'][f'taste_unique_{name}'].shape == (30, 3)
    assert data['item'].generic_factor.shape == (25, 2)
    assert data.validate(raise_on_error=True)
    dataset = FakeMultimodal(30, 25, ['audio'])
    assert (len(dataset), str(dataset)) == (1, 'FakeMultimodal()')


def test_refuses_a_string_as_modalities():
    with pytest.raises(TypeError, match="got the string 'image'"):
        FakeMultimodal(modalities='image')


def test_transform_runs_on_access():
    dataset = FakeMultimodal(30, 25, transform=lambda data: data.to_dict())
    assert isinstance(dataset[0], dict)


@pytest.mark.parametrize(
    'wrong',
    [
        {'num_users': 0},
        {'num_items': 19},
        {'generic_dim': 0},
        {'unique_dim': 0},
        {'clicks_per_user': 5},
        {'modalities': ()},
    ],
)
def test_refuses_sizes_that_are_too_small(wrong):
    (name,) = wrong
    with pytest.raises(ValueError, match=f"'{name}' needs to be at least"):
        FakeMultimodal(**wrong)


def test_order_of_arguments():
    args = (30, 25, ('a',), 2, 3, 7)
    data = FakeMultimodal(*args)[0]
    named = FakeMultimodal(
        num_users=30,
        num_items=25,
        modalities=['a'],
        generic_dim=2,
        unique_dim=3,
        seed=7,
    )[0]
    assert torch.equal(data['item'].x_a, named['item'].x_a)
    assert torch.equal(data[BUYS].edge_index, named[BUYS].edge_index)
    other = FakeMultimodal(*args[:-1])[0]
    assert not torch.equal(data['item'].x_a, other['item'].x_a)
    with pytest.raises(TypeError, match='positional'):
        FakeMultimodal(*args, 15.0)
