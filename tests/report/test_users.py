import pandas as pd
import pytest
import torch
from serving.made import I, U, make_recommender

from pyg_sea.report._lists import Split
from pyg_sea.report._users import NUM_SHOWN, Reader, bars_of
from pyg_sea.serving import Explanation

BECAUSE = pd.DataFrame(
    {'item': ['a'], 'similarity': [1.0], 'contribution': 0.1}
)


def explanation(rows):
    columns = ['modality', 'part', 'source', 'contribution']
    table = pd.DataFrame(rows, columns=columns)
    score = table['contribution'].sum()
    return Explanation('eve', 'cup', score, table, BECAUSE, 0.0)


def test_bars_of_positive_and_negative_pieces():
    bars, zero = bars_of(
        explanation(
            [
                ('text', 'generic', 'item', 3.0),
                ('text', 'generic', 'similar items', 1.0),
                ('text', 'unique', 'item', -0.5),
                ('text', 'unique', 'similar items', 2.0),
                ('id', 'unique', 'item', -0.5),
                ('id', 'unique', 'similar items', -0.5),
            ]
        )
    )
    # From -1 to 4: a fifth is to the left.
    assert zero == pytest.approx(20)
    assert [(bar.label, bar.value) for bar in bars] == [
        ('text generic', 4.0),
        ('text unique', 1.5),
        ('own vector', -1.0),
    ]
    assert [[tuple(s) for s in bar.segments] for bar in bars] == [
        [('own', 20, 60), ('similar', 80, 20)],
        [('own', 10, 10), ('similar', 20, 40)],
        [('own', 10, 10), ('similar', 0, 10)],
    ]


def test_bars_of_zeros():
    bars, zero = bars_of(explanation([('text', 'generic', 'item', 0.0)]))
    assert (zero, bars[0].segments[0].width) == (0, 0)


def test_models_without_parts_have_no_bars():
    assert bars_of(explanation([('all', 'all', 'all', 0.7)])) == ([], 0.0)


@pytest.fixture
def reader():
    recommender = make_recommender()
    train = recommender.state.seen.pairs
    generator = torch.Generator().manual_seed(5)
    test = torch.stack(
        [
            torch.arange(20).repeat_interleave(3),
            torch.randint(I, (60,), generator=generator),
        ]
    )
    titles = {'1003': 'A cup'}
    return Reader(recommender, Split(train, test, U, I), titles)


def test_choice_is_seeded_and_of_users_with_test_items(reader):
    chosen = reader.choose(8, 0)
    assert len(set(chosen)) == 8
    assert set(chosen) <= set(range(20))
    assert chosen == reader.choose(8, 0) != reader.choose(8, 1)
    assert sorted(reader.choose(99, 0)) == list(range(20))
    reader.split = reader.split._replace(
        train=reader.split.train[:, reader.split.train[0] != 3]
    )
    assert 3 not in reader.choose(99, 0)


def test_a_user(reader):
    user = reader.read(7)
    assert user.id == 'user 7'
    train, test = (
        {str(1000 + int(i)) for i in edges[1, edges[0] == 7]}
        for edges in (reader.split.train, reader.split.test)
    )
    assert {item.id for item in user.history} == train
    assert user.num_train == len(user.history) == 6
    assert {item.id for item in user.test} == test
    got = [why.item.id for why in user.recommended]
    table = reader.recommender.recommend(['user 7'], NUM_SHOWN)
    assert got == [str(item) for item in table['item']]
    assert not set(got) & train
    assert {item.id for item in user.test if item.hit} == set(got) & test
    assert {why.item.id for why in user.recommended if why.item.hit} == set(
        got
    ) & test


def test_some_hits_are_seen(reader):
    users = [reader.read(user) for user in range(20)]
    assert any(item.hit for user in users for item in user.test)


def test_bars_add_up_to_the_score(reader):
    for why in reader.read(3).recommended:
        assert sum(bar.value for bar in why.bars) == pytest.approx(why.score)
        ends = [
            end
            for bar in why.bars
            for s in bar.segments
            for end in (s.left, s.left + s.width)
        ]
        assert min(*ends, why.zero) == pytest.approx(0, abs=1e-9)
        assert max(*ends, why.zero) == pytest.approx(100)
        assert len(why.because) == 5


def test_titles_stand_where_they_are_known(reader):
    named = [
        item
        for user in range(20)
        for item in reader.read(user).history
        if item.title
    ]
    assert {(item.id, item.title) for item in named} == {('1003', 'A cup')}
