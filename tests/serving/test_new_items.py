import numpy as np
import pandas as pd
import pytest
import torch
from torch_geometric.data import HeteroData

from pyg_sea import Recommender
from pyg_sea.nn import SEA
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
RIDGES = 10.0 ** torch.arange(-3, 2, 0.5, dtype=torch.double)


def features_of(data, rows):
    modal_x = model_inputs(data)['modal_x']
    return {name: x[rows] for name, x in modal_x.items()}


def regression_by_hand(kernel, known, y, ridges):
    """Fitted by the whole hat matrix, in double precision; of all items."""
    n = len(known)
    kernel = kernel - kernel[known].mean(0)
    kernel = kernel[:, known] - kernel[:, known].mean(1, keepdim=True)
    inner, center = kernel[known], y.mean(0)
    y = y - center
    errors, weights = [], []
    for ridge in ridges:
        inverse = torch.linalg.inv(inner + ridge * torch.eye(n))
        hat = inner @ inverse
        error = (y - hat @ y).square().sum()
        errors.append(error / (n - 1 - hat.trace()) ** 2)
        weights.append(inverse @ y)
    weight = weights[int(torch.stack(errors).argmin())]
    return center + kernel @ weight


def by_hand(recommender, x, data, graph):
    """New rows in double precision, neighbours by full sorts."""
    old = model_inputs(data)['modal_x']
    state = recommender.state
    own = torch.cat([state.terms.own, state.item[:, -1:]], dim=1).double()
    num = next(iter(x.values())).size(0)
    rows = {name: unit(torch.cat([old[name], x[name]]), dim=1) for name in x}
    known = data['user', 'buys', 'item'].edge_index[1].unique()
    assert known.numel() < I
    total, cosine = sum(graph.weights.values()), 0
    for name in x:
        centred = rows[name].half().double()
        centred = unit(centred - centred[known].mean(0), dim=1)
        share = graph.weights[name] / total
        cosine = cosine + share * centred @ centred.t()
    kernel = (cosine - 1).exp()
    fit = regression_by_hand(kernel, known, own[known], RIDGES)
    differ = torch.zeros(I + num, own.size(1), dtype=torch.double)
    differ[known] = own[known] - fit[known]

    def neighbours(values):
        out = torch.zeros(num, own.size(1), dtype=torch.double)
        for name, weight in graph.weights.items():
            cosine = rows[name][I:] @ rows[name].t()
            new = torch.arange(num)
            cosine[new, I + new] = 9.0 if graph.include_self else -9.0
            top = cosine.topk(graph.k).indices
            out += weight * values[top].mean(dim=1)
        return out

    new = fit[I:] + neighbours(differ)
    out, bias = new + neighbours(torch.cat([own, new])), new[:, -1:]
    out = unit(out[:, :-1], dim=1) if state.terms.unit else out[:, :-1]
    return torch.cat([out, bias], dim=1)


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
    wanted = by_hand(old, x, data, graph).float()
    torch.testing.assert_close(new.state.item[I:], wanted)
    assert torch.equal(new.state.item[:I], old.state.item)
    assert new.item_ids[-3:].tolist() == [77, 70, 71]
    assert len(old.item_ids) == I
    # One by one, they have fewer neighbours.
    one = old.add_items({n: r[:1] for n, r in x.items()}, 77)
    wanted = by_hand(old, {n: r[:1] for n, r in x.items()}, data, graph)
    wanted = wanted.float()
    torch.testing.assert_close(one.state.item[I:], wanted)


def test_equal_to_the_model_without_features_or_neighbours():
    data = make_data(graph=False)
    model = make_model(data)
    x = features_of(data, torch.tensor([3, 39]))
    old = Recommender.from_model(model, data, features=False)
    new = old.add_items(x, [40, 41])
    assert model.ranking.item_bias.any()
    wanted = model.eval().get_item_embedding(x)
    torch.testing.assert_close(new.state.item[I:, :-1], wanted[:, :-1])
    # The model does not know which items nobody has chosen.
    known = data['user', 'buys', 'item'].edge_index[1].unique()
    bias = model.ranking.bias[known].mean().expand(2)
    torch.testing.assert_close(new.state.item[I:, -1], bias)
    # Item 39 has only its own vector.
    found = new.similar_items(41, 1, 'all', 'text')
    assert found['similar'].tolist() == [39]
    assert found['score'][0] == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize('ranking', ['softmax', 'bpr'])
def test_what_users_will_take_up_is_that_of_training(ranking):
    # Item 39 has no users; without a vector it is as good as new.
    data = make_data()
    model = make_model(data, ranking=ranking, id_channels=0)
    wanted = Recommender.from_model(model, data, graph=make_graph())
    last = features_of(data, slice(I - 1, I))
    new = wanted.add_items(last, [77])
    torch.testing.assert_close(
        new.state.terms.message[-1], wanted.state.terms.message[-1]
    )
    why = new.explain(3, 77)
    assert why.contributions['contribution'].sum() == pytest.approx(why.score)


