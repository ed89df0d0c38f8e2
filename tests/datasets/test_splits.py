import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyg_sea.datasets._splits import (
    leave_last_out_split,
    random_split,
    time_split,
)

users = st.lists(st.integers(0, 5), min_size=1, max_size=80).map(np.array)


def counts_of(user: np.ndarray, split: np.ndarray) -> np.ndarray:
    return np.stack(
        [
            np.bincount(user[split == s], minlength=user.max() + 1)
            for s in (0, 1, 2)
        ]
    )


def test_random_rule_gives_the_real_counts_of_every_user(data_dir):
    frame = pd.read_csv(data_dir / 'baby' / 'baby.inter', sep='\t')
    user = frame.userID.to_numpy()
    split = random_split(user, np.random.default_rng(7))
    real = counts_of(user, frame.x_label.to_numpy())
    np.testing.assert_array_equal(counts_of(user, split), real)
    assert np.bincount(split).tolist() == [118551, 20559, 21682]
    assert (split != frame.x_label).any()


@pytest.mark.parametrize(
    ('num', 'expected'),
    [
        (1, (1, 0, 0)),
        (2, (2, 0, 0)),
        (3, (1, 1, 1)),
        (9, (7, 1, 1)),
        (10, (8, 1, 1)),
        (15, (12, 1, 2)),
        (100, (80, 10, 10)),
    ],
)
def test_random_rule(num, expected):
    split = random_split(np.zeros(num, dtype=int), np.random.default_rng(0))
    assert tuple(np.bincount(split, minlength=3)) == expected


@given(users, st.integers(0, 99))
def test_random_split_is_seeded_and_keeps_a_train_edge(user, seed):
    split = random_split(user, np.random.default_rng(seed))
    again = random_split(user, np.random.default_rng(seed))
    np.testing.assert_array_equal(split, again)
    train = counts_of(user, split)[0]
    assert (train[np.unique(user)] >= 1).all()


@given(users, st.data())
def test_leave_last_out_against_a_loop(user, data):
    time = np.array(
        data.draw(
            st.lists(st.integers(0, 9), min_size=len(user), max_size=len(user))
        )
    )
    expected = np.zeros(len(user), dtype=int)
    for u in np.unique(user):
        rows = np.flatnonzero(user == u)
        if len(rows) >= 3:
            rows = rows[np.argsort(time[rows], kind='stable')]
            expected[rows[-2:]] = [1, 2]
    np.testing.assert_array_equal(leave_last_out_split(user, time), expected)


@given(st.lists(st.integers(0, 30), min_size=1, max_size=60).map(np.array))
def test_time_split_orders_the_parts(time):
    split = time_split(time)
    order = np.argsort(time, kind='stable')
    assert (np.diff(split[order]) >= 0).all()
    for moment in np.unique(time):
        assert len(np.unique(split[time == moment])) == 1


def test_time_split_of_distinct_times():
    time = np.random.default_rng(0).permutation(1000)
    assert np.bincount(time_split(time)).tolist() == [800, 100, 100]
    assert time[time_split(time) == 2].min() == 900
