import math

import pytest
import torch
from torch_geometric.metrics import LinkPredPersonalization

from pyg_sea.report._lists import Lists, Split, gini, held_out


def split_of(train, num_users=4, num_items=6):
    test = torch.empty(2, 0, dtype=torch.long)
    return Split(torch.tensor(train).t(), test, num_users, num_items)


def test_gini_in_closed_form():
    assert gini(torch.full((7,), 3)) == pytest.approx(0)
    assert gini(torch.tensor([0, 0, 0, 9])) == pytest.approx(3 / 4)
    # Half of the sum of all differences, over n^2 times the mean.
    x = torch.randint(50, (30,))
    difference = (x.view(-1, 1) - x).abs().sum() / 2
    assert gini(x) == pytest.approx(float(difference / (30 * x.sum())))
    assert gini(torch.zeros(3, dtype=torch.long)) == 0


def test_lists_by_hand():
    split = split_of([(0, 0), (1, 0), (2, 0), (3, 0), (0, 1), (1, 1), (2, 2)])
    assert split.surprise.tolist() == [0, 1, 2, 2, 2, 2]
    lists = Lists(split, 2)
    # Only what stands at the first two places counts, and only whole lists.
    lists.update(torch.tensor([[0, 1, 5], [0, 2, 5]]))
    lists.update(torch.tensor([[4, -1, -1]]))
    out = lists.compute()
    assert lists.counts.tolist() == [2, 1, 1, 0, 0, 0]
    assert out == {
        'coverage': pytest.approx(3 / 6),
        'popularity': pytest.approx((4 + 2 + 4 + 1) / 4),
        'novelty': pytest.approx((0 + 1 + 0 + 2) / 4),
        'personalization': pytest.approx(1 / 2),
        'gini': gini(lists.counts),
    }


def test_personalization_is_that_of_pyg():
    items = torch.rand(40, 30).argsort(dim=1)[:, :6]
    expected = LinkPredPersonalization(6)
    expected.update(items, None)
    lists = Lists(split_of([(0, 0)], 40, 30), 6)
    for chunk in items.split(9):
        lists.update(chunk)
    out = lists.compute()['personalization']
    assert out == pytest.approx(float(expected.compute()), abs=1e-6)


def test_no_list_at_all():
    lists = Lists(split_of([(0, 0)]), 3)
    lists.update(torch.full((2, 3), -1))
    assert all(value == 0 for value in lists.compute().values())


def test_lists_longer_than_the_catalogue():
    lists = Lists(split_of([(0, 0)], 2, 3), 20)
    lists.update(torch.tensor([[0, 1, 2] + [-1] * 17]))
    assert lists.compute()['coverage'] == 1


def test_held_out_items_count_as_often_as_they_come():
    split = split_of([(0, 0), (1, 0), (0, 1)])
    out = held_out(split, torch.tensor([0, 0, 1, 4]))
    assert out == {
        'coverage': pytest.approx(3 / 6),
        'popularity': pytest.approx((2 + 2 + 1 + 0) / 4),
        'novelty': pytest.approx((1 + 1 + 2 + math.log2(4)) / 4),
        'gini': gini(torch.tensor([2, 1, 0, 0, 1, 0])),
    }
