import torch
from hypothesis import given
from hypothesis import strategies as st

from pyg_sea.report._groups import by_degree


def test_quarters():
    degree = torch.tensor([8, 1, 2, 7, 3, 6, 4, 5])
    groups = by_degree(degree)
    assert groups.labels == ['1-2', '3-4', '5-6', '7-8']
    assert groups.of.tolist() == [3, 0, 0, 3, 1, 2, 1, 2]
    assert groups.sizes == [2, 2, 2, 2]


def test_nothing_is_a_group_of_its_own():
    groups = by_degree(torch.tensor([0, 5, 0, 9]), num=2)
    assert groups.labels == ['0', '5', '9']
    assert groups.of.tolist() == [0, 1, 0, 2]
    assert by_degree(torch.zeros(3, dtype=torch.long)).labels == ['0']


def test_equal_degrees_stay_together():
    groups = by_degree(torch.tensor([5] * 7 + [1500]))
    assert groups.labels == ['5', '1,500']
    assert groups.sizes == [7, 1]


@given(st.lists(st.integers(0, 9), min_size=1, max_size=60), st.integers(1, 5))
def test_groups_are_intervals(degrees, num):
    degree = torch.tensor(degrees)
    groups = by_degree(degree, num)
    assert sum(groups.sizes) == len(degrees)
    assert all(size > 0 for size in groups.sizes)
    known = (degree > 0).sum()
    assert len(groups.labels) <= num + int(known < len(degrees))
    order = degree.argsort(stable=True)
    assert (groups.of[order].diff() >= 0).all()
    for value in set(degrees):
        assert groups.of[degree == value].unique().numel() == 1
    assert (groups.of[degree == 0] == 0).all()
    if (degree == 0).any():
        assert (degree[groups.of == 0] == 0).all()
