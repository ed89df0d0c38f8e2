import pandas as pd

from pyg_sea.report._chart import BOTTOM, LEFT, TOP
from pyg_sea.report._curves import curves

NAN = float('nan')
HISTORY = pd.DataFrame(
    {
        'epoch': [0, 1, 2],
        'step': [5, 10, 15],
        'seconds': [1.0, 1.0, 1.0],
        'train/align/text-image': [3.0, 2.0, 2.5],
        'train/distance/text': [9000.0, 30.0, 0.9],
        'train/loss': [4.0, 3.0, NAN],
        'train/lost': [NAN, NAN, NAN],
        'val/recall@20': [0.1, 0.3, 0.2],
    }
)


def test_every_term_has_a_chart_and_the_loss_comes_first():
    out = curves(HISTORY, 1)
    assert [chart.title for chart in out['train']] == [
        'loss',
        'align/text-image',
        'distance/text',
    ]
    assert [chart.title for chart in out['val']] == ['recall@20']


def test_the_best_epoch_is_marked_at_its_place():
    [chart] = curves(HISTORY, 1)['val']
    points = chart.lines[0].removeprefix('M').split('L')
    assert points[0] == f'{LEFT:.1f} {BOTTOM:.1f}'
    assert points[1] == f'{chart.mark} {TOP:.1f}'


def test_deep_terms_are_logarithmic():
    loss, align, distance = curves(HISTORY, 1)['train']
    assert [tick.text for tick in distance.yticks] == [
        '1', '10', '100', '1,000',
    ]  # fmt: skip
    assert 'log' in distance.xlabel
    assert loss.xlabel == align.xlabel == 'epoch'


def test_a_run_of_one_epoch():
    out = curves(HISTORY.head(1), 0)
    assert all(chart.dots for chart in out['train'] + out['val'])
