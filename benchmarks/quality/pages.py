"""The sections of a page of results, each from its lines, with the commands
that make them again. A section without lines is empty.
"""

import json
from collections.abc import Mapping
from typing import Any

import bootstrap
import commands
import numpy as np
import records
import report
from models import CONTROLS, MODELS, PLUGGED, SCORERS
from targets import targets

Rows = list[dict[str, Any]]
Users = Mapping[str, Mapping[str, np.ndarray]]

AGAINST = 'sea'
BABY = (
    'The split is another draw than the published one, and the features are '
    'derived from the published neighbour graphs: figures here compare with '
    "each other, **never with the paper's table**."
)
TIKTOK = (
    'The third published modality, text, is missing: not comparable with '
    'papers that use three.'
)
DEPENDENCE = {'r2/': 'R²', 'retrieval/': 'retrieval@1', 'hsic/': 'HSIC'}


def kind_of(row: Mapping[str, Any]) -> str:
    """Which section a line belongs to."""
    if 'cold_items' in row['inputs']:
        return 'cold'
    if 'variant' in row:
        return 'controls'
    if 'sweep' in row:
        return 'sensitivity'
    if 'test' not in row:
        return 'tuning'
    return 'comparison'


def base_of(row: Mapping[str, Any]) -> dict[str, Any]:
    """The data that a page is about, also of lines about a part of them."""
    return row.get('of', row['inputs'])


def title(row: Mapping[str, Any]) -> str:
    """The catalogue and its modalities."""
    return f'{row["data"]}: {", ".join(base_of(row)["modalities"])}'


def caveat(row: Mapping[str, Any]) -> str:
    """With what the figures must not be compared."""
    modalities = base_of(row)['modalities']
    if row['data'] == 'baby' and 'spectral' in ' '.join(modalities.values()):
        return BABY
    if row['data'] == 'tiktok' and 'text' not in modalities:
        return TIKTOK
    return ''


def in_order(rows: Rows) -> Rows:
    """By model, in the order in which these are registered; lines of one
    model stay in theirs.
    """
    names = [*SCORERS, *MODELS]
    return sorted(rows, key=lambda row: names.index(row['model']))


def recommenders(rows: Rows) -> Rows:
    """Without plug-ins and controls."""
    rows = [r for r in rows if r['model'] not in (*PLUGGED, *CONTROLS)]
    return in_order(rows)


def label_of(rows: Rows, model: str) -> str | None:
    """The label of a model; of several settings, those with the largest
    validation Recall@20.
    """
    groups = report.groups_of(rows, ('model', 'settings'))
    values = {
        label: np.mean([row['validation']['recall@20'] for row in group])
        for label, group in zip(report.labels_of(groups), groups)
        if group[0]['model'] == model
    }
    return max(values, key=lambda label: values[label], default=None)


def with_users(rows: Rows, users: Users) -> Rows:
    return [row for row in rows if records.users_name(row) in users]


def compared(
    rows: Rows, users: Users, model: str, num_replicates: int
) -> tuple[str, list[report.Ahead]] | None:
    """How far a model is ahead of others, if there is any to compare."""
    rows = with_users(rows, users)
    against = label_of(rows, model)
    if len(report.groups_of(rows, ('model', 'settings'))) < 2 or not against:
        return None
    return report.compared(rows, users, against, num_replicates)


def run_block(rows: Rows) -> str:
    groups = report.groups_of(rows, ('model', 'settings'))
    lines = [commands.run_command(group) for group in groups]
    return commands.block(rows[0], lines)


def comparison(rows: Rows, users: Users, num_replicates: int) -> list[str]:
    rows = recommenders(rows)
    if not rows:
        return []
    ahead = compared(rows, users, AGAINST, num_replicates)
    return [
        '### Comparison',
        report.table(rows),
        *([report.differences(*ahead)] if ahead else []),
        run_block(rows),
        *(targets(ahead[1]) if ahead else []),
    ]


def plug_ins(rows: Rows, users: Users, num_replicates: int) -> list[str]:
    parts = []
    for plugged, base in PLUGGED.items():
        chosen = in_order([r for r in rows if r['model'] in (plugged, base)])
        if plugged in (row['model'] for row in chosen):
            parts.append(report.table(chosen))
            ahead = compared(chosen, users, plugged, num_replicates)
            parts += [report.differences(*ahead)] if ahead else []
            own = [row for row in chosen if row['model'] == plugged]
            parts.append(run_block(own))
    return ['### Plug-ins', *parts] if parts else []


def tuning(rows: Rows) -> list[str]:
    if not rows:
        return []
    lines = [
        '| | settings | valid Recall@20 | valid NDCG@20 | best epoch |',
        '|---' * 5 + '|',
    ]
    rows = sorted(rows, key=lambda row: -row['validation']['recall@20'])
    for row in in_order(rows):
        valid = row['validation']
        lines.append(
            f'| {row["model"]} | `{json.dumps(row["set"])}` | '
            f'{valid["recall@20"]:.4f} | {valid["ndcg@20"]:.4f} | '
            f'{row.get("best_epoch", "")} |'
        )
    return [
        '### Tuning',
        'One seed that is not among those above; test metrics were neither '
        'shown nor kept.',
        '\n'.join(lines),
        commands.block(rows[0], commands.tune_commands(in_order(rows))),
    ]


