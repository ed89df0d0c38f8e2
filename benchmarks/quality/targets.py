"""How far `SEA` was to be ahead, set before any of the runs, and what came of
it.
"""

import numpy as np
from models import SCORERS
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
NUM_SEEDS = 5

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
        lines.append(
            f'| {other.label} | +{wanted_of(other.model):g} % | '
            f'{percent(other, "recall@20")} | {other.by["recall@20"].p:.4f} '
            f'| {percent(other, "ndcg@20")} | {verdict(other)} |'
        )
    there = {other.model for other in others}
    lines += [
        f'| {model} | +{wanted_of(model):g} % | | | | **not run** |'
        for model in BASELINES
        if model not in there
    ]
    return ['### Targets', ABOUT, '\n'.join(lines)]


def wanted_of(model: str) -> float:
    """By how many per cent `SEA` was to be ahead of a model."""
    return AT_LEAST_OF.get(model, AT_LEAST)


def verdict(other: Ahead) -> str:
    """Whether a target is met, or too few seeds are there to tell."""
    if other.model not in SCORERS and other.num_seeds < NUM_SEEDS:
        return f'**open**: {other.num_seeds} of {NUM_SEEDS} seeds'
    return 'met' if is_met(other) else '**not met**'


def is_met(other: Ahead) -> bool:
    """Whether `SEA` is as far ahead as it was to be."""
    return (
        # Anything is enough where the other one has zero.
        not other.percent['recall@20'] < wanted_of(other.model)
        and other.by['recall@20'].p < MAX_P
        and other.by['ndcg@20'].mean >= 0
    )


def percent(other: Ahead, metric: str) -> str:
    """By how much, in per cent; nothing where the other one has zero."""
    value = other.percent[metric]
    return '' if np.isnan(value) else f'{value:+.1f} %'
