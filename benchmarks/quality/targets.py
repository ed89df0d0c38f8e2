"""How far `SEA` was to be ahead, set before any of the runs, and what came of
it.
"""

import numpy as np
from report import Ahead

#: By how many per cent in Recall@20.
AT_LEAST = 2.0
AT_LEAST_OF = {'released_sea': 5.0}

#: What `SEA` is held against on every catalogue.
BASELINES = (
    *('popularity', 'content_knn', 'bpr_mf', 'lightgcn', 'vbpr', 'freedom'),
    *('mgcn', 'sea_no_losses', 'released_sea'),
)
MAX_P = 0.01

ABOUT = (
    'Set before the runs: `SEA` as it comes finds at least that much more '
    f'than each, on average over seeds, with a p value below {MAX_P}, and its '
    'NDCG@20 is not lower. What was tried where it does not is in the '
    'controls of lfm2k and in `benchmarks/results/defaults.md`.'
)


def targets(others: list[Ahead]) -> list[str]:
    """A table of the targets on one catalogue.

    Args:
        others: What `SEA` is ahead of.
    """
    lines = [
        '| | Recall@20, at least | is | p | NDCG@20 | |',
        '|---' * 6 + '|',
    ]
    for other in others:
        wanted = AT_LEAST_OF.get(other.model, AT_LEAST)
        lines.append(
            f'| {other.label} | +{wanted:g} % | '
            f'{percent(other, "recall@20")} | {other.by["recall@20"].p:.4f} '
            f'| {percent(other, "ndcg@20")} | '
            f'{"met" if is_met(other) else "**not met**"} |'
        )
    there = {other.model for other in others}
    for model in BASELINES:
        if model not in there:
            wanted = AT_LEAST_OF.get(model, AT_LEAST)
            lines.append(f'| {model} | +{wanted:g} % | | | | **not run** |')
    return ['### Targets', ABOUT, '\n'.join(lines)]


def is_met(other: Ahead) -> bool:
    """Whether `SEA` is as far ahead as it was to be."""
    wanted = AT_LEAST_OF.get(other.model, AT_LEAST)
    return (
        # Anything is enough where the other one has zero.
        not other.percent['recall@20'] < wanted
        and other.by['recall@20'].p < MAX_P
        and other.by['ndcg@20'].mean >= 0
    )


def percent(other: Ahead, metric: str) -> str:
    """By how much, in per cent; nothing where the other one has zero."""
    value = other.percent[metric]
    return '' if np.isnan(value) else f'{value:+.1f} %'
