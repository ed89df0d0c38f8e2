import sys
from pathlib import Path

import pytest

pytest.importorskip('lightning', reason='the benchmarks train')

FOLDER = Path(__file__).parents[2] / 'benchmarks' / 'quality'
sys.path.insert(0, str(FOLDER))
import targets  # noqa: E402
from bootstrap import Difference  # noqa: E402
from report import Ahead  # noqa: E402

sys.path.remove(str(FOLDER))


def ahead(model, recall, ndcg=1.0, p=0.001, num_seeds=5):
    percent = {'recall@20': recall, 'ndcg@20': ndcg}
    by = {
        name: Difference(0.01 * value, -1.0, 1.0, p)
        for name, value in percent.items()
    }
    return Ahead(model, model, num_seeds, by, percent)


@pytest.mark.parametrize(
    ('other', 'met'),
    [
        (ahead('vbpr', 2.0), True),
        (ahead('vbpr', 1.9), False),
        (ahead('released_sea', 4.9), False),
        (ahead('released_sea', 5.0), True),
        (ahead('vbpr', 3.0, p=0.01), False),
        (ahead('vbpr', 3.0, ndcg=0.0), True),
        (ahead('vbpr', 3.0, ndcg=-0.1), False),
    ],
)
def test_a_target_is_met_or_not(other, met):
    assert targets.is_met(other) is met


def test_anything_is_more_than_nothing():
    none = ahead('vbpr', float('nan'))
    by = {name: Difference(0.1, 0.1, 0.1, 0.001) for name in none.by}
    assert targets.is_met(none._replace(by=by))
    by['recall@20'] = Difference(0.0, 0.0, 0.0, 1.0)
    assert not targets.is_met(none._replace(by=by))


def test_few_seeds_do_not_tell():
    few = '**open**: 4 of 5 seeds'
    assert targets.verdict(ahead('vbpr', 9.0, num_seeds=4)) == few
    assert targets.verdict(ahead('vbpr', 1.0, num_seeds=4)) == few
    # Nothing to draw.
    assert targets.verdict(ahead('popularity', 9.0, num_seeds=1)) == 'met'


def test_the_table_names_what_was_not_run():
    title, about, table = targets.targets(
        [ahead('vbpr', 3.04, 1.26), ahead('lightgcn_softmax', 1.0, p=0.03)]
    )
    assert title == '### Targets'
    assert '0.01' in about
    head, _, vbpr, softmax, *rest = table.splitlines()
    assert head.count('|') == 7
    assert vbpr == '| vbpr | +2 % | +3.0 % | 0.0010 | +1.3 % | met |'
    assert softmax == (
        '| lightgcn_softmax | +2 % | +1.0 % | 0.0300 | +1.0 % | **not met** |'
    )
    assert len(rest) == len(targets.BASELINES) - 1
    assert '| released_sea | +5 % | | | | **not run** |' in rest
    assert all(row.endswith('| **not run** |') for row in rest)
