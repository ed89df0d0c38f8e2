import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch_geometric.data import Data, HeteroData

from pyg_sea.nn import SEA
from pyg_sea.transforms import ModalKNNGraph, model_inputs

BUYS = ('user', 'buys', 'item')


def shop(item_first: bool = False, relation: str = 'buys') -> HeteroData:
    data = HeteroData()
    if item_first:
        data['item'].num_nodes = 3
    data['user'].num_nodes = 2
    data['item'].num_nodes = 3
    data['item']['x_v1.5'] = torch.randn(3, 4)
    data['item'].x_image = torch.randn(3, 2)
    data['item'].generic_factor = torch.randn(3, 1)
    store = data['user', relation, 'item']
    store.edge_index = torch.tensor([[0, 1, 1], [2, 0, 2]])
    store.val_edge_index = torch.tensor([[0], [1]])
    return data


@pytest.mark.parametrize('item_first', [True, False])
@pytest.mark.parametrize('relation', ['buys', 'plays'])
def test_users_come_first_and_edges_go_both_ways(item_first, relation):
    data = shop(item_first, relation)
    inputs = model_inputs(data)
    assert inputs['edge_index'].tolist() == [
        [0, 1, 1, 4, 2, 4],
        [4, 2, 4, 0, 1, 1],
    ]
    assert list(inputs['modal_x']) == ['v1.5', 'image']
    assert inputs['modal_x']['image'] is data['item'].x_image
    for key in ('edge_weight', 'item_edge_index', 'item_edge_weight'):
        assert inputs[key] is None
    assert len(inputs) == 5


def test_weights_follow_their_edges():
    data = shop()
    data[BUYS].edge_weight = torch.tensor([0.5, 1.0, 2.0])
    expected = [0.5, 1.0, 2.0, 0.5, 1.0, 2.0]
    assert model_inputs(data)['edge_weight'].tolist() == expected


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
@pytest.mark.parametrize(
    'weight', [[1, 5, 2], [True, True, True], [0.5, 1.0, 2.0]]
)
def test_weights_of_any_real_type_become_floats(weight, dtype):
    data = shop()
    for name in ('x_v1.5', 'x_image'):
        data['item'][name] = data['item'][name].to(dtype)
    for given_type in (None, torch.float64, torch.float16):
        data[BUYS].edge_weight = torch.tensor(weight, dtype=given_type)
        out = model_inputs(data)['edge_weight']
        assert out.dtype == dtype
        assert out.tolist() == [*map(float, weight)] * 2
    data = ModalKNNGraph(2)(data)
    store = data['item', 'similar', 'item']
    store.edge_weight = torch.ones(store.num_edges, dtype=torch.int32)
    assert model_inputs(data)['item_edge_weight'].dtype == dtype


def test_counts_go_through_a_model():
    data = shop()
    data[BUYS].edge_weight = torch.tensor([3, 1, 5])
    inputs = model_inputs(data)
    widths = {name: x.size(1) for name, x in inputs['modal_x'].items()}
    model = SEA(2, 3, widths, hidden_channels=4).eval()
    out = model.get_embedding(**inputs)
    inputs['edge_weight'] = torch.tensor([3.0, 1.0, 5.0] * 2)
    assert torch.equal(out, model.get_embedding(**inputs))
    inputs['edge_weight'] = None
    assert not torch.allclose(out, model.get_embedding(**inputs))


def test_item_graph():
    data = ModalKNNGraph(2)(shop())
    inputs = model_inputs(data)
    store = data['item', 'similar', 'item']
    assert inputs['item_edge_index'] is store.edge_index
    assert inputs['item_edge_weight'] is store.edge_weight
    del store.edge_weight
    assert model_inputs(data)['item_edge_weight'] is None