def controls(rows: Rows, users: Users, num_replicates: int) -> list[str]:
    """A table per file and common settings."""
    tables = report.groups_of(rows, ('file', 'common'))
    return [
        part
        for group in tables
        for part in controls_table(group, users, num_replicates)
    ]


def controls_table(rows: Rows, users: Users, num_replicates: int) -> list[str]:
    groups = report.groups_of(rows, ('variant', 'settings'))
    first = next((g for g in groups if g[0]['variant'] == 'SEA'), None)
    lines = [
        '| | test Recall@20 | NDCG@20 | Recall@20 minus `SEA` | 95 % | p | '
        + ' | '.join(DEPENDENCE.values())
        + ' | seeds |',
        '|---' * (7 + len(DEPENDENCE)) + '|',
    ]
    for group in groups:
        cells = [
            report.spread([row['test'][name] for row in group])
            for name in ('recall@20', 'ndcg@20')
        ]
        cells += versus(group, first, users, num_replicates)
        cells += [mean_of(group, prefix) for prefix in DEPENDENCE]
        name = group[0]['variant']
        lines.append(f'| {name} | ' + ' | '.join(cells) + f' | {len(group)} |')
    return [
        '### Controls',
        'R² of the unique part from the generic one on items that the ridge '
        'regression was not fitted on, retrieval@1 of generic parts across '
        'modalities, and HSIC of generic and unique part (unbiased, over that '
        'of the parts with themselves), means over modalities or pairs of '
        'them; `pyg_sea.dependence`. For `ReleasedSEA` the parts are those '
        'that its distancing reads, which are not the ones that it aligns; '
        'where the split is before the graph, those behind it, which its '
        'losses do not read.'
        + (
            ' With one seed, intervals and p values speak of users only.'
            if len(rows) == len(groups)
            else ''
        ),
        '\n'.join(lines),
        commands.block(rows[0], [commands.controls_command(rows)]),
    ]


def versus(
    group: Rows, first: Rows | None, users: Users, num_replicates: int
) -> list[str]:
    """The difference in Recall@20, its interval and its p value."""
    if first is None or group is first:
        return [''] * 3
    both = [with_users(rows, users) for rows in (group, first)]
    if not all(both):
        return [''] * 3
    a, b = (
        np.stack([users[records.users_name(row)]['recall@20'] for row in rows])
        for rows in both
    )
    out = bootstrap.compare(a, b, num_replicates)
    interval = f'{out.low:+.4f} to {out.high:+.4f}'
    return [f'{out.mean:+.4f}', interval, f'{out.p:.4f}']


def mean_of(group: Rows, prefix: str) -> str:
    """A measure of dependence, over modalities and seeds."""
    values = [
        [v for name, v in row['dependence'].items() if name.startswith(prefix)]
        for row in group
    ]
    if not values[0]:
        return ''
    means = [np.mean(v) for v in values]
    text = f'{np.mean(means):.3f}'
    return text if len(means) == 1 else f'{text} ± {np.std(means, ddof=1):.3f}'


def points_of(rows: Rows) -> dict[str, dict[float, list[float]]]:
    """Validation Recall@20 by sweep and value, ascending, one per seed. The
    lines without a sweep are part of all of them.
    """
    out: dict[str, dict[float, list[float]]] = {}
    for sweep in dict.fromkeys(row['sweep'] for row in rows if row['sweep']):
        values: dict[float, list[float]] = {}
        for row in rows:
            if row['sweep'] in (sweep, None):
                x = row['value'] if row['sweep'] else row['center'][sweep]
                y = row['validation']['recall@20']
                values.setdefault(x, []).append(y)
        out[sweep] = {x: values[x] for x in sorted(values)}
    return out


def sensitivity(rows: Rows, figure: str) -> list[str]:
    """A table per sweep, and the figure.

    Args:
        rows: The lines of one file, with one center and common settings.
        figure: The name of the figure's file.
    """
    parts = [
        '### Sensitivity',
        'Validation Recall@20, one setting at a time; what all have in common '
        'is bold. `temperature` is that of the alignment, `ranking '
        'temperature` that of the sampled softmax.'
        + (' One seed.' if len({row['seed'] for row in rows}) == 1 else ''),
        f'![validation Recall@20 by setting]({figure})',
    ]
    for sweep, points in points_of(rows).items():
        middle = rows[0]['center'][sweep]
        names = [f'**{x:g}**' if x == middle else f'{x:g}' for x in points]
        cells = [report.spread(values) for values in points.values()]
        parts.append(
            f'| {sweep} | '
            + ' | '.join(names)
            + ' |\n'
            + '|---' * (1 + len(names))
            + '|\n'
            + '| Recall@20 | '
            + ' | '.join(cells)
            + ' |'
        )
    command = commands.sensitivity_command(rows)
    return [*parts, commands.block(rows[0], [command])]
