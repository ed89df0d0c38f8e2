import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from pyg_sea.loader import BPRLoader, bpr_loader


def random_edges(num_users, num_items, num_edges, seed=0):
    rng = np.random.default_rng(seed)
    cells = rng.choice(num_users * num_items, num_edges, replace=False)
    return torch.from_numpy(np.stack(np.divmod(cells, num_items))).long()


def keys(user, item):
    return user * 1000 + item


@pytest.fixture
def edge_index():
    return random_edges(50, 40, 300)


def test_epoch_covers_every_edge_once(edge_index):
    loader = BPRLoader(edge_index, 50, 40, batch_size=64, seed=1)
    batches = list(loader)
    assert len(loader) == len(batches) == 5
    assert [b.shape for b in batches] == [(3, 64)] * 4 + [(3, 44)]
    assert all(b.dtype == torch.long for b in batches)

    user, positive, negative = torch.cat(batches, dim=1)
    assert torch.equal(
        keys(user, positive).sort().values, keys(*edge_index).sort().values
    )
    assert not torch.equal(torch.stack([user, positive]), edge_index)
    assert not torch.isin(keys(user, negative), keys(*edge_index)).any()
    assert torch.isin(negative, edge_index[1]).all()


def test_order_and_last_batch(edge_index):
    loader = BPRLoader(
        edge_index, 50, 40, batch_size=64, shuffle=False, drop_last=True
    )
    batches = list(loader)
    assert len(loader) == len(batches) == 4
    assert torch.equal(torch.cat(batches, dim=1)[:2], edge_index[:, :256])


def test_epochs_and_seeds_differ(edge_index):
    def epochs(seed):
        loader = BPRLoader(edge_index, 50, 40, batch_size=300, seed=seed)
        return [next(iter(loader)) for _ in range(3)]

    first, other = epochs(0), epochs(1)
    for a, b in zip(first, epochs(0), strict=True):
        assert torch.equal(a, b)
    for i, a in enumerate([*first, *other]):
        for b in [*first, *other][i + 1 :]:
            assert not torch.equal(a, b)


def test_seed_comes_from_the_global_generator(edge_index):
    def seed():
        torch.manual_seed(7)
        return BPRLoader(edge_index, 50, 40).seed

    assert seed() == seed()
    assert BPRLoader(edge_index, 50, 40).seed != seed()


def test_negatives_are_uniform_over_unchosen_seen_items():
    # Items 3 and 9 are never seen in train.
    edge_index = torch.tensor(
        [[0, 0, 0, 1, 1, 2, 2, 2, 2], [0, 1, 7, 2, 4, 5, 6, 8, 0]]
    )
    loader = BPRLoader(edge_index, 3, 10, seed=3)
    generator = torch.Generator().manual_seed(0)
    for user, allowed in [
        (0, [2, 4, 5, 6, 8]),
        (1, [0, 1, 5, 6, 7, 8]),
        (2, [1, 2, 4, 7]),
    ]:
        items = loader.sample(torch.full((60_000,), user), generator)
        count = torch.bincount(items, minlength=10)
        assert count.nonzero().flatten().tolist() == allowed
        assert chisquare(count[allowed].numpy()).pvalue > 1e-4


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_negatives_reach_exactly_the_unchosen_items(data):
    num_users = data.draw(st.integers(1, 6))
    num_items = data.draw(st.integers(2, 7))
    cells = data.draw(
        st.lists(
            st.tuples(
                st.integers(0, num_users - 1), st.integers(0, num_items - 1)
            ),
            min_size=1,
            max_size=20,
        )
    )
    edge_index = torch.tensor(cells).t().contiguous()
    seen = {item for _, item in cells}
    free = {
        user: seen - {i for u, i in cells if u == user} for user, _ in cells
    }
    users = [user for user in free if free[user]]
    if not users:
        with (
            pytest.warns(UserWarning, match='have chosen every item'),
            pytest.raises(ValueError, match="'edge_index' needs at least"),
        ):
            BPRLoader(edge_index, num_users, num_items)
        return
    if len(users) < len(free):
        with pytest.warns(UserWarning, match='have chosen every item'):
            loader = BPRLoader(edge_index, num_users, num_items, seed=0)
    else:
        loader = BPRLoader(edge_index, num_users, num_items, seed=0)
    for user in users:
        items = loader.sample(torch.full((400,), user))
        assert set(items.tolist()) == free[user]
    user, positive, _ = next(iter(loader))
    assert sorted(zip(user.tolist(), positive.tolist(), strict=True)) == (
        sorted(cell for cell in cells if cell[0] in users)
    )