def test_rows_are_those_that_users_would_make():
    # Users choose by features, so what they make of items can be foretold.
    generator = torch.Generator().manual_seed(0)
    num_users, num_items = 200, 120
    taste = torch.randn(num_users, 9, generator=generator)
    x = torch.randn(num_items, 9, generator=generator)
    liked = (taste @ unit(x, dim=1).t()).topk(12, dim=1).indices
    user = torch.arange(num_users).repeat_interleave(12)
    edges = torch.stack([user, liked.flatten()])

    def shop(num):
        data = HeteroData()
        data['user'].num_nodes, data['item'].num_nodes = num_users, num
        data['item'].x_image = x[:num]
        kept = edges[:, edges[1] < num]
        data['user', 'buys', 'item'].edge_index = kept
        return data

    sizes = (num_users, num_items, {'image': 9})
    model = SEA(*sizes, id_channels=0, item_bias=False)
    with torch.no_grad():
        rows = model.encoder.user_embedding[0]
        rows[:, :9] = taste
        rows[:, 9:] = 0
    true = Recommender.from_model(model, shop(num_items)).state.item[100:]
    model.num_items = 100
    old = Recommender.from_model(model, shop(100))
    new = old.add_items({'image': x[100:]}, range(100, 120))
    plain = Recommender.from_model(model, shop(100), features=False)
    plain = plain.add_items({'image': x[100:]}, range(100, 120))
    found, before = (
        (r.state.item[100:] * true).sum(dim=1).mean() for r in (new, plain)
    )
    assert found > 0.9
    assert 1 - found < 0.3 * (1 - before)


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
    assert (terms.message[I:, cols] == 0).all()
    # What is foretold by text, and what neighbours by text lend it.
    assert (terms.own[I:, cols] != 0).all()
    assert (new.state.item[I:, cols] != 0).all()
    zero = old.add_items({'text': text, 'image': image.nan_to_num()}, [50, 51])
    assert torch.equal(zero.state.item, out.state.item)
    why = new.explain(2, 50)
    assert why.contributions['contribution'].sum() == pytest.approx(why.score)
    image[0] = 1.0
    other = old.add_items({'text': text, 'image': image}, [50, 51])
    assert (other.state.terms.message[I, cols] != 0).any()
    assert (other.state.item[I] - new.state.item[I]).abs().max() > 1e-3
    torch.testing.assert_close(other.state.item[I + 1], new.state.item[I + 1])


def test_items_are_foretold_by_what_they_have():
    """Though it weighs nothing among neighbours."""
    graph = ModalKNNGraph(4, {'image': 0.0, 'text': 1.0})
    data = graph(make_data(graph=False))
    old = Recommender.from_model(make_model(data), data)
    image = torch.randn(3, 9)
    new = old.add_items({'image': image}, [50, 51, 52])
    rows = new.state.item[I:]
    assert (rows[0] - rows[1]).abs().max() > 1e-3
    # What other new items have does not matter to them.
    text = torch.full((3, 7), float('nan'))
    text[2] = 1.0
    out = old.add_items({'image': image, 'text': text}, [50, 51, 52])
    torch.testing.assert_close(out.state.item[I : I + 2], rows[:2])
    # No more does what only old items have.
    data['item'].x_text = torch.zeros(I, 7)
    alone = Recommender.from_model(make_model(data), data)
    assert (
        alone.add_items({'image': image}, [50, 51, 52])
        .state.item.isfinite()
        .all()
    )


def test_only_items_of_training_are_learned_from():
    data = make_data()
    old = Recommender.from_model(make_model(data), data)
    x = {'image': torch.randn(4, 9), 'text': torch.randn(4, 7)}
    some = {name: rows[:3] for name, rows in x.items()}
    last = {name: rows[3:] for name, rows in x.items()}
    wider = old.add_items(some, [50, 51, 52])
    wanted = wider.add_items(last, [53])
    # Item 39 has no users in training.
    table = pd.DataFrame({'user': [3] * 4, 'item': [39, 50, 51, 52]})
    found = wider.add_interactions(table).add_items(last, [53])
    assert torch.equal(found.state.item[-1], wanted.state.item[-1])


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
        ({'text': [[0.0] * 7]}, [50], 'row 0 has none'),
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


@pytest.mark.parametrize(
    'ids', [np.array([2**63 + 5], dtype=np.uint64), [2**70]]
)
def test_ids_that_do_not_fit(ids):
    data = make_data()
    old = Recommender.from_model(make_model(data), data, graph=make_graph())
    with pytest.raises(TypeError, match=r'fit into .* int64 \(got \d+\)'):
        old.add_items({'text': torch.ones(1, 7)}, ids)


def test_data_say_how_their_graph_was_made():
    graph = ModalKNNGraph(3, include_self=False)
    data = graph(make_data(graph=False)).to('cpu')
    x = {'text': torch.randn(1, 7), 'image': torch.randn(1, 9)}
    old = Recommender.from_model(make_model(data), data)
    equal = ModalKNNGraph(3, {'image': 0.5, 'text': 0.5}, include_self=False)
    wanted = by_hand(old, x, data, equal)
    new = old.add_items(x, [50])
    torch.testing.assert_close(new.state.item[I:].double(), wanted)


def test_what_neighbours_need():
    data = make_data()
    model = make_model(data)
    x = {'text': torch.ones(1, 7)}
    settings = data['item', 'similar', 'item'].pop('settings')
    assert settings['k'] == make_graph().k
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
