import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from pyg_sea.report._chart import (
    BOTTOM,
    LEFT,
    LONGEST,
    RIGHT,
    TOP,
    Axis,
    line_chart,
)

floats = st.floats(-1e6, 1e6)
# As wide as characters are in a wide font, at the 11 px of the page.
PIXELS = {**dict.fromkeys('0123456789', 7), ',': 3.5, '.': 3.5, '-': 4}
PIXELS |= {'e': 7, 'k': 6.5, 'M': 9.5, 'G': 8.5, 'T': 7}


def number(text):
    """What a tick says."""
    plain = text.replace(',', '')
    for unit, power in (('k', 3), ('M', 6), ('G', 9), ('T', 12)):
        plain = plain.replace(unit, f'e{power}')
    return float(plain)


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


@given(
    st.floats(-9.99, 9.99),
    st.floats(-9.99, 9.99),
    st.integers(-250, 250),
    st.integers(-9, 0),
    st.booleans(),
)
def test_ticks_are_short_and_lie_where_they_say(a, b, power, narrow, log):
    values = np.array([a, a + b * 10.0**narrow]) * 10.0**power
    values = np.abs(values) + 10.0**power if log else values
    axis = Axis(values, 0, 100, log)
    ticks = axis.ticks
    # Of a constant zero, one.
    assert 1 + values.any() <= len(ticks) <= 8
    assert all(len(tick.text) <= LONGEST for tick in ticks)
    assert all(sum(PIXELS[x] for x in tick.text) <= LEFT - 5 for tick in ticks)
    found = [number(tick.text) for tick in ticks]
    assert len(set(found)) == len(ticks)
    assert axis.at(found) == pytest.approx(
        [tick.at for tick in ticks], abs=0.051
    )
    low, high = axis.at(values.min()), axis.at(values.max())
    assert -1e-9 <= low <= high <= 100 + 1e-9


def test_what_differs_enough_fills_the_axis():
    for power in range(-9, 100):
        values = np.array([1.234, 1.35]) * 10.0**power
        assert Axis(values, 0, 100).at(values) == pytest.approx([0, 100])
    values = [1e-80, 3e-80]
    assert Axis(values, 0, 100).at(values) == pytest.approx([0, 100])
    # Of seven characters, five are digits behind the point.
    values = [0.123456, 0.123457]
    low, high = Axis(values, 0, 100).at(values)
    assert 0 < low < high < 100


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
        ([0, 2e5], False, ['0', '50k', '100k', '150k', '200k']),
        ([1e7, 1.2e7], False, ['10.0M', '10.5M', '11.0M', '11.5M', '12.0M']),
        ([-4e9, 0], False, ['-4G', '-3G', '-2G', '-1G', '0']),
        ([0, 5e-5], False, ['0', '1e-5', '2e-5', '3e-5', '4e-5', '5e-5']),
        ([0, 2e17], False, ['0', '0.5e17', '1.0e17', '1.5e17', '2.0e17']),
        ([1e-5, 1e-2], True, ['1e-5', '1e-4', '0.001', '0.01']),
        (
            [1e5, 1e10],
            True,
            ['100k', '1M', '10M', '100M', '1G', '10G'],
        ),
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
