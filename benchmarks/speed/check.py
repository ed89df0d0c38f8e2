"""A guard against slow commits: ratios to the released arithmetic only.

python benchmarks/speed/check.py

Fails if a step at Baby's size, or sampling, or evaluation, became slower than
these multiples allow. Under a minute; ratios of medians of steps in turns in
one process, so another machine or a busy one hardly matters.
"""

import sys

from catalogues import SIZES, catalogue
from step import measure_passes, measure_steps

# Somewhat less than what `results/speed_baby.json` holds.
LEAST = {
    'released': 3.0,
    'paper': 5.5,
    'sea': 10.5,
    'sampling': 10.0,
    'evaluation': 2.0,
}


def main() -> None:
    size = SIZES['baby']
    data = catalogue(size)
    names = ['literal', 'released', 'paper', 'sea']
    steps = measure_steps(size, data, names, rounds=3)
    passes = measure_passes(size, data, names, rounds=2)
    ratios = {
        name: steps['literal']['step'] / steps[name]['step']
        for name in names[1:]
    } | {
        name: passes[f'literal {name}'] / passes[name]
        for name in ('sampling', 'evaluation')
    }
    for name, ratio in ratios.items():
        verdict = 'ok' if ratio >= LEAST[name] else 'TOO SLOW'
        print(f'{name:10} {ratio:5.1f}x, at least {LEAST[name]}x: {verdict}')
    sys.exit(any(ratio < LEAST[name] for name, ratio in ratios.items()))


if __name__ == '__main__':
    main()
