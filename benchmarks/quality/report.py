"""Tables of the result files of `run.py`, as Markdown.

python benchmarks/quality/report.py benchmarks/quality/results/lfm2k.jsonl \\
    --against mgcn

Means and standard deviations (of a sample, over seeds). With `--against`, also
by how much that model is ahead of every other, with the 95 % interval and p
value of a paired bootstrap over users and seeds, see `bootstrap.py`.
"""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import records
from bootstrap import NUM_REPLICATES, Difference, compare

COLUMNS = {
    'test Recall@10': ('test', 'recall@10'),
    'test Recall@20': ('test', 'recall@20'),
    'test NDCG@10': ('test', 'ndcg@10'),
    'test NDCG@20': ('test', 'ndcg@20'),
    'valid Recall@20': ('validation', 'recall@20'),
}
TESTED = ('recall@20', 'ndcg@20')


def groups_of(
    rows: list[dict[str, Any]], names: tuple[str, ...]
) -> list[list[dict[str, Any]]]:
    """The lines with equal values of `names` together, in order."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        key = json.dumps([row[name] for name in names], sort_keys=True)
        groups.setdefault(key, []).append(row)
    return list(groups.values())


def labels_of(groups: list[list[dict[str, Any]]]) -> list[str]:
    """The models, with their settings if one has several: those that were
    given, or those that differ, if the same were given beside other defaults.
    """
    models = [group[0]['model'] for group in groups]
    labels = [
        model
        if models.count(model) == 1
        else f'{model} `{json.dumps(group[0]["set"])}`'
        for model, group in zip(models, groups)
    ]
    out = []
    for label, group in zip(labels, groups):
        same = [g[0] for x, g in zip(labels, groups) if x == label]
        if len(same) > 1:
            settings = json.dumps(differing(group[0], same))
            label = f'{group[0]["model"]} `{settings}`'
        out.append(label)
    return out


def differing(
    row: Mapping[str, Any], rows: list[dict[str, Any]]
) -> dict[str, Any]:
    """The settings of a line that are not the same in all of some lines."""

    def flat(row: Mapping[str, Any]) -> dict[str, Any]:
        return row['settings']['model'] | row['settings']['train']

    return {
        name: value
        for name, value in flat(row).items()
        if any(flat(other).get(name, ...) != value for other in rows)
    }


def table(rows: list[dict[str, Any]]) -> str:
    """The models on one catalogue."""
    groups = groups_of(rows, ('model', 'settings'))
    lines = [
        '| | ' + ' | '.join(COLUMNS) + ' | seeds | seconds |',
        '|---' * (len(COLUMNS) + 3) + '|',
    ]
    for label, group in zip(labels_of(groups), groups):
        cells = [
            spread([row[part][name] for row in group])
            for part, name in COLUMNS.values()
        ]
        seconds = [row['seconds'] for row in group if 'seconds' in row]
        cells.append(str(len(group)))
        cells.append(f'{np.mean(seconds):.0f}' if seconds else '')
        lines.append(f'| {label} | ' + ' | '.join(cells) + ' |')
    return '\n'.join(lines)


def spread(values: list[float]) -> str:
    """Mean and standard deviation."""
    mean = f'{np.mean(values):.4f}'
    if len(values) == 1:
        return mean
    return f'{mean} ± {np.std(values, ddof=1):.4f}'


class Ahead(NamedTuple):
    """How far a model is ahead of another one.

    Args:
        label: The other one, with its settings if it has several.
        model: Its name.
        num_seeds: Of how many seeds it has lines.
        by: The difference by metric.
        percent: The same, in per cent of the other one's; NaN if that is 0.
    """

    label: str
    model: str
    num_seeds: int
    by: dict[str, Difference]
    percent: dict[str, float]


def compared(
    rows: list[dict[str, Any]],
    users: Mapping[str, Mapping[str, np.ndarray]],
    against: str,
    num_replicates: int = NUM_REPLICATES,
) -> tuple[str, list[Ahead]]:
    """The label of one model, and how far it is ahead of every other.

    Args:
        rows: The lines on one catalogue.
        users: The metrics of the users, by :func:`records.users_name`.
        against: The one model, or its label if it has several settings.
        num_replicates: How often to draw.

    Raises a `ValueError` unless there is exactly one such model, and metrics
    of the users of all lines.
    """
    without = [row for row in rows if records.users_name(row) not in users]
    if without:
        raise ValueError(
            f"'against' needs the metrics of the users of every line, and "
            f"{len(without)} of {len(rows)} on '{rows[0]['data']}' have "
            f"none in 'users/' (the first one: {without[0]['model']}, seed "
            f'{without[0]["seed"]}): run them again'
        )
    groups = groups_of(rows, ('model', 'settings'))
    labels = labels_of(groups)
    found = [
        i
        for i, (label, group) in enumerate(zip(labels, groups))
        if against in (label, group[0]['model'])
    ]
    if len(found) != 1:
        raise ValueError(
            f"'against' needs to be a model with one setting on "
            f"'{rows[0]['data']}' (got {against!r} out of {labels})"
        )

    def matrix(group: list[dict[str, Any]], metric: str) -> np.ndarray:
        return np.stack(
            [users[records.users_name(row)][metric] for row in group]
        )

    out = []
    for i, (label, group) in enumerate(zip(labels, groups)):
        if i == found[0]:
            continue
        by, percent = {}, {}
        for metric in TESTED:
            own = matrix(groups[found[0]], metric)
            other = matrix(group, metric)
            by[metric] = compare(own, other, num_replicates)
            mean = other.mean()
            percent[metric] = (
                100 * by[metric].mean / mean if mean > 0 else np.nan
            )
        model = group[0]['model']
        out.append(Ahead(label, model, len(group), by, percent))
    return labels[found[0]], out


def differences(label: str, others: list[Ahead]) -> str:
    """What :func:`compared` found, as Markdown."""
    lines = [
        f'| {label} minus | '
        + ' | '.join(
            f'{metric}, difference | in % | 95 % | p'
            for metric in ('Recall@20', 'NDCG@20')
        )
        + ' |',
        '|---' * (1 + 4 * len(TESTED)) + '|',
    ]
    for other in others:
        cells = []
        for metric in TESTED:
            out, percent = other.by[metric], other.percent[metric]
            cells.append(f'{out.mean:+.4f}')
            cells.append('' if np.isnan(percent) else f'{percent:+.1f}')
            cells.append(f'{out.low:+.4f} to {out.high:+.4f}')
            cells.append(f'{out.p:.4f}')
        lines.append(f'| {other.label} | ' + ' | '.join(cells) + ' |')
    return '\n'.join(lines)


def about(rows: list[dict[str, Any]]) -> str:
    """Where the lines come from."""
    commits = sorted({row['commit'][:12] + row['commit'][40:] for row in rows})
    machines = sorted({row['versions']['machine'] for row in rows})
    torches = sorted({row['versions']['torch'] for row in rows})
    inputs = rows[0]['inputs']
    files = [f'{m}: `{f}`' for m, f in inputs['modalities'].items()]
    files += [f'{m} graph: `{f}`' for m, f in inputs['neighbors'].items()]
    given = inputs.get('graph_weights')
    weights = json.dumps(given) if given else 'alike'
    k = inputs.get('k', 10)
    return (
        f'{"; ".join(files)}. Normalized: {json.dumps(inputs["normalize"])}. '
        f'Item graph: {k} neighbours, modalities weigh {weights}. '
        f'Commits {", ".join(f"`{c}`" for c in commits)}, torch '
        f'{", ".join(torches)}, {"; ".join(machines)}.'
    )


def report(
    rows: list[dict[str, Any]],
    users: Mapping[str, Mapping[str, np.ndarray]],
    against: str | None = None,
    num_replicates: int = NUM_REPLICATES,
) -> str:
    """One section per catalogue."""
    parts = []
    for group in groups_of(rows, ('data', 'inputs')):
        parts += [f'## {group[0]["data"]}', about(group), table(group)]
        if against:
            ahead = compared(group, users, against, num_replicates)
            parts.append(differences(*ahead))
    return '\n\n'.join(parts)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('results', nargs='+', type=Path)
    parser.add_argument('--against', metavar='MODEL')
    parser.add_argument('--replicates', type=int, default=NUM_REPLICATES)
    args = parser.parse_args(argv)

    rows, users, seen = [], {}, set()
    for path in args.results:
        for row in records.read(path):
            if not {'test', 'validation'} <= row.keys():
                parser.error(
                    f'{path} needs lines of run.py (got some without test or '
                    'validation metrics): publish.py writes tables of others'
                )
            name = records.key_of(row)
            if name in seen:
                continue
            seen.add(name)
            row = {'file': path.name, **row}
            rows.append(row)
            values = records.users_path(path, row)
            if values.exists():
                users[values.stem] = records.read_users(values)
    if not rows:
        parser.error(f'no lines in {", ".join(map(str, args.results))}')
    try:
        print(report(rows, users, args.against, args.replicates))
    except ValueError as error:
        parser.error(str(error))


if __name__ == '__main__':
    main()
