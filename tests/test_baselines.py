import pytest
import torch
import torch.nn.functional as F

from pyg_sea.baselines import ContentKNN, Popularity
from pyg_sea.evaluate import evaluate
from pyg_sea.recommend import top_k


@pytest.fixture
def edge_index():
    return torch.stack([torch.randint(9, (40,)), torch.randint(15, (40,))])


def test_popularity(edge_index):
    scorer = Popularity(edge_index, 15)
    scores = scorer(torch.tensor([3, 0]))
    assert scores.shape == (2, 15)
    for item in range(15):
        assert (scores[:, item] == (edge_index[1] == item).sum()).all()
    assert repr(scorer) == 'Popularity(15)'

    # Masking one user's items must not change the next one's scores.
    everything = torch.stack([torch.zeros(15).long(), torch.arange(15)])
    out = top_k(scorer, torch.arange(2), 1, everything).items
    assert out.tolist() == [[-1], [int(scores[0].argmax())]]


@pytest.mark.parametrize('k', [1, 4, 30])
@pytest.mark.parametrize('weights', [None, {'b': 0.5, 'a': 2}, {'b': 3}])
def test_content_knn(edge_index, k, weights):
    modal_x = {'a': 9 * torch.randn(15, 4), 'b': torch.randn(15, 6)}
    modal_x['a'][3] = 0
    dots = 0
    for name, weight in (weights or {'a': 1, 'b': 1}).items():
        x = F.normalize(modal_x[name])
        dots = dots + weight * (x @ x.t())
    norm = dots.diagonal().sqrt()
    similarity = dots / (norm[:, None] * norm)
    expected = torch.zeros(9, 15)
    for item in range(15):
        others = similarity[item].clone()
        others[item] = -9
        nearest = others.argsort(descending=True)[: min(k, 14)].tolist()
        for user, chosen in edge_index.t().tolist():
            if chosen in nearest:
                expected[user, item] += similarity[item, chosen]

    scorer = ContentKNN.from_features(edge_index, modal_x, 9, k, weights)
    users = torch.tensor([8, 0, 0, 5])
    torch.testing.assert_close(scorer(users), expected[users])
    assert repr(scorer) == f'ContentKNN(15, num_edges={15 * min(k, 14)})'


def test_content_knn_from_a_graph(edge_index):
    graph = torch.tensor([[4, 2, 7, 0], [1, 0, 1, 14]])  # neighbour, item
    weight = torch.tensor([0.5, 0.25, 1.0, 2.0])
    train = torch.tensor([[2, 2, 1], [4, 7, 0]])
    scorer = ContentKNN(train, graph, 3, 15, weight)
    scores = scorer(torch.arange(3))
    assert scores.nonzero().tolist() == [[1, 14], [2, 1]]
    assert scores[2, 1] == 1.5
    assert scores[1, 14] == 2.0
    scorer = ContentKNN(train, graph, 3, 15)
    assert scorer(torch.arange(3)).sum() == 3


def test_content_knn_finds_what_is_alike():
    group = torch.arange(40) % 4
    modal_x = {'a': F.one_hot(group).float() + 0.1 * torch.randn(40, 4)}
    user = torch.arange(20).repeat_interleave(10)
    item = torch.cat([(group == u % 4).nonzero().flatten() for u in range(20)])
    held_out = torch.arange(200) % 10 == 0
    pairs = torch.stack([user, item])
    train = pairs[:, ~held_out]
    scorer = ContentKNN.from_features(train, modal_x, 20)
    out = evaluate(scorer, pairs[:, held_out], train, k=1)
    assert out['recall@1'] == 1.0


@pytest.mark.parametrize(
    'weights', [{}, {'a': 0}, {'c': 1}, {'a': 1, 'b': -1}, {'a': float('inf')}]
)
def test_weights_that_make_no_sense(edge_index, weights):
    modal_x = {'a': torch.randn(15, 4), 'b': torch.randn(15, 6)}
    with pytest.raises(ValueError, match=r"'weights' (need|name)"):
        ContentKNN.from_features(edge_index, modal_x, 9, weights=weights)


def test_malformed_input(edge_index):
    with pytest.raises(ValueError, match="'edge_index' needs ids"):
        Popularity(edge_index, 3)
    graph = torch.tensor([[0], [1]])
    with pytest.raises(ValueError, match="'edge_index' needs ids"):
        ContentKNN(edge_index, graph, 2, 15)
    with pytest.raises(ValueError, match="'item_edge_index' needs ids"):
        ContentKNN(edge_index, torch.tensor([[0], [99]]), 9, 15)
    with pytest.raises(ValueError, match="'item_edge_weight' needs one"):
        ContentKNN(edge_index, graph, 9, 15, torch.ones(2))
