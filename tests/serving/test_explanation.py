import numpy as np
import pytest
import torch

from pyg_sea import Recommender
from pyg_sea.nn import SEA
from pyg_sea.transforms import model_inputs

from .made import I, U, make_data, make_model, make_recommender


@pytest.mark.parametrize('id_channels', [0, 6])
@pytest.mark.parametrize('num_modalities', [1, 2, 3])
@pytest.mark.parametrize(
    'kwargs', [{}, {'ranking': 'bpr'}, {'mode': 'linear', 'num_layers': 3}]
)
def test_parts_add_up(kwargs, num_modalities, id_channels):
    recommender = make_recommender(
        num_modalities, id_channels=id_channels, **kwargs
    )
    state = recommender.state
    for user, item in [(0, 0), (3, 39), (29, 17)]:
        why = recommender.explain(f'user {user}', 1000 + item)
        assert (why.user, why.item) == (f'user {user}', 1000 + item)
        score = state.user[user].double() @ state.item[item].double()
        assert why.score == pytest.approx(float(score), rel=1e-12)
        table = why.contributions
        assert table['contribution'].sum() == pytest.approx(
            why.score, rel=1e-5
        )
        for (name, part), cols in recommender.blocks.items():
            rows = table[(table['modality'] == name) & (table['part'] == part)]
            block = state.user[user, cols] @ state.item[item, cols]
            assert rows['contribution'].sum() == pytest.approx(
                float(block), rel=1e-4, abs=1e-6
            )
        # Neighbours lend no popularity.
        assert len(table) == 2 * len(recommender.blocks) - 1
        bias = table[table['modality'] == 'popularity']
        assert bias['source'].tolist() == ['item']
        assert bias['contribution'].tolist() == [why.popularity]


def test_neighbours_are_what_the_graph_adds():
    data = make_data(graph=False)
    model = make_model(data, ranking='bpr')
    alone = Recommender.from_model(model, data)
    both = Recommender.from_model(model, make_data(), graph=None)
    for item in (2, 39):
        first, second = alone.explain(1, item), both.explain(1, item)
        assert (
            first.contributions.query("source != 'item'")['contribution'] == 0
        ).all()
        own = second.contributions.query("source == 'item'")
        assert own['contribution'].sum() == pytest.approx(
            first.score, rel=1e-4, abs=1e-6
        )


@pytest.mark.parametrize('weighted', [False, True])
@pytest.mark.parametrize('num_layers', [1, 2, 3])
@pytest.mark.parametrize('ranking', ['softmax', 'bpr'])
def test_because_adds_up(ranking, num_layers, weighted):
    data = make_data(weighted=weighted)
    model = make_model(data, ranking=ranking, num_layers=num_layers).eval()
    recommender = Recommender.from_model(model, data)

    # The hops by a dense matrix, in double precision.
    inputs = model_inputs(data)
    row, col = inputs['edge_index']
    weight = inputs['edge_weight']
    weight = torch.ones(row.numel()) if weight is None else weight
    adj = torch.zeros(U + I, U + I, dtype=torch.double)
    adj[row, col] = weight.double()
    degree = adj.sum(1).clamp_min(1e-9).rsqrt()
    adj = degree[:, None] * adj * degree
    unit = torch.nn.functional.normalize
    with torch.no_grad():
        encoder = model.encoder
        before = encoder.encode_items(inputs['modal_x'])
        blocks = [
            torch.cat([unit(x_user, dim=1), before[name]])
            for name, x_user in zip(model.modalities, encoder.user_embedding)
        ]
        blocks.append(
            torch.cat(
                [
                    unit(encoder.user_id_embedding, dim=1),
                    unit(encoder.item_embedding, dim=1),
                ]
            )
        )
        weights = torch.cat(
            [
                w.expand(-1, x.size(1))
                for w, x in zip(encoder.user_weight.split(1, 1), blocks)
            ],
            dim=1,
        ).double()
        h = torch.cat(blocks, dim=1).double()
        lower = sum(
            torch.linalg.matrix_power(adj, k) @ h for k in range(num_layers)
        )
        item_row = model.get_embedding(**inputs)[U:, :-1].double()
        bias = model.ranking.bias

    user, item = 4, 11
    norm = 1.0
    if ranking == 'softmax':
        norm = (weights[user] * (h[user] + adj[user] @ lower)).norm()
    side = weights[user] / norm * item_row[item]
    why = recommender.explain(user, item)
    assert why.user_vector == pytest.approx(
        float(h[user] @ side), rel=1e-4, abs=1e-6
    )
    for name, share in zip(why.because['item'], why.because['contribution']):
        wanted = adj[user, U + name] * lower[U + name] @ side
        assert share == pytest.approx(float(wanted), rel=1e-4, abs=1e-6)
    assert why.popularity == pytest.approx(float(bias[item]))
    total = why.because['contribution'].sum() + why.user_vector
    total += why.popularity
    assert total == pytest.approx(why.score, rel=1e-5)
    known = data['user', 'buys', 'item'].edge_index
    assert sorted(why.because['item']) == sorted(
        known[1, known[0] == user].tolist()
    )
    assert why.because['contribution'].is_monotonic_decreasing


