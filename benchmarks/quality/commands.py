"""The command that makes a line of results again, from the line itself."""

import json
import shlex
from collections.abc import Mapping
from typing import Any

from cold_start import TRIALS
from controls import variants
from grids import GRIDS

RESULTS = 'benchmarks/quality/results'
Rows = list[dict[str, Any]]


def data_options(row: Mapping[str, Any]) -> str:
    """The options of `catalogue.py`. Lines about changed data say what these
    were changed from.
    """
    inputs = row.get('of', row['inputs'])
    out = [f'--data $PYG_SEA_DATA/{row["data"]}']
    out += [f'--modality {m}={f}' for m, f in inputs['modalities'].items()]
    for name, how in inputs['normalize'].items():
        if how != 'standard':
            out.append(f'--normalize {name}={how or "none"}')
    if inputs.get('k', 10) != 10:
        out.append(f'--k {inputs["k"]}')
    weights = inputs.get('graph_weights') or {}
    out += [f'--graph-weight {m}={w}' for m, w in weights.items()]
    out += [f'--neighbors {m}={f}' for m, f in inputs['neighbors'].items()]
    return ' '.join(out)


def settings_options(settings: Mapping[str, Any]) -> str:
    """`--set NAME=VALUE` for each of them."""
    values = {
        name: value if isinstance(value, str) else json.dumps(value)
        for name, value in settings.items()
    }
    return ''.join(
        ' --set ' + shlex.quote(f'{name}={value}')
        for name, value in values.items()
    )


def block(row: Mapping[str, Any], commands: list[str]) -> str:
    """A code block: the data once, then the commands, which read `$data`."""
    lines = [f'data="{data_options(row)}"', *commands]
    return '```sh\n' + '\n'.join(wrapped(line) for line in lines) + '\n```'


def wrapped(line: str, width: int = 79) -> str:
    """A line of a shell, broken before an option where it is too long."""
    out, rest = [], line
    while len(rest) > width:
        cut = rest.rfind(' --', 5, width - 2)
        if cut < 0:
            break
        out.append(rest[:cut] + ' \\')
        rest = '    ' + rest[cut + 1 :]
    return '\n'.join([*out, rest])


def run_command(rows: Rows) -> str:
    """That of some seeds of one model and its settings."""
    row = rows[0]
    seeds = 1 + max(r['seed'] for r in rows)
    # One line stands for all seeds of what is not trained.
    number = f' --seeds {seeds}' if row['settings']['train'] else ''
    return (
        f'python benchmarks/quality/run.py $data --model {row["model"]}'
        f'{settings_options(row["set"])}{number} '
        f'--out {RESULTS}/{row["file"]}'
    )


def tune_commands(rows: Rows) -> list[str]:
    """Those of all trials; one per set of common settings and seed."""
    models: dict[tuple[str, int], list[str]] = {}
    for row in rows:
        known = GRIDS.get(row['model'], [{}])[0]
        common = {k: v for k, v in row['set'].items() if k not in known}
        options = settings_options(common)
        chosen = models.setdefault((options, row['seed']), [])
        if row['model'] not in chosen:
            chosen.append(row['model'])
    return [
        'python benchmarks/quality/tune.py $data'
        + ''.join(f' --model {model}' for model in chosen)
        + f'{options} --seed {seed} --out {RESULTS}/{rows[0]["file"]}'
        for (options, seed), chosen in models.items()
    ]


def controls_command(rows: Rows) -> str:
    row = rows[0]
    names = dict.fromkeys(r['variant'] for r in rows)
    chosen = ''
    known = variants([*row['of']['modalities']], row['common'])
    if set(names) != set(known):
        chosen = ''.join(f' --variant {shlex.quote(name)}' for name in names)
    seeds = 1 + max(r['seed'] for r in rows)
    return (
        f'python benchmarks/quality/controls.py $data{chosen}'
        f'{settings_options(row["common"])} --seeds {seeds} '
        f'--out {RESULTS}/{row["file"]}'
    )


def sensitivity_command(rows: Rows) -> str:
    row = rows[0]
    names = dict.fromkeys(r['sweep'] for r in rows if r['sweep'])
    chosen = ''.join(f' --sweep {shlex.quote(name)}' for name in names)
    seeds = 1 + max(r['seed'] for r in rows)
    return (
        f'python benchmarks/quality/sensitivity.py $data{chosen}'
        f'{settings_options(row["common"])} --seeds {seeds} '
        f'--out {RESULTS}/{row["file"]}'
    )


def cold_command(rows: Rows) -> str:
    """That of some seeds of one model: with its settings, or, where these are
    to be selected, with those that all trials have in common.
    """
    row = rows[0]
    settings, select, first = row['set'], '', 0
    if row['inputs']['select']:
        known = TRIALS.get(row['model'], [{}])[0]
        settings = {k: v for k, v in settings.items() if k not in known}
        select, first = ' --select', min(r['seed'] for r in rows)
    share = row['inputs']['cold_items']
    seeds = 1 + max(r['seed'] for r in rows) - first
    return (
        f'python benchmarks/quality/cold_start.py $data --model '
        f'{row["model"]}{settings_options(settings)}'
        + (f' --share {share}' if share != 0.2 else '')
        + f'{select} --seeds {seeds} --out {RESULTS}/{row["file"]}'
    )
