import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pyg_sea import recommend
from pyg_sea.recommend import EmbeddingScorer, top_k, top_k_items


def reference(scores, users, k, exclude):
    masked = scores.numpy().copy()
    if exclude is not None:
        masked[tuple(exclude.numpy())] = -np.inf
    out = np.full((len(users), k), -1)
    for row, user in enumerate(users.tolist()):
        best = np.argsort(-masked[user], kind='stable')[:k]
        best = best[np.isfinite(masked[user][best])]
        out[row, : len(best)] = best
    return out.tolist()


@settings(max_examples=80, deadline=None)
@given(
    st.integers(1, 9),
    st.integers(1, 12),
    st.integers(1, 15),
    st.integers(1, 5),
    st.integers(0, 60),
    st.integers(0, 2**31 - 1),
)
def test_agrees_with_a_loop(U, num_items, k, batch_size, num_excluded, seed):
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(U, num_items, generator=generator)
    users = torch.randint(U, (7,), generator=generator)
    exclude = torch.stack(
        [
            torch.randint(U, (num_excluded,), generator=generator),
            torch.randint(num_items, (num_excluded,), generator=generator),
        ]
    )
    out = top_k(scores.__getitem__, users, k, exclude, batch_size)
    assert out.items.tolist() == reference(scores, users, k, exclude)
    taken = out.items >= 0
    assert torch.equal(
        out.scores[taken],
        scores[users.unsqueeze(1), out.items][taken],
    )
    assert (out.scores[~taken] == float('-inf')).all()


def test_embeddings():
    user, item = torch.randn(30, 8), torch.randn(50, 8)
    exclude = torch.stack(
        [torch.randint(30, (200,)), torch.randint(50, (200,))]
    )
    out = top_k_items(user, item, 10, exclude=exclude)
    assert out.shape == (30, 10)
    assert out.dtype == torch.long
    everyone = torch.arange(30)
    assert out.tolist() == reference(user @ item.t(), everyone, 10, exclude)
    some = torch.tensor([7, 3, 3, 29])
    assert torch.equal(
        top_k_items(user, item, 10, users=some, exclude=exclude), out[some]
    )
    scorer = EmbeddingScorer(user, item)
    assert repr(scorer) == 'EmbeddingScorer(30, 50)'
    assert torch.equal(top_k(scorer, some, 10, exclude).items, out[some])


def test_chunks_do_not_matter(monkeypatch):
    user, item = torch.randn(30, 8), torch.randn(50, 8)
    expected = top_k_items(user, item)
    sizes = []

    class Watched(EmbeddingScorer):
        def __call__(self, users):
            sizes.append(users.numel())
            return super().__call__(users)

    monkeypatch.setitem(recommend._MAX_SCORES, 'cpu', 50 * 7)
    out = top_k(Watched(user, item), torch.arange(30)).items
    assert torch.equal(out, expected)
    assert max(sizes) == 7


def test_embeddings_need_no_gradient():
    user = torch.randn(3, 2, requires_grad=True)
    out = top_k(EmbeddingScorer(user, torch.randn(4, 2)), torch.arange(3), 2)
    assert not out.scores.requires_grad


def test_no_users():
    out = top_k_items(
        torch.randn(3, 2),
        torch.randn(4, 2),
        2,
        users=torch.empty(0, dtype=torch.long),
        exclude=torch.empty(2, 0, dtype=torch.long),
    )
    assert out.shape == (0, 2)


@pytest.mark.parametrize('value', [float('nan'), float('inf')])
def test_scores_that_are_not_finite(value):
    scores = torch.randn(6, 5)
    scores[4, 2] = value
    with pytest.raises(FloatingPointError, match='1 users, user 4 first'):
        top_k(scores.__getitem__, torch.arange(6), 1, batch_size=2)


@pytest.mark.parametrize(
    'users', [[2, 0], (2, 0), np.array([2, 0]), range(2, -1, -2), []]
)
def test_users_as_a_sequence(users):
    user, item = torch.randn(3, 2), torch.randn(4, 2)
    out = top_k_items(user, item, 2, users=users)
    rows = torch.tensor([*users], dtype=torch.long)
    assert torch.equal(out, top_k_items(user, item, 2)[rows])
    scorer = EmbeddingScorer(user, item)
    assert torch.equal(top_k(scorer, users, 2).items, out)


def test_users_that_are_no_ids():
    user, item = torch.randn(3, 2), torch.randn(4, 2)
    for users in (['ann'], 'ann', [None], {'a': 1}):
        with pytest.raises(TypeError, match=r"'users' needs .* local ids"):
            top_k_items(user, item, users=users)
    for users in ([0.5], [[0, 1]], 1, [True]):
        with pytest.raises(ValueError, match="'users' needs to be an int64"):
            top_k_items(user, item, users=users)


def test_malformed_input():
    user, item, users = torch.randn(3, 2), torch.randn(4, 2), torch.arange(3)
    with pytest.raises(ValueError, match=r"'k' needs .* \(got 0\)"):
        top_k_items(user, item, 0)
    with pytest.raises(ValueError, match='matrices of equal width'):
        top_k_items(user, torch.randn(4, 3))
    with pytest.raises(ValueError, match="'users' needs local ids from 0"):
        top_k_items(user, item, users=torch.tensor([3]))
    with pytest.raises(ValueError, match="'users' needs to be an int64"):
        top_k(EmbeddingScorer(user, item), users.float())
    with pytest.raises(ValueError, match="'batch_size' needs"):
        top_k_items(user, item, batch_size=0)
    with pytest.raises(ValueError, match="'exclude' needs ids from 0 to 3"):
        top_k_items(user, item, exclude=torch.tensor([[0], [4]]))
    with pytest.raises(ValueError, match="'exclude' needs ids from 0 to any"):
        top_k_items(user, item, exclude=torch.tensor([[-1], [0]]))
    with pytest.raises(ValueError, match="'scorer' needs to return floats"):
        top_k(lambda users: torch.ones(4), users)
    with pytest.raises(ValueError, match="'scorer' needs to return floats"):
        top_k(lambda users: torch.ones(len(users), 4).long(), users)
