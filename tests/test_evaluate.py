import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pyg_sea import evaluate as evaluate_module
from pyg_sea.baselines import Popularity
from pyg_sea.evaluate import METRICS, evaluate
from pyg_sea.recommend import EmbeddingScorer


def reference(scores, held_out, train, k):
    """The protocol of the method's section 3, one user at a time."""
    totals = []
    for user in sorted(set(held_out[0].tolist())):
        positives = {i for u, i in held_out.t().tolist() if u == user}
        seen = {i for u, i in train.t().tolist() if u == user}
        if not seen:
            continue
        order = np.argsort(-scores[user].numpy(), kind='stable')
        ranking = [i for i in order.tolist() if i not in seen][:k]
        hits = np.array([i in positives for i in ranking] + [False] * k)[:k]
        discount = 1 / np.log2(np.arange(2, k + 2))
        rank = np.arange(1, k + 1)
        ideal = min(len(positives), k)
        totals.append(
            {
                f'recall@{k}': hits.sum() / len(positives),
                f'ndcg@{k}': (hits * discount).sum() / discount[:ideal].sum(),
                f'precision@{k}': hits.sum() / k,
                f'map@{k}': (hits * hits.cumsum() / rank).sum() / ideal,
                f'hit_ratio@{k}': float(hits.any()),
                f'mrr@{k}': (hits / rank).max(),
            }
        )
    return {
        name: float(np.mean([total[name] for total in totals]))
        for name in totals[0]
    }


def random_pairs(num_users, num_items, num_pairs, generator):
    return torch.stack(
        [
            torch.randint(num_users, (num_pairs,), generator=generator),
            torch.randint(num_items, (num_pairs,), generator=generator),
        ]
    )


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 8),
    st.integers(2, 12),
    st.integers(1, 15),
    st.integers(1, 30),
    st.integers(0, 2**31 - 1),
)
def test_agrees_with_a_loop(U, num_items, k, num_train, seed):
    generator = torch.Generator().manual_seed(seed)
    # Distinct scores: the order among ties is nobody's promise.
    scores = torch.rand(U, num_items, generator=generator).double()
    train = random_pairs(U, num_items, num_train, generator)
    held_out = random_pairs(U, num_items, 12, generator)
    held_out[0, 0] = train[0, 0]
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        out = evaluate(
            scores.__getitem__, held_out, train, k, [*METRICS], batch_size=3
        )
    assert out == pytest.approx(
        reference(scores, held_out, train, k), abs=1e-6
    )


def test_short_rankings_are_padded_harmlessly():
    # PyG alone reads the padding of row 1 as the last item of row 0.
    scores = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    train = torch.tensor([[0, 1, 1], [0, 0, 1]])
    held_out = torch.tensor([[0, 1], [1, 1]])
    out = evaluate(scores.__getitem__, held_out, train, 2, ['recall'])
    assert out == {'recall@2': 0.5}


def test_ideal_ranking_is_cut():
    scores = torch.arange(10, 0, -1.0).unsqueeze(0)
    held_out = torch.tensor([[0] * 5, [0, 1, 2, 3, 4]])
    out = evaluate(scores.__getitem__, held_out, k=3)
    assert out == {'recall@3': pytest.approx(0.6), 'ndcg@3': 1.0}


def test_names_follow_the_arguments():
    out = evaluate(
        torch.rand(3, 30).__getitem__,
        torch.tensor([[0, 1], [4, 5]]),
        k=(20, 5),
        metrics=('mrr', 'recall'),
    )
    assert list(out) == ['mrr@20', 'mrr@5', 'recall@20', 'recall@5']
    assert all(isinstance(value, float) for value in out.values())


def test_a_single_metric_is_no_sequence_of_letters():
    scorer = torch.rand(3, 30).__getitem__
    held_out = torch.tensor([[0, 1], [4, 5]])
    out = evaluate(scorer, held_out, metrics='recall')
    assert out == evaluate(scorer, held_out, metrics=['recall'])
    with pytest.raises(ValueError, match=r"'metrics' needs .*\['auc'\]"):
        evaluate(scorer, held_out, metrics='auc')


