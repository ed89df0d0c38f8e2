"""The section on items that come after training, from its lines."""

import json

import commands
import numpy as np
import report
from pages import Rows, in_order

AGAINST = 'content_knn'


def cold_start(rows: Rows) -> list[str]:
    """A section per share of cold items; none without lines to report."""
    shares = dict.fromkeys(row['inputs']['cold_items'] for row in rows)
    return [
        part
        for share in shares
        for part in section(
            [row for row in rows if row['inputs']['cold_items'] == share]
        )
    ]


def section(rows: Rows) -> list[str]:
    """That of one share."""
    select = in_order([row for row in rows if row['inputs']['select']])
    tested = in_order([row for row in rows if not row['inputs']['select']])
    if not tested:
        return []
    groups = report.groups_of(tested, ('model', 'settings'))
    labels = report.labels_of(groups)
    against = [group for group in groups if group[0]['model'] == AGAINST]
    lines = [
        '| | cold: Recall@20 | NDCG@20 | '
        + (f'over `{AGAINST}` | ' if len(against) == 1 else '')
        + 'all: Recall@20 | of warm targets | of cold targets | seeds |',
        '|---' * (7 + (len(against) == 1)) + '|',
    ]
    for label, group in zip(labels, groups):
        cells = [
            report.spread([row['test'][name] for row in group])
            for name in ('recall@20', 'ndcg@20')
        ]
        if len(against) == 1:
            cells.append(gain(group, against[0]))
        cells += [
            report.spread([row['overall'][name]['recall@20'] for row in group])
            for name in ('all', 'warm', 'cold')
        ]
        cells.append(str(len(group)))
        lines.append(f'| {label} | ' + ' | '.join(cells) + ' |')
    made = [commands.cold_command(group) for group in groups]
    return [
        '### Cold start',
        about(tested),
        '\n'.join(lines),
        *(selection(select) if select else []),
        commands.block(
            tested[0],
            [
                *dict.fromkeys(
                    commands.cold_command(group)
                    for group in report.groups_of(select, ('model', 'file'))
                ),
                *made,
            ],
        ),
    ]


def about(rows: Rows) -> str:
    """What was held out, and what chance makes of it."""
    row = rows[0]
    cold = row['counts']['items']['cold']
    targets = {
        name: np.mean([r['counts']['targets'][name] for r in rows])
        for name in ('warm', 'cold')
    }
    return (
        f'{row["inputs"]["cold_items"]:.0%} of the items ({cold}, drawn anew '
        'with every seed) were not there in training, with all of their '
        'interactions and features. *Cold* ranks them among themselves: all '
        f'of their users count, by chance Recall@20 is '
        f'{min(1.0, 20 / cold):.4f}. *All* ranks every item but those of '
        f'training; there are {targets["warm"]:.0f} warm targets, of the test '
        f'split, and {targets["cold"]:.0f} cold ones, on average over lines. '
        'Equal scores rank in random order. Percentages compare draws of the '
        'same seed.'
    )


def gain(rows: Rows, against: Rows) -> str:
    """How much larger Recall@20 among cold items is, seed by seed."""
    if rows is against:
        return ''
    other = {row['seed']: row['test']['recall@20'] for row in against}
    values = [
        100 * (row['test']['recall@20'] / other[row['seed']] - 1)
        for row in rows
        if other.get(row['seed'])
    ]
    if not values:
        return ''
    text = f'{np.mean(values):+.1f} %'
    if len(values) == 1:
        return text
    return f'{text} ± {np.std(values, ddof=1):.1f}'


def selection(rows: Rows) -> list[str]:
    """What settings were selected by: the other half of the items."""
    groups = report.groups_of(rows, ('model', 'settings'))
    value = {
        id(group): np.mean([row['validation']['recall@20'] for row in group])
        for group in groups
    }
    lines = [
        '| selected by | settings | cold: Recall@20 | seeds |',
        '|---' * 4 + '|',
    ]
    names = [*dict.fromkeys(group[0]['model'] for group in groups)]
    for group in sorted(
        groups, key=lambda g: (names.index(g[0]['model']), -value[id(g)])
    ):
        recall = [row['validation']['recall@20'] for row in group]
        lines.append(
            f'| {group[0]["model"]} | `{json.dumps(group[0]["set"])}` | '
            f'{report.spread(recall)} | {len(group)} |'
        )
    return [
        'Settings were selected on draws out of the half of the items that is '
        'not reported.',
        '\n'.join(lines),
    ]
