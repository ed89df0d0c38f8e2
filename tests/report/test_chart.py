import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from pyg_sea.report._chart import (
    BOTTOM,
    LEFT,
    RIGHT,
    TOP,
    Axis,
    line_chart,
)

floats = st.floats(-1e6, 1e6)


@given(floats, floats)
def test_ticks_are_few_and_inside(low, high):
    assume(high - low > 1e-6)
    axis = Axis([low, high], 0, 100)
    ticks = axis.ticks
    assert 2 <= len(ticks) <= 8
    assert all(-1e-6 <= tick.at <= 100 + 1e-6 for tick in ticks)
    steps = np.diff([tick.at for tick in ticks])
    assert steps == pytest.approx(steps.mean(), abs=0.2)
    assert len({tick.text for tick in ticks}) == len(ticks)


@pytest.mark.parametrize(
    ('values', 'log', 'expected'),
    [
        ([0, 10], False, ['0', '2', '4', '6', '8', '10']),
        (
            [0.11, 0.16],
            False,
            ['0.11', '0.12', '0.13', '0.14', '0.15', '0.16'],
        ),
        ([0, 1, 2], False, ['0', '1', '2']),
        ([-0.4, 0.4], False, ['-0.4', '-0.2', '0.0', '0.2', '0.4']),
        ([0, 40000], False, ['0', '10,000', '20,000', '30,000', '40,000']),
        ([1, 10000], True, ['1', '10', '100', '1,000', '10,000']),
        ([3, 60], True, ['5', '10', '20', '50']),
        # Too few of 1, 2 and 5 for an axis.
        ([3, 4], True, ['3', '4']),
        ([11, 45], True, ['20', '30', '40']),
        ([0.62, 0.98], True, ['0.7', '0.8', '0.9']),
    ],
)
def test_ticks_are_round(values, log, expected):
    assert [tick.text for tick in Axis(values, 0, 1, log).ticks] == expected


def test_values_lie_where_they_belong():
    axis = Axis([2, 6], 100, 0)
    assert axis.at([2, 3, 6]).tolist() == [100, 75, 0]
    axis = Axis([1, 100], 0, 100, log=True)
    assert axis.at([1, 10, 100]).tolist() == pytest.approx([0, 50, 100])


@pytest.mark.parametrize('value', [0.0, 7.0, -3.0])
def test_a_constant_stands_in_the_middle(value):
    assert Axis([value, value], 0, 100).at(value) == pytest.approx(50)


def test_lines_fill_the_picture():
    chart = line_chart('t', 'x', [([0, 1, 2], [5, 7, 6])], mark=1)
    assert chart.lines == [
        f'M{LEFT:.1f} {BOTTOM:.1f}L{(LEFT + RIGHT) / 2:.1f} {TOP:.1f}'
        f'L{RIGHT:.1f} {(TOP + BOTTOM) / 2:.1f}'
    ]
    assert chart.mark == (LEFT + RIGHT) / 2
    assert chart.dots == []


def test_what_is_no_number_is_left_out():
    nan, inf = float('nan'), float('inf')
    chart = line_chart('t', 'x', [([0, 1, 2, 3], [5, nan, inf, 6])])
    assert chart.lines[0].count('L') == 1
    assert 'nan' not in chart.lines[0]


def test_a_single_epoch_is_a_dot():
    chart = line_chart('t', 'x', [([0], [5])])
    assert chart.dots == [((LEFT + RIGHT) / 2, (TOP + BOTTOM) / 2)]
