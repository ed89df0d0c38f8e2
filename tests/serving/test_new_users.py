import pandas as pd
import pytest
import torch

from pyg_sea import Recommender
from pyg_sea.transforms import model_inputs

from .made import I, U, make_data, make_model, make_recommender

unit = torch.nn.functional.normalize


def without_vector(model, user):
    """The user's free vectors become zero, the weights the mean."""
    encoder = model.encoder
    with torch.no_grad():
        encoder.user_embedding[:, user] = 0.0
        encoder.user_id_embedding[user] = 0.0
        others = torch.arange(U) != user
        encoder.user_weight[user] = encoder.user_weight[others].mean(dim=0)


@pytest.mark.parametrize('weighted', [False, True])
@pytest.mark.parametrize('num_layers', [1, 2, 3])
@pytest.mark.parametrize('ranking', ['softmax', 'bpr'])
def test_fold_in_is_the_row_of_the_model(ranking, num_layers, weighted):
    data = make_data(weighted=weighted)
    model = make_model(data, ranking=ranking, num_layers=num_layers)
    without_vector(model, 7)
    recommender = Recommender.from_model(model, data)
    row = model.eval().get_embedding(**model_inputs(data))
    scores = row[U:] @ row[7]

    store = data['user', 'buys', 'item']
    own = store.edge_index[0] == 7
    items = store.edge_index[1, own]
    weights = store.edge_weight[own].tolist() if weighted else None
    found = recommender.recommend_for(
        items.tolist(), I, exclude_seen=False, weights=weights
    )
    assert list(found) == ['item', 'rank', 'score']
    wanted = scores[torch.tensor(found['item'].to_numpy(copy=True))]
    torch.testing.assert_close(
        torch.tensor(found['score'].to_numpy(copy=True)), wanted
    )
    best = recommender.recommend_for(items.tolist(), 3, weights=weights)
    scores[items] = float('-inf')
    assert best['item'].tolist() == scores.topk(3).indices.tolist()

    # The same, for a user to be kept.
    table = pd.DataFrame({'who': 99, 'what': items.numpy()})
    table['w'] = weights if weighted else 1.0
    later = recommender.add_interactions(table, 'who', 'what', 'w')
    torch.testing.assert_close(later.state.user[-1], row[7])
    assert later.user_ids[-1] == 99
    assert later.recommend(99, 3)['item'].tolist() == best['item'].tolist()
    why, same = later.explain(99, 20), recommender.explain(7, 20)
    assert why.user_vector == pytest.approx(0.0, abs=1e-5)
    assert why.score == pytest.approx(same.score, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize('num_layers', [1, 2])
@pytest.mark.parametrize('ranking', ['softmax', 'bpr'])
def test_old_users_take_up_what_is_new(ranking, num_layers):
    data = make_data()
    model = make_model(data, ranking=ranking, num_layers=num_layers)
    old = Recommender.from_model(model, data)
    table = pd.DataFrame({'user': [3, 5, 3], 'item': [39, 39, 38]})
    new = old.add_interactions(table)

    encoder = model.encoder
    with torch.no_grad():
        free = torch.cat(
            [
                *unit(encoder.user_embedding, dim=2),
                unit(encoder.user_id_embedding, dim=1),
            ],
            dim=1,
        )
        weight = encoder.user_weight.repeat_interleave(old.state.widths, dim=1)
    edges = data['user', 'buys', 'item'].edge_index
    for user in (3, 5):
        items = edges[1, edges[0] == user].tolist()
        items = {*items, *table['item'][table['user'] == user]}
        got = old.state.terms.message[[*items]].sum(0) / len(items) ** 0.5
        row = weight[user] * (free[user] + got)
        if ranking == 'softmax':
            row = unit(row, dim=0)
        torch.testing.assert_close(new.state.user[user, :-1], row)
        assert new.state.user[user, -1] == 1
    others = [user for user in range(U) if user not in (3, 5)]
    assert torch.equal(new.state.user[others], old.state.user[others])
    assert set(new.recommend(3, I)['item']).isdisjoint({38, 39})
    assert not torch.equal(new.state.user[3], old.state.user[3])


def test_known_pairs_change_nothing():
    recommender = make_recommender()
    pairs = recommender.state.seen.pairs[:, :9]
    table = pd.DataFrame(
        {
            'user': recommender.user_ids[pairs[0].numpy()],
            'item': recommender.item_ids[pairs[1].numpy()],
        }
    )
    later = recommender.add_interactions(table)
    torch.testing.assert_close(later.state.user, recommender.state.user)
    assert later.state.seen.pairs.equal(recommender.state.seen.pairs)
    assert later.state.seen.weight.equal(recommender.state.seen.weight)


def test_items_named_twice_count_once():
    recommender = make_recommender()
    wanted = recommender.recommend_for([1004, 1007], 5)
    found = recommender.recommend_for([1007, 1004, 1007], 5)
    pd.testing.assert_frame_equal(found, wanted)
    table = pd.DataFrame({'user': ['new'] * 3, 'item': [1007, 1004, 1007]})
    later = recommender.add_interactions(table).recommend('new', 5)
    pd.testing.assert_frame_equal(later.drop(columns='user'), wanted)


def test_nothing_new():
    recommender = make_recommender()
    table = pd.DataFrame({'user': [], 'item': []})
    later = recommender.add_interactions(table)
    assert later.state.user.equal(recommender.state.user)
    assert later.state.seen.pairs.equal(recommender.state.seen.pairs)


def test_one_after_the_other_is_all_at_once():
    recommender = make_recommender()
    table = pd.DataFrame(
        {
            'user': ['new', 'user 3', 'new', 'other', 'user 3'],
            'item': [1004, 1039, 1007, 1004, 1005],
        }
    )
    once = recommender.add_interactions(table)
    step = recommender
    for i in range(len(table)):
        step = step.add_interactions(table.iloc[i : i + 1])
    torch.testing.assert_close(step.state.user, once.state.user)
    torch.testing.assert_close(step.state.terms.scale, once.state.terms.scale)
    assert once.user_ids[-2:].tolist() == ['new', 'other']
    for user in ('user 3', 'new'):
        why = once.explain(user, 1001)
        total = why.because['contribution'].sum() + why.user_vector
        assert total + why.popularity == pytest.approx(why.score)
    assert why.user_vector == pytest.approx(0.0, abs=1e-6)
    assert 1039 not in set(once.recommend('user 3', I)['item'])


@pytest.mark.parametrize(
    ('call', 'error', 'match'),
    [
        (lambda r: r.recommend_for([]), ValueError, 'at least one item'),
        (lambda r: r.recommend_for([7]), KeyError, 'unknown item ids: 7'),
        (
            lambda r: r.recommend_for([1001], weights=[1, 2]),
            ValueError,
            "'weights' needs 1 positive",
        ),
        (
            lambda r: r.add_interactions(pd.DataFrame({'user': ['a']})),
            ValueError,
            r"columns \['user', 'item'\].*\['user'\]",
        ),
        (lambda r: r.add_interactions([1]), ValueError, 'got list'),
        (
            lambda r: r.add_interactions(
                pd.DataFrame({'user': ['a', None], 'item': [1001, 1002]})
            ),
            ValueError,
            'lacks values',
        ),
        (
            lambda r: r.add_interactions(
                pd.DataFrame({'user': ['a'], 'item': [5]})
            ),
            KeyError,
            'unknown item ids: 5',
        ),
        (
            lambda r: r.add_interactions(
                pd.DataFrame({'user': [5], 'item': [1001]})
            ),
            TypeError,
            'string.*got integer',
        ),
        (
            lambda r: r.add_interactions(
                pd.DataFrame({'user': ['a'], 'item': [1001], 'n': [0.0]}),
                weight='n',
            ),
            ValueError,
            "column 'n' needs 1 positive",
        ),
    ],
)
def test_errors(call, error, match):
    with pytest.raises(error, match=match):
        call(make_recommender())
