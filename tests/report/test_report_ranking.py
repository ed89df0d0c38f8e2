import pytest
import torch

from pyg_sea.evaluate import evaluate
from pyg_sea.report import _ranking
from pyg_sea.report._groups import by_degree
from pyg_sea.report._lists import Split
from pyg_sea.report._ranking import measure

U, NUM_ITEMS = 60, 40
NAMES = ['recall@5', 'ndcg@5', 'recall@10', 'ndcg@10']


@pytest.fixture
def split():
    pairs = torch.rand(U, NUM_ITEMS).argsort(dim=1)
    user = torch.arange(U)
    # Users have 1 to 12 train items, and items from 35 on are cold.
    train = [
        (u, i)
        for u in user.tolist()
        for i in pairs[u, : 1 + u % 12].tolist()
        if i < 35 or u % 12 == 0
    ]
    train = [(u, i % 35) for u, i in train]
    train = torch.tensor(sorted(set(train))).t()
    test = torch.stack([user.repeat_interleave(3), pairs[:, -3:].flatten()])
    seen = set(map(tuple, train.t().tolist()))
    keep = [tuple(pair) not in seen for pair in test.t().tolist()]
    return Split(train, test[:, keep], U, NUM_ITEMS)


@pytest.fixture
def scores():
    return torch.rand(U, NUM_ITEMS)


def test_totals_are_those_of_evaluate(split, scores):
    out = measure(scores.__getitem__, split, NAMES)
    expected = evaluate(scores.__getitem__, split.test, split.train, [5, 10])
    assert out.total == pytest.approx(expected, abs=1e-6)
    assert (out.k, out.shown) == (10, ['recall@10', 'ndcg@10'])


def test_groups_of_users_are_those_of_evaluate(split, scores):
    out = measure(scores.__getitem__, split, NAMES)
    groups = by_degree(split.user_degree)
    assert [g.label for g in out.users] == groups.labels
    for group, row in enumerate(out.users):
        mask = groups.of[split.test[0]] == group
        expected = evaluate(
            scores.__getitem__, split.test[:, mask], split.train, 10
        )
        assert {n: row.values[n] for n in expected} == pytest.approx(expected)
        assert row.num == split.test[0, mask].unique().numel()
        assert row.num_pairs == int(mask.sum())
    # Their mean is the total.
    total = sum(row.num * row.values['recall@10'] for row in out.users) / sum(
        row.num for row in out.users
    )
    assert total == pytest.approx(out.total['recall@10'], abs=1e-6)


def test_groups_of_items_are_those_of_evaluate(split, scores):
    out = measure(scores.__getitem__, split, NAMES)
    groups = by_degree(split.item_degree)
    assert [g.label for g in out.items] == groups.labels
    assert groups.labels[0] == '0'
    for group, row in enumerate(out.items):
        mask = groups.of[split.test[1]] == group
        expected = evaluate(
            scores.__getitem__, split.test[:, mask], split.train, 10
        )
        assert {n: row.values[n] for n in expected} == pytest.approx(expected)
        assert row.num == groups.sizes[group]
        assert row.num_pairs == int(mask.sum())


def test_places_are_counted(split):
    # Everybody is recommended the last ten items, five of them cold.
    scores = torch.arange(NUM_ITEMS).float().repeat(U, 1)
    split = split._replace(train=split.train[:, split.train[1] < 30])
    out = measure(lambda users: scores[users], split, NAMES)
    cold = [row for row in out.items if row.label == '0']
    [row] = cold
    assert row.values['slots'] == pytest.approx(1)
    assert row.values['train'] == 0
    assert row.values['coverage'] == pytest.approx(1)
    assert sum(g.values['slots'] for g in out.items) == pytest.approx(1)
    assert sum(g.values['train'] for g in out.items) == pytest.approx(1)
    assert out.lists['coverage'] == pytest.approx(10 / NUM_ITEMS)
    assert out.lists['personalization'] == pytest.approx(0)
    assert out.lists['gini'] == pytest.approx(30 / NUM_ITEMS)
    assert out.lists['popularity'] == 0


def test_chunks_do_not_matter(split, scores, monkeypatch):
    expected = measure(scores.__getitem__, split, NAMES)
    monkeypatch.setattr(_ranking, 'MAX_USERS', 7)
    out = measure(scores.__getitem__, split, NAMES)
    assert out.total == pytest.approx(expected.total, abs=1e-6)
    for rows, others in (
        (out.users, expected.users),
        (out.items, expected.items),
    ):
        for row, other in zip(rows, others, strict=True):
            assert row[:3] == other[:3]
            assert row.values == pytest.approx(other.values, abs=1e-6)
    assert out.lists == pytest.approx(expected.lists)