@given(st.data(), st.integers(1, 6), st.integers(1, 6))
def test_every_edge_survives(draw, num_users, num_items):
    pair = st.tuples(
        st.integers(0, num_users - 1), st.integers(0, num_items - 1)
    )
    pairs = draw.draw(st.lists(pair, unique=True))
    data = HeteroData()
    data['item'].num_nodes = num_items
    data['item'].x_a = torch.zeros(num_items, 1)
    data['user'].num_nodes = num_users
    data[BUYS].edge_index = torch.tensor(pairs).view(-1, 2).t().long()
    edges = set(zip(*model_inputs(data)['edge_index'].tolist(), strict=True))
    forward = {(u, num_users + i) for u, i in pairs}
    assert edges == forward | {(b, a) for a, b in forward}


def test_the_edge_type_can_be_named():
    data = shop()
    other = data['user', 'views', 'item']
    other.edge_index = torch.tensor([[0], [0]])
    with pytest.raises(ValueError, match=r"exactly one type .*'views'"):
        model_inputs(data)
    inputs = model_inputs(data, ('user', 'views', 'item'))
    assert inputs['edge_index'].tolist() == [[0, 2], [2, 0]]
    with pytest.raises(ValueError, match="one of the types from 'user'"):
        model_inputs(data, ('item', 'similar', 'item'))


def test_missing_parts():
    with pytest.raises(TypeError, match=r'HeteroData .got Data'):
        model_inputs(Data())
    data = HeteroData()
    with pytest.raises(ValueError, match="nodes of type 'user'"):
        model_inputs(data)
    data['user'].name = 'all of them'
    with pytest.raises(ValueError, match=r"set data\['user'\].num_nodes"):
        model_inputs(data)
    data['user'].num_nodes = 2
    with pytest.raises(ValueError, match="nodes of type 'item'"):
        model_inputs(data)
    data['item'].num_nodes = 3
    with pytest.raises(ValueError, match="entry 'x_<modality>'"):
        model_inputs(data)
    data['item'].x_a = torch.zeros(3, 1)
    with pytest.raises(ValueError, match=r'exactly one type .* .got \[\]'):
        model_inputs(data)
    data[BUYS].val_edge_index = torch.zeros(2, 0).long()
    with pytest.raises(ValueError, match=r'edge_index needs .*got NoneType'):
        model_inputs(data)


@pytest.mark.parametrize(
    ('x', 'error', 'message'),
    [
        (torch.zeros(2, 4), ValueError, r'shape \[3, width\]'),
        (torch.zeros(3), ValueError, r'got \[3\]'),
        (torch.zeros(3, 2).long(), TypeError, 'got torch.int64'),
        ([[1.0]] * 3, TypeError, 'got list'),
    ],
)
def test_features_that_do_not_fit(x, error, message):
    data = shop()
    data['item'].x_image = x
    with pytest.raises(error, match=message):
        model_inputs(data)


@pytest.mark.parametrize(
    ('edges', 'message'),
    [
        (torch.tensor([[0, 2], [0, 0]]), r'\[0, 2\) and \[0, 3\)'),
        (torch.tensor([[0, 1], [0, 3]]), r'to \[1, 3\]'),
        (torch.tensor([[0, -1], [0, 0]]), r'got \[-1, 0\]'),
        (torch.zeros(2, 2), r'got torch.float32 \[2, 2\]'),
        (torch.zeros(3, 2).long(), r'got torch.int64 \[3, 2\]'),
    ],
)
def test_edges_that_do_not_fit(edges, message):
    data = shop()
    data[BUYS].edge_index = edges
    with pytest.raises(ValueError, match=message):
        model_inputs(data)


def test_weights_that_do_not_fit():
    data = shop()
    data[BUYS].edge_weight = torch.ones(2)
    with pytest.raises(ValueError, match=r'numbers of shape \[3\]'):
        model_inputs(data)
    data = ModalKNNGraph(2)(shop())
    data['item', 'similar', 'item'].edge_weight = torch.ones(6).cfloat()
    with pytest.raises(ValueError, match=r'got torch\.complex64'):
        model_inputs(data)
