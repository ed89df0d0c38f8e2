import sys

import pytest
import torch

from pyg_sea.dependence import dependence
from pyg_sea.nn import SEA, VBPR, ModalParts
from pyg_sea.report import _parts
from pyg_sea.report._groups import by_degree
from pyg_sea.report._parts import MARGIN, SIDE, draw, parts, pca_map

pytest.importorskip('sklearn', reason='the maps need scikit-learn')

U, NUM_ITEMS = 12, 30
GROUPS = by_degree(torch.arange(NUM_ITEMS) % 7)


@pytest.fixture
def inputs():
    image, text = torch.randn(NUM_ITEMS, 5), torch.randn(NUM_ITEMS, 4)
    image[:4] = 0
    user, item = torch.randint(U, (80,)), torch.randint(NUM_ITEMS, (80,)) + U
    edge_index = torch.stack(
        [torch.cat([user, item]), torch.cat([item, user])]
    )
    return {
        'modal_x': {'image': image, 'text': text},
        'edge_index': edge_index,
        'edge_weight': None,
    }


@pytest.fixture
def model():
    return SEA(U, NUM_ITEMS, {'image': 5, 'text': 4}, hidden_channels=8).eval()


def test_draw():
    mask = torch.rand(50) < 0.5
    assert torch.equal(draw(mask, 99, 0), mask.nonzero().view(-1))
    few = draw(mask, 7, 0)
    assert few.numel() == 7
    assert mask[few].all()
    assert (few.diff() > 0).all()
    assert torch.equal(few, draw(mask, 7, 0))
    assert not torch.equal(few, draw(mask, 7, 1))


def places(d):
    return [
        tuple(float(number) for number in point.split())
        for point in d.replace('h0', '').split('M')[1:]
    ]


def test_map_shows_the_directions_of_most_variance():
    # Four corners of a rectangle in a turned plane of five dimensions.
    corners = torch.tensor([[4.0, 1], [4, -1], [-4, 1], [-4, -1]])
    plane = torch.linalg.qr(torch.randn(5, 5)).Q[:2]
    groups = by_degree(torch.tensor([1, 1, 2, 2]), num=2)
    out = pca_map(
        'image', 'generic', corners @ plane + 3, groups, torch.arange(4)
    )
    assert out.variance == pytest.approx(1)
    assert out.num == 4
    left, right = sorted(places(d) for d in out.points)
    if left[0][0] > right[0][0]:
        left, right = right, left
    half = SIDE / 2 - MARGIN
    low, high = ([SIDE / 2 + sign * half] * 2 for sign in (-1, 1))
    assert [x for x, _ in left] == pytest.approx(low, abs=0.1)
    assert [x for x, _ in right] == pytest.approx(high, abs=0.1)
    assert sorted(y for _, y in left) == pytest.approx(
        [SIDE / 2 - half / 4, SIDE / 2 + half / 4], abs=0.1
    )


def test_what_is_far_out_stands_at_the_edge():
    rows = torch.randn(400, 3)
    rows[0] = torch.tensor([1e5, 0, 0])
    groups = by_degree(torch.tensor([0] + [2] * 399))
    out = pca_map('image', 'unique', rows, groups, torch.arange(400))
    [(x, y)] = places(out.points[0])
    assert {x, y} & {float(MARGIN), float(SIDE - MARGIN)}
    others = torch.tensor(places(out.points[1]))
    assert others.std(dim=0).min() > SIDE / 20


def test_map_of_what_does_not_vary():
    for width in (1, 3):
        rows = torch.ones(6, width)
        out = pca_map('image', 'unique', rows, GROUPS, torch.arange(6))
        assert out.variance == 0
        assert {p for d in out.points for p in places(d)} == {(150.0, 150.0)}


def test_items_without_the_modality_are_no_points(model, inputs):
    out = parts(model, inputs, GROUPS, 0)
    assert [
        (m.modality, m.part, m.num) for pair in out.maps for m in pair
    ] == [
        ('image', 'generic', 26),
        ('image', 'unique', 26),
        ('text', 'generic', 30),
        ('text', 'unique', 30),
    ]
    for pair in out.maps:
        for m in pair:
            assert sum(d.count('M') for d in m.points) == m.num
            assert 0 < m.variance <= 1
    assert out.labels == GROUPS.labels


def test_measures_are_those_of_the_items_with_all(model, inputs):
    out = parts(model, inputs, GROUPS, 0)
    assert out.num_measured == 26
    chosen = {
        name: ModalParts(*(part[4:] for part in pair))
        for name, pair in model.get_parts(**inputs).items()
    }
    assert {f'{m.kind}/{m.of}': m.value for m in out.measures} == (
        pytest.approx(dependence(chosen))
    )


def test_few_items_are_not_measured(model, inputs):
    inputs['modal_x']['text'] = inputs['modal_x']['text'].clone()
    inputs['modal_x']['text'][_parts.MIN_MEASURED + 3 :] = 0
    out = parts(model, inputs, GROUPS, 0)
    assert (out.measures, out.num_measured) == ([], 19)
    assert len(out.maps) == 2


def test_a_modality_that_hardly_any_item_has(model, inputs):
    inputs['modal_x']['text'] = torch.zeros(NUM_ITEMS, 4)
    out = parts(model, inputs, GROUPS, 0)
    assert [pair[0].modality for pair in out.maps] == ['image']


def test_models_without_parts(inputs):
    model = VBPR(U, NUM_ITEMS, {'image': 5, 'text': 4})
    assert parts(model, inputs, GROUPS, 0) is None


def test_without_scikit_learn(model, inputs, monkeypatch):
    monkeypatch.setitem(sys.modules, 'sklearn.decomposition', None)
    with pytest.raises(ImportError, match=r'pyg_sea\[plot\]'):
        parts(model, inputs, GROUPS, 0)
