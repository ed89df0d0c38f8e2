import pytest
import torch
import torch.nn.functional as F

from pyg_sea.nn.models.ranking import Ranking


@pytest.fixture
def rows():
    generator = torch.Generator().manual_seed(0)
    x_user = torch.randn(4, 6, generator=generator)
    x_item = torch.randn(9, 6, generator=generator)
    triplets = torch.tensor([[0, 1, 2, 3], [8, 1, 2, 8], [0, 4, 5, 6]])
    return x_user, x_item, triplets


def test_bpr_is_the_mean_softplus_of_the_margins(rows):
    x_user, x_item, (_, pos, neg) = rows
    margin = (x_user * (x_item[pos] - x_item[neg])).sum(dim=1)

    out = Ranking('bpr')(*rows)

    assert out.item() == pytest.approx(F.softplus(-margin).mean().item())


def test_softmax_over_all_items_is_a_cross_entropy_of_cosines(rows):
    x_user, x_item, (_, pos, _) = rows
    cosine = F.normalize(x_user) @ F.normalize(x_item).t()

    ranking = Ranking(
        'softmax', num_negatives=None, temperature=0.5, reverse=0
    )
    out = ranking(*rows)

    expected = F.cross_entropy(cosine / 0.5, pos)
    assert out.item() == pytest.approx(expected.item())


def test_softmax_is_told_who_the_users_are(rows):
    x_user, x_item, triplets = rows
    triplets[0] = torch.tensor([0, 1, 0, 1])
    ranking = Ranking('softmax', temperature=0.5, reverse=2.0)
    logit = F.normalize(x_user) @ F.normalize(x_item).t() / 0.5
    of_items = F.cross_entropy(logit, triplets[1])
    # Columns: the users of the batch; of two rows of one user, the own one.
    reverse = logit[:, triplets[1]].t()
    same = triplets[0] == triplets[0].unsqueeze(1)
    own = torch.eye(4, dtype=torch.bool)
    reverse = reverse.masked_fill(same & ~own, -torch.inf)
    of_users = F.cross_entropy(reverse, torch.arange(4))

    out = ranking(x_user, x_item, triplets)

    torch.testing.assert_close(out, of_items + 2 * of_users)


def test_rows_score_as_the_loss_does(rows):
    for before, after in zip(rows, Ranking('softmax').rows(*rows[:2])):
        torch.testing.assert_close(after, F.normalize(before))
    for before, after in zip(rows, Ranking('bpr').rows(*rows[:2])):
        assert after is before


@pytest.mark.parametrize('name', ['softmax', 'bpr'])
def test_biases_start_at_zero_and_are_added_to_scores(rows, name):
    x_user, x_item, _ = rows
    num_items = x_item.size(0)
    user, item = Ranking(name).rows(x_user, x_item)
    scores = user @ item.t()
    ranking = Ranking(name, num_items)
    user, item = ranking.rows(x_user, x_item)
    torch.testing.assert_close(user @ item.t(), scores)

    torch.nn.init.normal_(ranking.item_bias)
    bias = ranking.bias
    torch.testing.assert_close(bias, 0.2 * ranking.item_bias)
    user, item = ranking.rows(x_user, x_item)
    torch.testing.assert_close(user @ item.t(), scores + bias)
    # Nobody knows those of new items.
    user, item = ranking.rows(x_user, x_item, known=False)
    torch.testing.assert_close(user @ item.t(), scores + bias.mean())

    ranking.reset_parameters()
    assert not ranking.item_bias.any()


def test_bpr_reads_biases(rows):
    ranking = Ranking('bpr', rows[1].size(0))
    triplets = torch.tensor([[0], [1], [2]])
    before = ranking(rows[0][:1], rows[1], triplets)
    ranking.item_bias.data[1] += 100
    assert ranking(rows[0][:1], rows[1], triplets) < 1e-6 < before


def test_repr_and_name():
    ranking = Ranking('bpr')

    assert ranking.name == 'bpr'
    assert repr(ranking) == "Ranking('bpr')"


def test_bad_names_and_arguments_are_told():
    with pytest.raises(ValueError, match=r"'softmax' or 'bpr'.*'hinge'"):
        Ranking('hinge')
    with pytest.raises(ValueError, match=r"no 'ranking_kwargs'.*temperature"):
        Ranking('bpr', temperature=0.1)
