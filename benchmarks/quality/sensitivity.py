"""How much hangs on single settings of `SEA`? Changes one at a time, around
its default, and keeps validation metrics only.

python benchmarks/quality/sensitivity.py --data "$PYG_SEA_DATA/lfm2k" \\
    --modality image=vggish.npy --modality text=all-MiniLM-L6-v2.npy \\
    --normalize text=none --seeds 3 \\
    --out benchmarks/quality/results/sensitivity_lfm2k.jsonl

Adds lines as `run.py` does, with the name of the sweep, the value, and the
values of all sweeps at the point that they have in common, which is trained
once. What is there is skipped, what was broken off goes on.
"""

import argparse
from collections.abc import Mapping
from typing import Any

import catalogue
from models.defaults import default, times
from run import fill, parse_settings, parser_of

from pyg_sea.nn import SEA, SampledSoftmaxLoss, SeparateLearning

#: What each value is multiplied by; 1 is the common point.
FACTORS = {
    'alpha': (0, 0.1, 0.3, 3, 10),
    'beta': (0, 0.1, 0.3, 3, 10),
    'temperature': (0.25, 0.5, 2, 4),
    'ranking temperature': (0.25, 0.5, 2, 4),
    'k': (0.2, 0.5, 2, 4),
}


def center(common: Mapping[str, Any], k: int) -> dict[str, float]:
    """The values that all sweeps have in common.

    Args:
        common: Settings that differ from the defaults.
        k: The neighbours of an item.
    """
    names = ('alpha', 'beta', 'temperature')
    defaults = {name: default(name, SEA, SeparateLearning) for name in names}
    temperature = default('temperature', SampledSoftmaxLoss)
    return {
        **{name: common.get(name, x) for name, x in defaults.items()},
        'ranking temperature': ranking_of(common).get(
            'temperature', temperature
        ),
        'k': k,
    }


def ranking_of(common: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of the ranking loss."""
    own = default('ranking_kwargs', SEA)
    return dict(common.get('ranking_kwargs', own) or {})


def values_of(sweep: str, middle: float) -> list[float]:
    """The values of a sweep, without the common one."""
    factors = FACTORS[sweep]
    if middle == 0:  # Nothing to multiply.
        unit, factors = default(sweep, SeparateLearning), (*factors, 1)
        return sorted(times(unit, factor) for factor in factors if factor)
    values = [times(middle, factor) for factor in factors]
    if sweep == 'k':
        values = [max(1, round(value)) for value in values]
    return [value for value in dict.fromkeys(values) if value != middle]


def settings_of(
    sweep: str, value: float, common: Mapping[str, Any]
) -> dict[str, Any]:
    """The settings of a point; `k` is one of the data."""
    if sweep == 'k':
        return dict(common)
    if sweep == 'ranking temperature':
        ranking = ranking_of(common) | {'temperature': value}
        return {**common, 'ranking_kwargs': ranking}
    return {**common, sweep: value}


def main(argv: list[str] | None = None) -> None:
    parser = parser_of(__doc__, 'a setting of all points')
    add = parser.add_argument
    add(
        '--sweep',
        action='append',
        choices=list(FACTORS),
        help='may be repeated (default: all; k only if no neighbours are '
        'ready-made, ranking temperature only without ranking=bpr)',
    )
    add('--seeds', type=int, default=3, help='from 0 (default: 3)')
    args = parser.parse_args(argv)

    common = parse_settings(args.set)
    without = {}
    if args.neighbors:
        without['k'] = 'a graph that is not ready-made'
    if common.get('ranking') == 'bpr':
        without['ranking temperature'] = 'a ranking loss that has one'
    for sweep in args.sweep or ():
        if sweep in without:
            parser.error(f"'--sweep {sweep}' needs {without[sweep]}")
    middle = center(common, args.k)
    shop = catalogue.read(args)
    sweeps = args.sweep or [s for s in FACTORS if s not in without]
    points = [(None, None)]
    points += [(s, v) for s in sweeps for v in values_of(s, middle[s])]
    for sweep, value in points:
        options = argparse.Namespace(**vars(args))
        if sweep == 'k':
            options.k = value
        fill(
            args.out,
            catalogue.read(options) if sweep == 'k' else shop,
            'sea',
            settings_of(sweep, value, common) if sweep else common,
            range(args.seeds),
            args.work,
            label={
                'sweep': sweep,
                'value': value,
                'center': middle,
                'of': shop.inputs,
                'common': common,
            },
            test=False,
        )


if __name__ == '__main__':
    main()
