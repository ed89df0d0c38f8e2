import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch

import pyg_sea
from pyg_sea import Recommender
from pyg_sea.datasets import from_pandas
from pyg_sea.nn import FREEDOM, SEA, VBPR, ReleasedSEA
from pyg_sea.transforms import model_inputs

from .made import WIDTHS, I, U, make_data, make_model, make_recommender


@pytest.fixture(scope='module')
def recommender():
    torch.manual_seed(0)
    return make_recommender()


def brute_force(recommender, users, k, seen=True, exclude=(), candidates=None):
    state = recommender.state
    scores = (state.user @ state.item.t()).numpy()
    if seen:
        scores[tuple(state.seen.pairs.numpy())] = -np.inf
    for user, item in exclude:
        scores[user, item] = -np.inf
    if candidates is not None:
        others = np.setdiff1d(np.arange(I), candidates)
        scores[:, others] = -np.inf
    rows = []
    for user in users:
        order = [i for i in np.argsort(-scores[user]) if scores[user, i] > -9]
        for rank, item in enumerate(order[:k], 1):
            rows.append((f'user {user}', 1000 + item, rank))
    return rows


def rows_of(table):
    return list(zip(table['user'], table['item'], table['rank']))


@pytest.mark.parametrize('chunk_size', [1, 7, 8192])
@pytest.mark.parametrize('seen', [True, False])
def test_recommend_equals_brute_force(recommender, seen, chunk_size):
    users = [5, 2, 29, 2]
    names = [f'user {i}' for i in users]
    found = recommender.recommend(names, 6, seen, chunk_size=chunk_size)
    assert rows_of(found) == brute_force(recommender, users, 6, seen)
    everybody = recommender.recommend(None, 6, seen, chunk_size=chunk_size)
    assert rows_of(everybody) == brute_force(recommender, range(U), 6, seen)
    scores = recommender.score(found['user'], found['item'])
    np.testing.assert_allclose(found['score'], scores, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize('method', ['exact', 'faiss'])
def test_candidates_and_exclude(recommender, method):
    if method == 'faiss':
        pytest.importorskip('faiss')
    candidates = [3, 9, 17, 17, 20]
    exclude = {'user 1': [1003, 1009], 'user 4': [], 'user 2': [1020]}
    pairs = [(1, 3), (1, 9), (2, 20)]
    users = [2, 1, 4]
    found = recommender.recommend(
        [f'user {i}' for i in users],
        10,
        candidates=[1000 + i for i in candidates],
        exclude=exclude,
        method=method,
    )
    wanted = brute_force(recommender, users, 10, True, pairs, candidates)
    assert rows_of(found) == wanted
    table = pd.DataFrame(
        [(f'user {u}', 1000 + i) for u, i in pairs], columns=['user', 'item']
    )
    found = recommender.recommend(exclude=table, k=I, method=method)
    wanted = brute_force(recommender, range(U), I, True, pairs)
    assert rows_of(found) == wanted


def test_chunks_are_the_table(recommender):
    whole = recommender.recommend(k=3)
    parts = list(recommender.recommend_iter(k=3, chunk_size=7))
    assert [len(part) for part in parts] == [21, 21, 21, 21, 6]
    pd.testing.assert_frame_equal(pd.concat(parts, ignore_index=True), whole)


def test_one_id_is_enough():
    data = make_data()
    recommender = Recommender.from_model(make_model(data), data)
    wanted = recommender.recommend([3], 2)
    for user in (3, np.int64(3), torch.tensor(3), torch.tensor([3]), {3}):
        pd.testing.assert_frame_equal(recommender.recommend(user, 2), wanted)


def test_is_not_made_of_a_model():
    with pytest.raises(TypeError, match=r"'from_model'.*\(got SEA\)"):
        Recommender(make_model(make_data()))


def test_nobody(recommender):
    assert list(recommender.recommend([])) == ['user', 'item', 'rank', 'score']
    assert len(recommender.recommend([])) == 0


def test_nothing_to_choose_from(recommender):
    assert len(recommender.recommend('user 3', candidates=[])) == 0
    found = recommender.recommend('user 3', candidates=1005, k=3)
    assert found['item'].isin([1005]).all()


@pytest.mark.parametrize('kind', [list, set, tuple, np.array])
def test_kinds_of_lists_to_exclude(recommender, kind):
    exclude = {'user 1': kind([1003, 1009]), 'user 2': kind([1001, 1002])}
    found = recommender.recommend(exclude=exclude, k=I)
    pairs = [(1, 3), (1, 9), (2, 1), (2, 2)]
    assert rows_of(found) == brute_force(recommender, range(U), I, True, pairs)


def test_rows_are_those_of_the_model():
    data = make_data()
    for ranking in ('softmax', 'bpr'):
        model = make_model(data, ranking=ranking)
        out = Recommender.from_model(model, data).state
        rows = model.eval().get_embedding(**model_inputs(data))
        torch.testing.assert_close(torch.cat([out.user, out.item]), rows)


@pytest.mark.parametrize('training', [True, False])
def test_model_stays_as_it_was(training):
    data = make_data()
    model = make_model(data).train(training)
    before = {name: x.clone() for name, x in model.state_dict().items()}
    Recommender.from_model(model, data)
    assert model.training == training
    assert model.encoder.K == 2
    for name, x in model.state_dict().items():
        assert torch.equal(x, before[name]), name


@pytest.mark.parametrize('cls', [VBPR, FREEDOM, ReleasedSEA])
def test_other_models(cls, tmp_path):
    data = make_data()
    widths = dict(list(WIDTHS.items())[:2])
    model = cls(U, I, widths)
    recommender = Recommender.from_model(model, data)
    inputs = model_inputs(data)
    users = torch.tensor([4, 7])
    exclude = data['user', 'buys', 'item'].edge_index
    wanted = model.eval().recommend(
        **inputs, users=users, k=5, exclude=exclude
    )
    found = recommender.recommend([4, 7], k=5)
    assert found['item'].tolist() == wanted.flatten().tolist()
    assert recommender.similar_items([3], 4)['rank'].tolist() == [1, 2, 3, 4]

    why = recommender.explain(4, 11)
    assert why.contributions['modality'].tolist() == ['all']
    assert why.contributions['contribution'][0] == pytest.approx(why.score)
    assert set(why.because['item']) == set(
        exclude[1][exclude[0] == 4].tolist()
    )
    assert why.because['contribution'].isna().all()
    assert why.because['similarity'].is_monotonic_decreasing
    assert "user's own" not in repr(why)

    pytest.importorskip('safetensors')
    recommender.save(tmp_path / 'saved')
    again = Recommender.load(tmp_path / 'saved')
    assert again.explain(4, 11).score == why.score

    table = pd.DataFrame({'user': [4], 'item': [1]})
    for call in (
        lambda: recommender.recommend_for([3]),
        lambda: recommender.add_interactions(table),
        lambda: recommender.add_items({'text': torch.zeros(1, 7)}, [77]),
    ):
        with pytest.raises(ValueError, match=r'needs .* pyg_sea\.nn\.SEA'):
            call()
    with pytest.raises(ValueError, match=r'only pyg_sea\.nn\.SEA has parts'):
        recommender.similar_items([3], 4, 'generic')


def test_any_model_with_rows():
    class Popular(torch.nn.Module):
        def get_embedding(self, edge_index, **kwargs):
            degree = edge_index[1].bincount(minlength=U + I).float()
            return torch.cat([torch.ones(U), degree[U:]]).unsqueeze(1)

    data = make_data()
    found = Recommender.from_model(Popular(), data).recommend(0, 3)
    degree = data['user', 'buys', 'item'].edge_index[1].bincount(minlength=I)
    assert found['score'].tolist() == sorted(found['score'], reverse=True)
    assert (degree.numpy()[found['item']] == found['score']).all()


def test_ids_of_the_data():
    rng = np.random.default_rng(0)
    pairs = {
        (u, i) for u in range(12) for i in rng.choice(9, 6, replace=False)
    }
    orders = pd.DataFrame(sorted(pairs), columns=['user', 'item'])
    orders['user'] = 'u' + orders['user'].astype(str)
    orders['item'] += 500
    data = from_pandas(
        orders,
        {'text': pd.DataFrame(rng.normal(size=(9, 4)), range(500, 509))},
    )
    model = SEA(12, 9, {'text': 4}, 8)
    recommender = Recommender.from_model(model, data)
    assert set(recommender.user_ids) == set(orders['user'])
    found = recommender.recommend(['u3', 'u11'], k=2)
    assert found['user'].tolist() == ['u3', 'u3', 'u11', 'u11']
    assert found['item'].between(500, 508).all()
    assert pd.api.types.is_integer_dtype(found['item'])


def test_similar_items(recommender):
    item = recommender.state.item
    cols = recommender.blocks['image', 'unique']
    cosine = torch.nn.functional.normalize(item[:, cols])
    cosine = (cosine @ cosine.t()).fill_diagonal_(-9)
    found = recommender.similar_items([1003, 1001], 4, 'unique', 'image')
    for local, own in ((3, 1003), (1, 1001)):
        part = found[found['item'] == own]
        value, index = cosine[local].topk(4)
        assert part['similar'].tolist() == (1000 + index).tolist()
        np.testing.assert_allclose(part['score'], value, rtol=1e-5)
    everything = recommender.similar_items(1003, 100)
    assert len(everything) == I - 1
    assert 1003 not in set(everything['similar'])


def test_parts_answer_different_questions(recommender):
    tables = [
        recommender.similar_items(1003, 5, part, modality)['similar'].tolist()
        for part, modality in [
            ('all', None),
            ('generic', None),
            ('unique', 'image'),
            ('unique', 'text'),
            ('all', 'id'),
        ]
    ]
    assert len({tuple(table) for table in tables}) == 5


@pytest.mark.parametrize(
    ('call', 'error', 'match'),
    [
        (
            lambda r: r.recommend('nobody'),
            KeyError,
            "1 unknown user ids.*'nob",
        ),
        (lambda r: r.recommend([5, 6]), KeyError, '2 unknown user ids: 5, 6'),
        (
            lambda r: r.recommend('user 1', candidates=list(range(9))),
            KeyError,
            r'9 unknown item ids: 0, 1, 2, 3, 4, \.\.\. \(known are 40',
        ),
        (lambda r: r.recommend(exclude={'x': [1]}), KeyError, "user ids: 'x'"),
        (lambda r: r.recommend(exclude=[1]), TypeError, "'exclude'.*list"),
        (lambda r: r.recommend(method='best'), ValueError, "got 'best'"),
        (lambda r: r.recommend(k=0), ValueError, r"'k'.*\(got 0\)"),
        (lambda r: r.recommend([], k=-1), ValueError, r"'k'.*\(got -1\)"),
        (lambda r: r.recommend_for(1001, 0), ValueError, r"'k'.*\(got 0\)"),
        (lambda r: r.similar_items(1001, 0), ValueError, r"'k'.*\(got 0\)"),
        (
            lambda r: r.recommend(chunk_size=0),
            ValueError,
            r"'chunk_size'.*\(got 0\)",
        ),
        # Nothing has to be taken from the generator.
        (lambda r: r.recommend_iter([5]), KeyError, 'unknown user ids: 5'),
        (lambda r: r.recommend_iter(chunk_size=-5), ValueError, r'\(got -5\)'),
        (lambda r: r.similar_items('a'), KeyError, 'item ids'),
        (
            lambda r: r.similar_items(1001, 3, 'generic', 'smell'),
            ValueError,
            "'image generic'.*'smell'",
        ),
        (lambda r: r.explain('user 1', 3), KeyError, 'item ids: 3'),
        (lambda r: r.score(['user 1'], [1001, 1002]), ValueError, '1 and 2'),
    ],
)
def test_errors(recommender, call, error, match):
    with pytest.raises(error, match=match):
        call(recommender)


@pytest.mark.parametrize(
    ('ids', 'match'),
    [
        (range(7), "'user_ids' needs 30 ids.*got 7"),
        ([1] * U, "'user_ids' needs ids that differ.*1"),
        ([None, *range(1, U)], "'user_ids' needs an id for every user"),
    ],
)
def test_ids_have_to_fit(ids, match):
    data = make_data()
    with pytest.raises(ValueError, match=match):
        Recommender.from_model(make_model(data), data, ids)


def test_top_level_name_is_lazy():
    code = (
        'import sys, pyg_sea; assert "torch" not in sys.modules; '
        'from pyg_sea import Recommender; print(Recommender.__module__)'
    )
    out = subprocess.run(
        [sys.executable, '-c', code],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert out.strip() == 'pyg_sea.serving.recommender'
    with pytest.raises(AttributeError, match="no attribute 'Recomender'"):
        _ = pyg_sea.Recomender