def test_blocks_and_resume_within_an_epoch(edge_index, monkeypatch):
    monkeypatch.setattr(bpr_loader, '_BLOCK_SIZE', 100)

    def loader():
        return BPRLoader(edge_index, 50, 40, batch_size=32, seed=5)

    straight = loader()
    reference = [list(straight) for _ in range(3)]
    user, positive, _ = torch.cat(reference[0], dim=1)
    assert torch.equal(
        keys(user, positive).sort().values, keys(*edge_index).sort().values
    )
    for taken in range(len(straight) + 1):
        first = loader()
        list(first)
        iterator = iter(first)
        for _ in range(taken):
            next(iterator)
        state = copy.deepcopy(first.state_dict())
        assert all(isinstance(value, int) for value in state.values())

        second = BPRLoader(edge_index, 50, 40, batch_size=32, seed=99)
        second.load_state_dict(state)
        assert second.state_dict() == state
        rest = [*second, *second] if taken in (0, len(first)) else [*second]
        expected = [*reference[1], *reference[2]][taken:]
        for a, b in zip(rest, expected, strict=False):
            assert torch.equal(a, b)


@pytest.mark.parametrize('num_replicas', [1, 2, 3, 7])
def test_processes_share_every_batch(edge_index, num_replicas):
    def loader(**kwargs):
        return BPRLoader(edge_index, 50, 40, batch_size=37, seed=5, **kwargs)

    shares = [
        loader(num_replicas=num_replicas, rank=rank)
        for rank in range(num_replicas)
    ]
    assert {len(share) for share in shares} == {9}
    parts = [[*share, *share] for share in shares]
    whole = loader()
    for batch, *own in zip([*whole, *whole], *parts, strict=True):
        assert torch.equal(torch.cat(own, dim=1), batch)
        sizes = [part.size(1) for part in own]
        assert max(sizes) - min(sizes) <= 1
    assert batch.size(1) == 4  # Not one for each of seven processes.

    # A run may go on with another number of processes.
    first, second = shares[-1], loader(num_replicas=num_replicas + 1, rank=0)
    next(iter(first))
    second.load_state_dict(first.state_dict())
    whole.load_state_dict(first.state_dict())
    for a, b in zip(second, whole, strict=True):
        assert torch.equal(a, b[:, : a.size(1)])


@pytest.mark.parametrize(
    ('kwargs', 'match'),
    [
        ({'num_replicas': 2, 'rank': 2}, "'rank' needs to be from 0"),
        ({'num_replicas': 2, 'rank': -1}, "'rank' needs to be from 0"),
        ({'num_replicas': 0}, "'rank' needs to be from 0"),
        ({'num_replicas': 2}, "'seed' needs to be given"),
    ],
)
def test_malformed_processes(edge_index, kwargs, match):
    with pytest.raises(ValueError, match=match):
        BPRLoader(edge_index, 50, 40, **kwargs)


def test_broken_off_epoch_is_followed_by_the_next_one(edge_index):
    reference = BPRLoader(edge_index, 50, 40, batch_size=32, seed=5)
    list(reference)
    loader = BPRLoader(edge_index, 50, 40, batch_size=32, seed=5)
    for _ in loader:
        break
    for a, b in zip(loader, reference, strict=True):
        assert torch.equal(a, b)


def test_repeated_edges_are_kept_as_positives():
    edge_index = torch.tensor([[0, 0, 0, 1], [0, 0, 1, 2]])
    user, positive, negative = next(iter(BPRLoader(edge_index, 2, 3)))
    assert sorted(keys(user, positive).tolist()) == [0, 0, 1, 1002]
    assert (negative[user == 0] == 2).all()


def test_users_with_every_item_are_left_out():
    edge_index = torch.tensor([[0, 0, 1], [0, 1, 1]])
    with pytest.warns(UserWarning, match='1 users have chosen every item'):
        loader = BPRLoader(edge_index, 2, 2)
    assert torch.cat(list(loader), dim=1).tolist() == [[1], [1], [0]]


@pytest.mark.parametrize(
    ('edge_index', 'kwargs', 'match'),
    [
        (torch.tensor([[0], [5]]), {}, r"'edge_index' needs ids .* \(got 5"),
        (torch.tensor([[-1], [0]]), {}, "'edge_index' needs ids"),
        (torch.tensor([[3], [0]]), {}, "'edge_index' needs ids"),
        (torch.zeros(3, 4).long(), {}, "'edge_index' needs to be an int64"),
        (torch.zeros(2, 4), {}, "'edge_index' needs to be an int64"),
        (torch.zeros(2, 0).long(), {}, "'edge_index' needs at least one"),
        (torch.tensor([[0], [0]]), {'batch_size': 0}, "'batch_size'"),
        (torch.tensor([[0], [0]]), {'seed': -1}, "'seed'"),
        (
            torch.tensor([[0, 1], [0, 1]]),
            {'batch_size': 3, 'drop_last': True},
            'at least one batch',
        ),
    ],
)
def test_malformed_input(edge_index, kwargs, match):
    with pytest.raises(ValueError, match=match):
        BPRLoader(edge_index, 2, 3, **kwargs)


def test_repr(edge_index):
    loader = BPRLoader(edge_index, 50, 40)
    assert repr(loader) == 'BPRLoader(300, batch_size=2048)'
