import pandas as pd
import pytest
import torch

from pyg_sea import Recommender
from pyg_sea.serving._new_items import nearest
from pyg_sea.transforms import ModalKNNGraph, model_inputs

from .made import (
    WIDTHS,
    I,
    U,
    make_data,
    make_graph,
    make_model,
    make_recommender,
)

unit = torch.nn.functional.normalize


def features_of(data, rows):
    modal_x = model_inputs(data)['modal_x']
    return {name: x[rows] for name, x in modal_x.items()}


def by_hand(recommender, model, x, data, graph):
    """New rows in double precision, neighbours by full sorts."""
    old = model_inputs(data)['modal_x']
    terms = recommender.state.terms
    with torch.no_grad():
        parts = model.separate.split(model.encoder.encode_items(x))
    num = next(iter(x.values())).size(0)
    blocks = [torch.cat(pair, dim=1) for pair in parts.values()]
    blocks.append(torch.zeros(num, 6))
    h = torch.cat([terms.own, torch.cat(blocks, dim=1)])
    out = h[I:].clone()
    for name, weight in graph.weights.items():
        rows = unit(torch.cat([old[name], x[name]]), dim=1)
        cosine = rows[I:] @ rows.t()
        own = torch.arange(num)
        bonus = 9.0 if graph.include_self else -9.0
        cosine[own, I + own] = bonus
        top = cosine.topk(graph.k).indices
        for row in range(num):
            out[row] += weight * h[top[row]].mean(dim=0)
    return unit(out, dim=1) if model.ranking.name == 'softmax' else out


@pytest.mark.parametrize('mode', ['slice', 'linear'])
@pytest.mark.parametrize('ranking', ['softmax', 'bpr'])
@pytest.mark.parametrize('include_self', [True, False])
def test_rows_by_hand(include_self, ranking, mode):
    graph = ModalKNNGraph(4, {'image': 0.3, 'text': 0.6}, include_self)
    data = graph(make_data(graph=False))
    model = make_model(data, ranking=ranking, mode=mode)
    old = Recommender.from_model(model, data, graph=graph)
    x = {name: torch.randn(3, WIDTHS[name]) for name in ('image', 'text')}
    new = old.add_items(x, [77, 70, 71])
    wanted = by_hand(old, model, x, data, graph)
    torch.testing.assert_close(new.state.item[I:], wanted)
    assert torch.equal(new.state.item[:I], old.state.item)
    assert new.item_ids[-3:].tolist() == [77, 70, 71]
    assert len(old.item_ids) == I
    # One by one, they have fewer neighbours.
    one = old.add_items({n: r[:1] for n, r in x.items()}, 77)
    wanted = by_hand(old, model, {n: r[:1] for n, r in x.items()}, data, graph)
    torch.testing.assert_close(one.state.item[I:], wanted)


def test_equal_to_the_model_without_neighbours():
    data = make_data(graph=False)
    model = make_model(data)
    x = features_of(data, torch.tensor([3, 5]))
    new = Recommender.from_model(model, data).add_items(x, [40, 41])
    wanted = model.eval().get_item_embedding(x)
    torch.testing.assert_close(new.state.item[I:], wanted)


@pytest.mark.parametrize('ranking', ['softmax', 'bpr'])
def test_equal_to_training_with_it(ranking):
    # Item 39 has no users; without a vector it is as good as new.
    data = make_data()
    model = make_model(data, ranking=ranking, id_channels=0)
    wanted = Recommender.from_model(model, data, graph=make_graph())
    fewer = make_data(graph=False)
    store = fewer['item']
    kept = features_of(fewer, slice(0, I - 1))
    last = features_of(fewer, slice(I - 1, I))
    store.num_nodes = I - 1
    for name, x in kept.items():
        store[f'x_{name}'] = x
    model.num_items = I - 1
    old = Recommender.from_model(
        model, make_graph()(fewer), graph=make_graph()
    )
    new = old.add_items(last, [I - 1])
    torch.testing.assert_close(new.state.item[-1], wanted.state.item[-1])
    torch.testing.assert_close(
        new.state.terms.message[-1], wanted.state.terms.message[-1]
    )
    assert new.explain(3, I - 1).score == pytest.approx(
        wanted.explain(3, I - 1).score, rel=1e-5
    )


def test_a_twin_is_near():
    data = make_data(graph=False)
    model = make_model(data)
    old = Recommender.from_model(model, data)
    x = features_of(data, torch.tensor([39]))  # Has only its own vector.
    new = old.add_items(x, [99])
    found = new.similar_items(99, 1, 'all', 'text')
    assert found['similar'].tolist() == [39]
    assert found['score'][0] == pytest.approx(1.0, abs=1e-5)
    assert new.recommend(0, k=I + 1)['item'].isin([99]).any()


