"""Tries the settings in `grids.py`, the same number for each model, and
selects on validation.

python benchmarks/quality/tune.py --data "$PYG_SEA_DATA/lfm2k" \\
    --modality image=vggish.npy --modality text=all-MiniLM-L6-v2.npy \\
    --normalize text=none --out benchmarks/quality/results/tuning.jsonl

One seed, which is none of those that `run.py` reports. Test metrics are
neither shown nor kept. `run.py --tuned` takes the best settings from the file.
"""

import json
from pathlib import Path
from typing import Any

import catalogue
import records
from grids import GRIDS
from models import PLUGGED
from run import key, parse_settings, parser_of, run

SEED = 1000


def table(rows: list[dict[str, Any]]) -> str:
    """The trials of one model, best first, as Markdown."""
    lines = [
        f'| {rows[0]["model"]} on {rows[0]["data"]} | validation Recall@20 | '
        'NDCG@20 | best epoch | seconds |',
        '|---|---|---|---|---|',
    ]
    rows = sorted(rows, key=lambda row: -row['validation']['recall@20'])
    for row in rows:
        valid = row['validation']
        lines.append(
            f'| `{json.dumps(row["set"])}` | {valid["recall@20"]:.4f} | '
            f'{valid["ndcg@20"]:.4f} | {row.get("best_epoch", "")} | '
            f'{row.get("seconds", 0):.0f} |'
        )
    return '\n'.join(lines)


def main(argv: list[str] | None = None) -> None:
    parser = parser_of(__doc__, 'a setting of all trials')
    add = parser.add_argument
    add(
        '--model',
        action='append',
        choices=list(GRIDS),
        help='may be repeated (default: all)',
    )
    add(
        '--tuned',
        type=Path,
        help='a result file of this script: the best settings of the model '
        'that a plug-in plugs into go before --set',
    )
    add('--seed', type=int, default=SEED, help=f'(default: {SEED})')
    args = parser.parse_args(argv)

    shop = catalogue.read(args)
    common = parse_settings(args.set)
    for model in args.model or GRIDS:
        done = {records.key_of(row): row for row in records.read(args.out)}
        rows, given = [], common
        if args.tuned and model in PLUGGED:
            trials = records.read(args.tuned)
            base = PLUGGED[model]
            best = records.best(trials, shop.name, shop.inputs, base)
            given = best | common
        for settings in GRIDS[model]:
            settings = given | settings
            name = records.key_of(key(shop, model, settings, args.seed))
            if name not in done:
                row, _ = run(shop, model, settings, args.seed, args.work)
                row.pop('test')
                records.append(args.out, row)
                done[name] = row
            rows.append(done[name])
        print(table(rows), end='\n\n', flush=True)


if __name__ == '__main__':
    main()
