"""Collects runs of `examples/amazon_baby.py` into one page.

python benchmarks/first_runs.py runs/lfm2k runs/tiktok runs/baby \\
    --out benchmarks/results/first_runs.md
"""

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
from _record import environment

NOTES = {
    'baby': 'The split is another draw than the published one and the '
    'features are derived from the published neighbour graphs: comparable '
    "with other runs on these files, **never with the paper's table**.",
    'tiktok': 'The third published modality, text, is missing: not '
    'comparable with papers that use three.',
    'lfm2k': 'Three modalities.',
}


def section(run: Path, out: Path) -> str:
    result = json.loads((run / 'metrics.json').read_text())
    curves = out.parent / f'{run.name}_curves.png'
    parts = out.parent / f'{run.name}_parts.png'
    shutil.copyfile(run / 'curves.png', curves)
    shutil.copyfile(run / 'parts.png', parts)

    test = pd.DataFrame(result['test']).T
    r2 = result['r2_unique_from_generic']
    lines = [
        f'## {run.name}',
        NOTES.get(run.name, ''),
        f'```sh\n{command(result["arguments"])}\n```',
        f'{result["model"]}: best epoch {result["best_epoch"]} of '
        f'{result["epochs"]}, {result["seconds"]:.0f} s with early stopping; '
        f'commit `{result["commit"]}`, seed {result["arguments"]["seed"]}, '
        f'{result["versions"]["machine"]}, beside other jobs.',
        markdown(test),
        'Validation at that epoch: '
        + ', '.join(f'{k} {v:.4f}' for k, v in result['validation'].items())
        + '.',
        'Cross-validated R² of the unique from the generic part: '
        + ', '.join(
            f'{name} {r2["before"][name]:.2f} before, {after:.2f} after'
            for name, after in r2['after'].items()
        )
        + '.',
        f'![curves]({curves.name})\n![parts]({parts.name})',
    ]
    return '\n\n'.join(line for line in lines if line)


def command(arguments: dict[str, Any]) -> str:
    name = Path(arguments['dataset']).name
    words = [
        'python examples/amazon_baby.py',
        f'--dataset "$PYG_SEA_DATA/{name}"',
    ]
    for option in ('modality', 'neighbors', 'graph_weight'):
        flag = '--' + option.replace('_', '-')
        words += [f'{flag} {value}' for value in arguments.get(option, [])]
    for option in ('model', 'alpha', 'beta', 'lr', 'seed', 'normalize'):
        if arguments[option] is not None:
            words.append(f'--{option} {arguments[option]}')
    return ' \\\n    '.join([*words, f'--out runs/{name}'])


def markdown(table: pd.DataFrame) -> str:
    rows = [
        '| | ' + ' | '.join(table.columns) + ' |',
        '|---' * (len(table.columns) + 1) + '|',
    ]
    rows += [
        f'| {name} | ' + ' | '.join(f'{v:.4f}' for v in row) + ' |'
        for name, row in zip(table.index, table.to_numpy())
    ]
    return '\n'.join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('runs', nargs='+', type=Path)
    parser.add_argument('--out', type=Path, required=True)
    args = parser.parse_args()
    machine = environment()
    text = [
        '# First runs',
        'One seed each, trained to early stopping on validation Recall@20; '
        'the test split is looked at once, at the best epoch. One seed shows '
        'that the main job runs, not which model is better. Made by '
        '`benchmarks/first_runs.py` on '
        f'{machine["machine"]}, torch {machine["torch"]}, '
        f'PyG {machine["torch_geometric"]}, Python {machine["python"]}.',
        *(section(run, args.out) for run in args.runs),
    ]
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text('\n\n'.join(text) + '\n')


if __name__ == '__main__':
    main()
