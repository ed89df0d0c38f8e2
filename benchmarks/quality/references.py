"""Figures of public implementations, and of ours beside them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import report

Rows = list[dict[str, Any]]

PATH = Path(__file__).parent / 'references.json'


def references(rows: Rows, path: Path = PATH) -> list[str]:
    """A table of the figures that are known for this catalogue and these
    files, if there are any.

    Args:
        rows: The lines of a comparison.
        path: The figures.
    """
    known = json.loads(path.read_text(encoding='utf-8'))
    of = known.get(rows[0]['data']) if rows else None
    if of is None or rows[0]['inputs']['modalities'] != of['modalities']:
        return []
    lines = [
        '| | valid Recall@20 | test Recall@20 | test NDCG@20 '
        '| here: valid Recall@20 | test Recall@20 | test NDCG@20 | seeds |',
        '|---' * 8 + '|',
    ]
    for run in of['runs']:
        own = [row for row in rows if row['model'] == run['model']]
        if 'set' in run:
            own = [row for row in own if row['set'] == run['set']]
        own = best_of(own)
        cells = [f'{run[name]:.4f}' for name in ('valid', *report.TESTED)]
        cells += [
            beside(run[name], [row[part][metric] for row in own])
            for name, part, metric in (
                ('valid', 'validation', 'recall@20'),
                *((metric, 'test', metric) for metric in report.TESTED),
            )
        ]
        number = str(len(own) or '')
        lines.append(
            f'| {run["name"]} | ' + ' | '.join([*cells, number]) + ' |'
        )
    return [
        '### Public implementations',
        f'{of["about"]} In brackets: by how many of our standard deviations '
        'ours differ.',
        '\n'.join(lines),
    ]


def best_of(rows: Rows) -> Rows:
    """The lines of one model that have the settings with the largest
    validation Recall@20.
    """
    return max(
        report.groups_of(rows, ('settings',)),
        key=lambda g: np.mean([row['validation']['recall@20'] for row in g]),
        default=[],
    )


def beside(reference: float, values: list[float]) -> str:
    """Our figures, and how far they are from another one."""
    if len(values) < 2:
        return report.spread(values) if values else ''
    away = (np.mean(values) - reference) / np.std(values, ddof=1)
    return f'{report.spread(values)} ({away:+.1f})'
