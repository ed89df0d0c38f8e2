"""Writes `docs/results` and the table of the README from the committed lines
of results.

python benchmarks/quality/publish.py

There is one page per catalogue. What has no lines is left out; the same lines
give the same bytes.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import cold_page
import matplotlib as mpl
import numpy as np
import pages
import records
import report
from bootstrap import NUM_REPLICATES
from pages import Rows, Users
from references import references

mpl.use('Agg')
import matplotlib.pyplot as plt

ROOT = Path(__file__).parents[2]
START = '<!-- results: written by benchmarks/quality/publish.py -->'
END = '<!-- end of results -->'

# What tells lines of one run from each other: the tables that they are in.
LABEL = ('variant', 'sweep', 'value', 'center', 'common', 'of')

NAMES = (
    'Test figures, mean ± standard deviation over seeds (popularity and '
    'content k-NN have none to draw). `sea_no_losses` is `SEA` with '
    '`alpha=0, beta=0`; `..._softmax` are peers with the ranking loss of '
    '`SEA` in place of that of their papers.'
)

INDEX = """\
# Results

Everything on these pages is generated from committed lines of results by

```sh
python benchmarks/quality/publish.py
```

and every table has the commands beside it that make its lines again, with
`PYG_SEA_DATA` the folder of the catalogues. Full ranking over all items, train
items masked; the epoch, and what was tuned, selected on validation Recall@20.
A run looks at the test split once, at its best epoch; the README says which
earlier defaults of `SEA` were looked at on it. The defaults were chosen on
validation of these three catalogues, in about a hundred single runs by hand
(`benchmarks/results/defaults.md`); the others have six trials each. Means and
standard deviations (of a sample) are over seeds; intervals and p values are of
a paired bootstrap over users and seeds. More on the protocol is in
`benchmarks/quality/README.md`. [Reproducing the paper](../reproducing.md) has
the published figures.
"""


def read(folder: Path) -> tuple[Rows, Users]:
    """All lines, each with the name of its `file`, and the metrics of the
    users of those that have them. A run that stands in several files counts
    once.
    """
    rows: Rows = []
    users, seen = {}, set()
    for path in sorted(folder.glob('*.jsonl')):
        for row in records.read(path):
            label = json.dumps([row.get(name) for name in LABEL])
            identity = (records.key_of(row), pages.kind_of(row), label)
            if identity in seen:
                continue
            seen.add(identity)
            rows.append({'file': path.name, **row})
            values = records.users_path(path, row)
            if values.exists():
                users[values.stem] = records.read_users(values)
    return rows, users


def write(
    rows: Rows,
    users: Users,
    docs: Path,
    readme: Path,
    num_replicates: int = NUM_REPLICATES,
) -> None:
    """Writes the pages, and the table of the README.

    Args:
        rows: The lines.
        users: The metrics of the users, by :func:`records.users_name`.
        docs: The folder of the pages.
        readme: The README, which has the two marks if there is a table.
        num_replicates: Of the bootstrap.

    Raises a `ValueError` if the marks are not there.
    """
    table = main_table(rows)
    text = readme.read_text(encoding='utf-8')
    if table:
        text = between_marks(text, table)
    docs.mkdir(parents=True, exist_ok=True)
    names = sorted({row['data'] for row in rows})
    for name in names:
        own = [row for row in rows if row['data'] == name]
        content = page(name, own, users, docs, num_replicates)
        (docs / f'{name}.md').write_text(content, encoding='utf-8')
    index = [INDEX, table] if table else [INDEX]
    if names:
        toctree = '\n'.join(names)
        index.append(f'```{{toctree}}\n:maxdepth: 2\n\n{toctree}\n```\n')
    (docs / 'index.md').write_text('\n'.join(index), encoding='utf-8')
    readme.write_text(text, encoding='utf-8')


def page(
    name: str, rows: Rows, users: Users, docs: Path, num_replicates: int
) -> str:
    """All about one catalogue, whose figures go to `docs`."""
    parts, num_figures = [f'# {name}'], 0
    for group in by_data(rows):
        kinds: dict[str, Rows] = {}
        for row in group:
            kinds.setdefault(pages.kind_of(row), []).append(row)
        tested = kinds.get('comparison', [])
        parts += [f'## {pages.title(group[0])}', report.about(group)]
        parts += [pages.caveat(group[0])] if pages.caveat(group[0]) else []
        parts += pages.comparison(tested, users, num_replicates)
        parts += references(tested)
        parts += pages.plug_ins(tested, users, num_replicates)
        parts += pages.tuning(kinds.get('tuning', []))
        parts += pages.controls(
            kinds.get('controls', []), users, num_replicates
        )
        parts += cold_page.cold_start(kinds.get('cold', []))
        for sweep in report.groups_of(
            kinds.get('sensitivity', []), ('file', 'center', 'common')
        ):
            if points := pages.points_of(sweep):
                num_figures += 1
                figure = f'{name}_sensitivity_{num_figures}.svg'
                plot(points, sweep[0]['center'], docs / figure)
                parts += pages.sensitivity(sweep, figure)
    return '\n\n'.join(parts) + '\n'


def by_data(rows: Rows) -> list[Rows]:
    """The lines about the same data together, whole data first."""
    groups: dict[str, Rows] = {}
    for row in rows:
        key = json.dumps(pages.base_of(row), sort_keys=True)
        groups.setdefault(key, []).append(row)
    return [
        sorted(group, key=lambda row: row['inputs'] != pages.base_of(row))
        for group in groups.values()
    ]


def main_table(rows: Rows) -> str:
    """Test Recall@20 and NDCG@20 of all recommenders on all catalogues."""
    rows = [row for row in rows if pages.kind_of(row) == 'comparison']
    rows = pages.recommenders(rows)
    shops = report.groups_of(
        sorted(rows, key=lambda row: row['data']), ('data', 'inputs')
    )
    if not shops:
        return ''
    lines = [
        '| test Recall@20, NDCG@20 | '
        + ' | '.join(pages.title(shop[0]) for shop in shops)
        + ' |',
        '|---' * (1 + len(shops)) + '|',
    ]
    for model in dict.fromkeys(row['model'] for row in rows):
        cells = [cell(shop, model) for shop in shops]
        lines.append(f'| `{model}` | ' + ' | '.join(cells) + ' |')
    notes = [NAMES] + [
        f'{pages.title(shop[0])}: {pages.caveat(shop[0])}'
        for shop in shops
        if pages.caveat(shop[0])
    ]
    return '\n'.join([*lines, *(f'\n{note}' for note in notes)]) + '\n'


def cell(shop: Rows, model: str) -> str:
    """The figure of one model; of several settings, that of the best on
    validation.
    """
    label = pages.label_of(shop, model)
    groups = report.groups_of(shop, ('model', 'settings'))
    for name, group in zip(report.labels_of(groups), groups):
        if name == label:
            recall = [row['test']['recall@20'] for row in group]
            ndcg = np.mean([row['test']['ndcg@20'] for row in group])
            return f'{report.spread(recall)}, {ndcg:.4f}'
    return ''


def between_marks(text: str, table: str) -> str:
    """The text of a README with another table."""
    before, start, rest = text.partition(START)
    _, end, after = rest.partition(END)
    if not start or not end:
        raise ValueError(
            f'the README needs the lines {START!r} and {END!r}, between which '
            'the table goes'
        )
    return f'{before}{START}\n\n{table}\n{END}{after}'


def plot(
    points: dict[str, dict[float, list[float]]],
    center: dict[str, Any],
    path: Path,
) -> None:
    """Draws validation Recall@20 by value, one panel per sweep."""
    # Neither dates nor random ids: the same lines, the same bytes.
    style = {'svg.hashsalt': 'pyg_sea', 'svg.fonttype': 'none'}
    with mpl.rc_context(style):
        fig, axes = plt.subplots(
            1,
            len(points),
            figsize=(2.6 * len(points), 2.6),
            sharey=True,
            squeeze=False,
            layout='constrained',
        )
        for ax, (sweep, values) in zip(axes[0], points.items()):
            at = range(len(values))
            mean = [np.mean(v) for v in values.values()]
            std = [
                np.std(v, ddof=1 if len(v) > 1 else 0) for v in values.values()
            ]
            ax.errorbar(at, mean, std, marker='o', capsize=3)
            ax.set_xticks(at, [f'{x:g}' for x in values], rotation=45)
            if center[sweep] in values:
                ax.axvline(
                    [*values].index(center[sweep]), color='0.7', zorder=0
                )
            ax.set_xlabel(sweep)
        axes[0, 0].set_ylabel('validation Recall@20')
        fig.savefig(path, metadata={'Date': None, 'Creator': None})
        plt.close(fig)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    results = Path(__file__).parent / 'results'
    add('--results', type=Path, default=results, help='the folder of lines')
    add('--docs', type=Path, default=ROOT / 'docs' / 'results')
    add('--readme', type=Path, default=ROOT / 'README.md')
    add('--replicates', type=int, default=report.NUM_REPLICATES)
    args = parser.parse_args(argv)
    write(*read(args.results), args.docs, args.readme, args.replicates)


if __name__ == '__main__':
    main()
