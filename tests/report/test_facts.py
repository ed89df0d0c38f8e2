import torch

from pyg_sea.datasets import FakeMultimodal
from pyg_sea.report._chart import BOTTOM, LEFT, RIGHT, TOP
from pyg_sea.report._facts import facts, survival
from pyg_sea.report._lists import Split
from pyg_sea.transforms import ModalKNNGraph


def test_counts():
    data = FakeMultimodal(50, 40)[0]
    edges = data['user', 'buys', 'item']
    edges.edge_index = edges.edge_index[:, edges.edge_index[1] >= 10]
    data['item'].x_text[:3] = 0
    data = ModalKNNGraph(k=4)(data)
    split = Split(edges.edge_index, edges.test_edge_index, 50, 40)
    out = facts(data, split)
    cold = int((edges.test_edge_index[1] < 10).sum())
    num_test = edges.test_edge_index.size(1)
    assert out.counts['users'] == '50'
    assert out.counts['cold items, without a train interaction'] == (
        '10 (25.00%)'
    )
    assert out.counts['test interactions with a cold item'] == (
        f'{cold} of {num_test}'
    )
    num = edges.edge_index.size(1)
    assert out.counts['share of all pairs in train'] == f'{num / 2000:.2%}'
    assert out.counts['similar items, edges'] == (
        f'{data["item", "similar", "item"].num_edges:,}'
    )
    assert [tuple(m) for m in out.modalities] == [
        ('image', 64, 0),
        ('text', 64, 3),
    ]
    assert [chart.title.split()[0] for chart in out.charts] == [
        'Users',
        'Items',
    ]


def test_without_a_graph_of_similar_items():
    data = FakeMultimodal(50, 40)[0]
    edges = data['user', 'buys', 'item']
    split = Split(edges.edge_index, edges.test_edge_index, 50, 40)
    assert 'similar items, edges' not in facts(data, split).counts


def test_survival():
    # All have 1 or more, a tenth 10 or more, a hundredth 100.
    degree = torch.tensor([1] * 90 + [10] * 9 + [100])
    chart = survival('Items', degree)
    middle = (LEFT + RIGHT) / 2, (TOP + BOTTOM) / 2
    assert chart.lines == [
        f'M{LEFT:.1f} {TOP:.1f}L{middle[0]:.1f} {middle[1]:.1f}'
        f'L{RIGHT:.1f} {BOTTOM:.1f}'
    ]
    assert [tick.text for tick in chart.yticks] == ['1', '10', '100']
    assert survival('Items', torch.zeros(3, dtype=torch.long)) is None
    assert survival('Items', torch.tensor([0, 1])).dots
