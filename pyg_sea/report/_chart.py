"""Small charts: where lines, points and ticks go. The template draws them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

# The picture, and the part of it that holds the data; in pixels of a phone.
WIDTH, HEIGHT = 320, 190
LEFT, RIGHT, TOP, BOTTOM = 56, 300, 10, 150
# As many characters of a tick have room there.
LONGEST = 7


@dataclass(frozen=True)
class Tick:
    """A number at an axis.

    Args:
        at: Where it stands, in pixels.
        text: What stands there.
    """

    at: float
    text: str


class Axis:
    """Maps values to pixels. What differs too little for short ticks is drawn
    on a longer axis.

    Args:
        values: All that has to fit on it.
        start: The pixel of the least value.
        stop: The pixel of the largest.
        log: Whether the scale is logarithmic; values are positive then.
    """

    def __init__(
        self, values: ArrayLike, start: float, stop: float, log: bool = False
    ) -> None:
        self.start, self.stop, self.log = start, stop, log
        raw = np.asarray(values, dtype=float)
        self.whole = bool((raw == raw.round()).all())
        data = self._scale(raw)
        self.low, self.high = float(data.min()), float(data.max())
        # Differences of logarithms are relative already.
        size = max(abs(self.low), abs(self.high), float(log))
        if self.high - self.low <= 1e-12 * size:
            margin = 0.5 if log else 0.5 * abs(self.high) or 0.5
            self.low, self.high = self.low - margin, self.high + margin
        while any(len(tick.text) > LONGEST for tick in self.ticks):
            margin = (self.high - self.low) / 2
            self.low, self.high = self.low - margin, self.high + margin

    def at(self, values: ArrayLike) -> NDArray[np.float64]:
        """The pixels of values."""
        scaled = self._scale(np.asarray(values, dtype=float))
        part = (scaled - self.low) / (self.high - self.low)
        out: NDArray[np.float64] = self.start + part * (self.stop - self.start)
        return out

    @property
    def ticks(self) -> list[Tick]:
        """A few round numbers, whole ones if all values are."""
        low, high = self.low, self.high
        numbers: list[float] = []
        if self.log:
            numbers = _decades(low, high)
            low, high = 10**low, 10**high
        texts = [_text(number, _power(number), number) for number in numbers]
        # Within half a decade there may be one of 1, 2 and 5, or none.
        if len(numbers) < 2:
            numbers, last = _round_numbers(low, high, float(self.whole))
            largest = max(map(abs, numbers))
            texts = [_text(number, last, largest) for number in numbers]
        return [
            Tick(round(float(self.at(number)), 1), text)
            for number, text in zip(numbers, texts)
        ]

    def _scale(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.log10(values) if self.log else values


@dataclass
class Chart:
    """Lines over axes.

    Args:
        title: What is drawn.
        xlabel: What the horizontal axis is.
        lines: One `d` of an SVG path per line.
        xticks: The ticks below.
        yticks: The ticks at the left.
        dots: Where single points stand.
        mark: Where a vertical line stands; `None` for none.
    """

    title: str
    xlabel: str
    lines: list[str]
    xticks: list[Tick]
    yticks: list[Tick]
    dots: list[tuple[float, float]] = field(default_factory=list)
    mark: float | None = None


def line_chart(
    title: str,
    xlabel: str,
    lines: Sequence[tuple[ArrayLike, ArrayLike]],
    log: tuple[bool, bool] = (False, False),
    mark: float | None = None,
) -> Chart:
    """Lays out lines.

    Args:
        title: What is drawn.
        xlabel: What the horizontal axis is.
        lines: Horizontal and vertical values of each; NaN is left out.
        log: Whether the axes are logarithmic (default: neither).
        mark: The value of a vertical line (default: `None`).
    """
    pairs = []
    for line in lines:
        xy = np.array(line, dtype=float)
        pairs.append(xy[:, np.isfinite(xy).all(axis=0)])
    both = np.concatenate(pairs, axis=1)
    x = Axis(both[0], LEFT, RIGHT, log[0])
    y = Axis(both[1], BOTTOM, TOP, log[1])
    places = [(x.at(xy[0]), y.at(xy[1])) for xy in pairs]
    return Chart(
        title,
        xlabel,
        [path(*place) for place in places],
        x.ticks,
        y.ticks,
        [
            (round(float(px[0]), 1), round(float(py[0]), 1))
            for px, py in places
            if len(px) == 1
        ],
        None if mark is None else round(float(x.at(mark)), 1),
    )


def path(x: NDArray[np.float64], y: NDArray[np.float64]) -> str:
    """The `d` of a line through points."""
    return 'M' + 'L'.join(f'{a:.1f} {b:.1f}' for a, b in zip(x, y))


def dots(x: NDArray[np.float64], y: NDArray[np.float64]) -> str:
    """The `d` of points: lines without length, with round ends."""
    return ''.join(f'M{a:.1f} {b:.1f}h0' for a, b in zip(x, y))


def _round_numbers(
    low: float, high: float, least: float
) -> tuple[list[float], int]:
    # And the power of ten of their last digit.
    rough = (high - low) / 4
    unit = 10.0 ** math.floor(math.log10(rough))
    step = unit * min((1, 2, 5, 10), key=lambda m: abs(m - rough / unit))
    step = max(step, least)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [i * step for i in range(first, last + 1)], _power(step)


def _decades(low: float, high: float) -> list[float]:
    steps = (1, 2, 5) if high - low < 2 else (1,)
    powers = range(math.floor(low), math.ceil(high) + 1)
    # Of very many powers every other one would do.
    powers = powers[:: 1 + len(powers) // 7]
    numbers = [step * 10.0**power for power in powers for step in steps]
    return [n for n in numbers if low - 1e-9 <= math.log10(n) <= high + 1e-9]


def _text(number: float, last: int, largest: float) -> str:
    """A number of an axis: all of its digits, none that others lack.

    Args:
        number: The number.
        last: The power of ten of its last digit.
        largest: The largest number of the axis, which decides the unit.
    """
    power, unit = (_power(largest) if largest else 0), ''
    if power < -3 or power >= 15:
        unit = f'e{power}'
    elif power >= 5:
        power, unit = power // 3 * 3, 'kMGT'[power // 3 - 1]
    else:
        power = 0
    if unit and not number:
        return '0'
    return format(number / 10.0**power, f',.{max(0, power - last)}f') + unit


def _power(number: float) -> int:
    return math.floor(math.log10(number) + 1e-9)