def test_similarity_is_the_cosine():
    recommender = make_recommender(ranking='bpr')
    why = recommender.explain('user 3', 1005)
    item = recommender.state.item[:, :-1]
    for name, value in zip(why.because['item'], why.because['similarity']):
        wanted = torch.cosine_similarity(item[name - 1000], item[5], dim=0)
        assert value == pytest.approx(float(wanted), abs=1e-6)


def test_normalized_graphs_have_no_shares():
    data = make_data()
    model = make_model(data, normalize=False)
    why = Recommender.from_model(model, data).explain(3, 5)
    assert why.user_vector is None
    assert why.contributions['contribution'].sum() == pytest.approx(why.score)


def test_a_modality_called_like_the_bias():
    data = make_data()
    item = data['item']
    item.x_popularity = item.x_text
    del item.x_text
    sizes = {'image': 9, 'popularity': 7}
    kwargs = {'distance': 'negative_l2', 'item_bias': False}
    model = SEA(U, I, sizes, 8, id_channels=0, **kwargs)
    recommender = Recommender.from_model(model, data)
    why = recommender.explain(3, 5)
    assert why.popularity == 0
    assert why.contributions['contribution'].sum() == pytest.approx(why.score)
    found = recommender.similar_items(5, 2, modality='popularity')
    assert len(found) == 2
    assert len(recommender.recommend_for([4, 5], 3)) == 3


def test_users_without_items():
    data = make_data()
    store = data['user', 'buys', 'item']
    store.edge_index = store.edge_index[:, store.edge_index[0] != 3]
    recommender = Recommender.from_model(make_model(data), data)
    why = recommender.explain(3, 5)
    assert len(why.because) == 0
    assert why.user_vector + why.popularity == why.score
    assert 'because of' in repr(why)
    assert len(recommender.recommend(3, 7)) == 7


def test_one_at_a_time():
    recommender = make_recommender()
    with pytest.raises(TypeError, match=r"'item' needs to be one id .*1004"):
        recommender.explain('user 3', [1004])


def test_plot():
    pytest.importorskip('matplotlib').use('agg')
    why = make_recommender().explain('user 3', 1005)
    left, right = why.plot(num_items=4)
    width = sum(patch.get_width() for patch in left.patches)
    assert width == pytest.approx(why.score, rel=1e-5)
    top = why.because['contribution'][:4][::-1]
    drawn = [patch.get_width() for patch in right.patches]
    np.testing.assert_allclose(drawn, top)


def test_plot_without_matplotlib(monkeypatch):
    monkeypatch.setitem(__import__('sys').modules, 'matplotlib', None)
    with pytest.raises(ImportError, match=r'pyg_sea\[plot\]'):
        make_recommender().explain('user 3', 1005).plot()


def test_explanations_are_told_apart_by_identity():
    recommender = make_recommender()
    why, same = (recommender.explain('user 3', 1005) for _ in range(2))
    assert len({why, same}) == 2
    assert why != same


def test_repr():
    text = repr(make_recommender().explain('user 3', 1005))
    assert text.startswith("Explanation(user='user 3', item=1005, score=")
    assert 'similar items' in text
    assert "user's own vector" in text
