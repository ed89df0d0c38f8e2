"""Items that come after training: holds 20 % of the items out, trains on the
others, adds them, and ranks.

python benchmarks/quality/cold_start.py --data "$PYG_SEA_DATA/lfm2k" \\
    --modality image=vggish.npy --modality text=all-MiniLM-L6-v2.npy \\
    --normalize text=none --model sea --seeds 5 \\
    --out benchmarks/quality/results/cold_lfm2k.jsonl

Adds one line per seed, which decides the items, initial weights and sampling.
Nothing of these items is there in training: no interaction of any split, no
edge of the item-item graph, and features are standardized by the others. The
epoch is selected on validation edges of the others. `SEA` takes them up by
`pyg_sea.Recommender.add_items`, `vbpr` by its features (vectors and biases of
their own are zero), `content_knn` by their cosine with what a user has.

`--select` draws out of the other half of the items, from seed 1000 on, and
keeps no test metrics: it tries the settings in `TRIALS`, and `--tuned` takes
the best ones out of such a file, by Recall@20 among cold items.
"""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cold_rank
import cold_split
import records
from cold_split import Source
from grids import grid
from models import MODELS, build, resolve
from run import (
    WORK,
    checkpoints,
    environment,
    fit,
    parse_settings,
    parser_of,
)
from torch_geometric import seed_everything

CHOICES = (
    *('popularity', 'content_knn', 'vbpr'),
    *('sea', 'sea_no_losses', 'sea_paper'),
)
KNN = {'k': 10, 'weighted': False, 'centered': False}
#: What `--select` tries; 0 neighbours are all of them.
TRIALS: dict[str, list[dict[str, Any]]] = {
    'content_knn': grid(
        k=[10, 40, 160, 0], weighted=[False, True], centered=[False, True]
    ),
    # Cold items have nothing but the maps.
    'vbpr': grid(lr=[1e-3, 3e-4], lambda_reg=[1e-1, 1e-2, 1e-3]),
}
FIRST_TO_SELECT = 1000


def settings_of(model: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """All settings of a model, as of :func:`models.resolve`."""
    if model != 'content_knn':
        return resolve(model, settings)
    unknown = [name for name in settings if name not in KNN]
    if unknown:
        raise ValueError(
            f"'content_knn' has no settings {unknown} (known: {[*KNN]})"
        )
    return {'model': {**KNN, **settings}, 'train': {}}


def key(
    source: Source,
    share: float,
    model: str,
    settings: Mapping[str, Any],
    seed: int,
    select: bool,
) -> dict[str, Any]:
    """The beginning of a line: what decides a run."""
    inputs = {**source.shop.inputs, 'cold_items': share, 'select': select}
    return {
        'of': source.shop.inputs,
        'data': source.shop.name,
        'model': model,
        'seed': seed,
        'set': dict(settings),
        'settings': settings_of(model, settings),
        'inputs': inputs,
    }


def run(
    source: Source, row: dict[str, Any], work: Path = WORK
) -> dict[str, Any]:
    """One line of results, given its beginning."""
    model, seed, inputs = row['model'], row['seed'], row['inputs']
    about = environment()
    draw = cold_split.draw(
        source, seed, inputs['cold_items'], inputs['select']
    )
    own = row['settings']['model']
    folder = checkpoints(row, work, about['commit'])
    out: dict[str, Any] = {}
    it = None
    if model in MODELS:
        seed_everything(seed)
        it = build(model, own, draw.shop.data, draw.shop.item_graphs)
        result, out = fit(it, draw.shop, row, folder)
        out['warm_validation'] = result.val
    scorer = cold_rank.scorer(model, it, own, draw)
    part = 'val' if inputs['select'] else 'test'
    found = cold_rank.measure(scorer, draw, part, seed)
    shutil.rmtree(folder, ignore_errors=True)
    name = 'validation' if inputs['select'] else 'test'
    out |= {name: found.pop('cold'), **found}
    return row | out | {'commit': about.pop('commit'), 'versions': about}


def fill(
    path: Path,
    source: Source,
    share: float,
    model: str,
    settings: Mapping[str, Any],
    num_seeds: int,
    select: bool = False,
    work: Path = WORK,
) -> None:
    """Adds the lines that a file lacks, one per seed."""
    done = {records.key_of(row) for row in records.read(path)}
    first = FIRST_TO_SELECT if select else 0
    for seed in range(first, first + num_seeds):
        row = key(source, share, model, settings, seed, select)
        title = f'{source.shop.name}, {model}, seed {seed}'
        if records.key_of(row) in done:
            print(f'{title}: there already')
            continue
        row = run(source, row, work)
        records.append(path, row)
        shown = [
            f'{k} {row[k]:.0f}' for k in ('epochs', 'seconds') if k in row
        ]
        if select:
            value = row['validation']['recall@20']
            shown.append(f'Recall@20 of cold items to select by {value:.4f}')
        print(f'{title}: done', *shown, flush=True)


def best(path: Path, source: Source, share: float, model: str) -> Any:
    """The settings that :func:`records.best` finds in a file of `--select`."""
    inputs = {**source.shop.inputs, 'cold_items': share, 'select': True}
    rows = [row for row in records.read(path) if 'validation' in row]
    return records.best(rows, source.shop.name, inputs, model)


def main(argv: list[str] | None = None) -> None:
    parser = parser_of(
        __doc__,
        'a setting, as of run.py; of content_knn k (0 for all), weighted '
        '(modalities as in the item-item graph) and centered (features less '
        'their mean)',
    )
    add = parser.add_argument
    add('--model', choices=CHOICES, required=True)
    add('--tuned', type=Path, help='a file of --select, for its settings')
    add('--share', type=float, default=0.2, help='of cold items (default: .2)')
    add('--select', action='store_true', help='try settings, see above')
    add('--seeds', type=int, default=5, help='how many (default: 5)')
    args = parser.parse_args(argv)
    if args.select and args.tuned:
        parser.error(
            "'--select' tries settings and '--tuned' takes those tried "
            'before: leave one away'
        )

    source = cold_split.read(args)
    settings = parse_settings(args.set)
    if args.tuned:
        chosen = best(args.tuned, source, args.share, args.model)
        settings = chosen | settings
    trials = TRIALS.get(args.model, [{}]) if args.select else [{}]
    for trial in trials:
        fill(
            args.out,
            source,
            args.share,
            args.model,
            trial | settings,
            args.seeds,
            args.select,
            args.work,
        )


if __name__ == '__main__':
    main()