def test_users_without_train_edges_are_left_out_and_counted():
    scores = torch.tensor([[0.9, 0.8, 0.1], [0.3, 0.2, 0.1], [1.0, 0.5, 0]])
    held_out = torch.tensor([[0, 1, 2, 2], [1, 2, 0, 1]])
    train = torch.tensor([[0, 1], [0, 0]])
    with pytest.warns(UserWarning, match='1 users without a train edge'):
        out = evaluate(scores.__getitem__, held_out, train, 1, ['recall'])
    assert out == {'recall@1': 0.5}
    with (
        pytest.warns(UserWarning, match='1 users'),
        pytest.raises(ValueError, match='at least one user'),
    ):
        evaluate(scores.__getitem__, held_out[:, 2:], train)


def test_chunks_and_order_do_not_matter(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    scorer = EmbeddingScorer(torch.randn(90, 8), torch.randn(60, 8))
    train = random_pairs(90, 60, 800, generator)
    held_out = random_pairs(90, 60, 200, generator)
    expected = evaluate(scorer, held_out, train, metrics=[*METRICS])
    monkeypatch.setattr(evaluate_module, '_MAX_USERS', 16)
    out = evaluate(
        scorer,
        torch.cat([held_out, held_out[:, :50]], dim=1).flip(1),
        train[:, torch.randperm(800)],
        metrics=[*METRICS],
        batch_size=7,
    )
    assert out == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.half, torch.double])
def test_blind_to_the_default_dtype(dtype):
    generator = torch.Generator().manual_seed(0)
    scorer = EmbeddingScorer(torch.randn(700, 8), torch.randn(60, 8))
    train = random_pairs(700, 60, 5000, generator)
    train[0, :700] = torch.arange(700)
    held_out = random_pairs(700, 60, 2000, generator)
    expected = evaluate(scorer, held_out, train, metrics=[*METRICS])
    torch.set_default_dtype(dtype)
    try:
        out = evaluate(scorer, held_out, train, metrics=[*METRICS])
        assert torch.get_default_dtype() == dtype
    finally:
        torch.set_default_dtype(torch.float)
    assert out == expected


def test_golden(golden_path):
    with np.load(golden_path, allow_pickle=False) as golden:
        scores = torch.from_numpy(golden['output/scores'])
        out = evaluate(
            scores.__getitem__,
            torch.from_numpy(golden['input/test_edge_index']).long(),
            torch.from_numpy(golden['input/train_edge_index']).long(),
        )
        assert len(out) == 4
        for name, value in out.items():
            assert round(value, 4) == float(golden[f'output/test_{name}'])
        user = torch.from_numpy(golden['output/user_embedding'])
        item = torch.from_numpy(golden['output/item_embedding'])
        assert out == evaluate(
            EmbeddingScorer(user, item),
            torch.from_numpy(golden['input/test_edge_index']).long(),
            torch.from_numpy(golden['input/train_edge_index']).long(),
        )


@pytest.mark.parametrize('label', [1, 2])
def test_real_catalogue(data_dir, label):
    table = np.loadtxt(
        data_dir / 'tiktok' / 'tiktok.inter', dtype=np.int64, skiprows=1
    )
    user, item, split = torch.from_numpy(table[:, :3]).t()
    pairs = torch.stack([user, item])
    train, held_out = pairs[:, split == 0], pairs[:, split == label]
    with pytest.warns(UserWarning, match='5 users without a train edge'):
        out = evaluate(Popularity(train, 6710), held_out, train)
    assert 0 < out['ndcg@10'] < out['recall@10'] < out['recall@20'] < 0.1


def test_malformed_input():
    scorer = torch.rand(3, 4).__getitem__
    held_out = torch.tensor([[0], [1]])
    with pytest.raises(ValueError, match="'k' needs to be a positive"):
        evaluate(scorer, held_out, k=0)
    with pytest.raises(ValueError, match="'k' needs at least one cutoff"):
        evaluate(scorer, held_out, k=())
    with pytest.raises(ValueError, match=r"'metrics' needs .*\['auc'\]"):
        evaluate(scorer, held_out, metrics=['auc'])
    with pytest.raises(ValueError, match="'metrics' needs"):
        evaluate(scorer, held_out, metrics=[])
    with pytest.raises(ValueError, match="'edge_label_index' needs ids"):
        evaluate(scorer, torch.tensor([[0], [4]]))
    with pytest.raises(ValueError, match="'train_edge_index' needs ids"):
        evaluate(scorer, held_out, torch.tensor([[0], [4]]))
    with pytest.raises(ValueError, match='at least one user'):
        evaluate(scorer, torch.empty(2, 0, dtype=torch.long))
    with pytest.raises(FloatingPointError, match='user 0 first'):
        evaluate((torch.rand(3, 4) / 0).__getitem__, held_out)
