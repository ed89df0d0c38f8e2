import pytest
import torch

from pyg_sea.nn import SEA
from pyg_sea.nn.models.score_terms import ScoreTerms


@pytest.mark.parametrize('ranking', ['softmax', 'bpr'])
@pytest.mark.parametrize('graph', [True, False])
def test_terms_add_up_to_the_rows(ranking, graph):
    sizes = {'image': 5, 'text': 4}
    model = SEA(6, 9, sizes, 8, ranking=ranking, distance='negative_l2')
    modal_x = {name: torch.randn(9, size) for name, size in sizes.items()}
    pairs = torch.stack([torch.randint(6, (20,)), 6 + torch.randint(9, (20,))])
    edge_index = torch.cat([pairs, pairs.flip(0)], dim=1)
    inputs = {'modal_x': modal_x, 'edge_index': edge_index}
    if graph:
        inputs['item_edge_index'] = torch.randint(9, (2, 30))
        inputs['item_edge_weight'] = torch.rand(30)

    model.eval()
    terms = model.get_terms(**inputs)
    torch.nn.init.normal_(model.ranking.item_bias)
    rows = torch.cat([terms.user, terms.item + terms.similar])
    embedding = model.get_embedding(**inputs)
    torch.testing.assert_close(rows, embedding[:, :-1])
    bias = torch.cat([torch.ones(6), model.ranking.bias])
    assert torch.equal(embedding[:, -1], bias)
    assert bool(terms.similar.any()) == graph

    parts = model.get_parts(modal_x, edge_index)
    own = torch.cat([part for pair in parts.values() for part in pair], dim=1)
    item = terms.item * terms.item_norm
    torch.testing.assert_close(item[:, : own.size(1)], own)
    x_user, _ = model.encoder(modal_x, edge_index)
    torch.testing.assert_close(terms.user * terms.user_norm, x_user)


def test_rows_of_zeros_stay_zero():
    none = torch.zeros(2, 3)
    terms = ScoreTerms.of(none, none, none, unit=True)
    assert all(bool(x.isfinite().all()) for x in terms)
    assert not bool((terms.item + terms.similar).any())