def test_missing_modalities():
    data = make_data()
    model = make_model(data)
    old = Recommender.from_model(model, data, graph=make_graph())
    text = torch.randn(2, 7)
    image = torch.full((2, 9), float('nan'))
    new = old.add_items({'text': text, 'image': image}, [50, 51])
    out = old.add_items({'text': text}, [50, 51])
    assert torch.equal(new.state.item, out.state.item)
    terms = new.state.terms
    cols = slice(0, 8)
    assert (terms.own[I:, cols] == 0).all()
    assert (terms.message[I:, cols] == 0).all()
    # Neighbours by text lend it theirs.
    assert (new.state.item[I:, cols] != 0).all()
    why = new.explain(2, 50)
    assert why.contributions['contribution'].sum() == pytest.approx(why.score)
    image[0] = 1.0
    other = old.add_items({'text': text, 'image': image}, [50, 51])
    assert (other.state.terms.own[I, cols] != 0).any()
    torch.testing.assert_close(other.state.item[I + 1], new.state.item[I + 1])


def test_rows_of_zeros_have_no_neighbours():
    x = torch.randn(6, 4)
    x[1] = x[4] = 0
    found = nearest(unit(x, dim=1).half(), 2, 5)
    assert found[0].tolist() == [-1] * 5
    assert sorted(found[1].tolist()) == [-1, -1, 0, 2, 3]


def test_users_take_new_items_up():
    data = make_data()
    recommender = Recommender.from_model(
        make_model(data), data, graph=make_graph()
    )
    x = {'image': torch.randn(1, 9), 'text': torch.randn(1, 7)}
    new = recommender.add_items(x, [99])
    table = pd.DataFrame({'user': [3], 'item': [99]})
    later = new.add_interactions(table)
    assert later.score([3], [99]) > new.score([3], [99])
    assert 99 not in set(later.recommend(3, I)['item'])
    assert 99 in set(new.recommend(3, I)['item'])
    assert 99 in set(later.explain(3, 5).because['item'])


@pytest.mark.parametrize(
    ('features', 'ids', 'match'),
    [
        ({'text': torch.zeros(1, 7)}, [3], 'there already: 3'),
        ({'text': torch.zeros(2, 7)}, [50, 50], 'repeated: 50'),
        ({'text': torch.zeros(1, 5)}, [50], r'\[1, 7\].*\[1, 5\]'),
        ({'text': torch.zeros(1, 7)}, [50, 51], r'\[2, 7\].*\[1, 7\]'),
        ({'smell': torch.zeros(1, 7)}, [50], "'image', 'text'.*'smell'"),
        ({}, [50], "'features' needs some"),
        ({'text': [[0.0] * 6 + [float('nan')]]}, [50], 'row 0 is neither'),
        ({'text': [[float('inf')] * 7]}, [50], 'row 0 is neither'),
        ({'text': [[float('nan')] * 7]}, [50], 'row 0 has none'),
    ],
)
def test_errors(features, ids, match):
    data = make_data()
    old = Recommender.from_model(make_model(data), data, graph=make_graph())
    with pytest.raises(ValueError, match=match):
        old.add_items(features, ids)


def test_ids_keep_their_type():
    data = make_data()
    old = Recommender.from_model(make_model(data), data, graph=make_graph())
    with pytest.raises(TypeError, match=r'integer.*got string'):
        old.add_items({'text': torch.zeros(1, 7)}, ['new'])


def test_what_neighbours_need():
    data = make_data()
    model = make_model(data)
    x = {'text': torch.zeros(1, 7)}
    # The weights of the default add up to 1, those of this graph to 0.9.
    old = Recommender.from_model(model, data)
    with pytest.raises(ValueError, match="pass 'graph'"):
        old.add_items(x, [50])
    old = Recommender.from_model(
        model, data, graph=make_graph(), features=False
    )
    assert old.state.features is None
    with pytest.raises(ValueError, match='features=True'):
        old.add_items(x, [50])
    with pytest.raises(ValueError, match=r'up to 0\.9 .* to 1\)'):
        Recommender.from_model(model, data, graph=ModalKNNGraph())


def test_no_new_items():
    recommender = make_recommender()
    features = {'text': torch.zeros(0, 7)}
    assert len(recommender.add_items(features, []).item_ids) == I


def test_user_rows_do_not_move():
    data = make_data()
    old = Recommender.from_model(make_model(data), data, graph=make_graph())
    new = old.add_items({'text': torch.randn(1, 7)}, [50])
    assert torch.equal(new.state.user, old.state.user)
    assert len(new.user_ids) == U
