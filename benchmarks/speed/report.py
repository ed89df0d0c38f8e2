"""Tables of all committed measurements of speed, for the documentation.

python benchmarks/speed/report.py
"""

import statistics
from typing import Any

from tables import RESULTS, read, source, table

MODELS = {
    'literal': '(a) released arithmetic',
    'released': '(b) `ReleasedSEA`',
    'paper': '(c) `SEA.paper`',
    'sea': '(d) `SEA`',
    'bf16': '(e) `SEA`, bfloat16 autocast',
}


def steps(name: str) -> list[str]:
    result = read(f'speed_{name}')
    if result is None:
        return []
    rows = []
    for key, row in result['steps'].items():
        ratio = row.get('times faster')
        rows.append(
            [
                MODELS[key],
                *(
                    f'{row[phase]:.3f}'
                    for phase in (
                        'forward',
                        'backward',
                        'estimator',
                        'optimizer',
                        'step',
                    )
                ),
                '' if ratio is None else f'{ratio:.1f}',
                f'{row["peak memory"]:.2f}',
                f'{row["peak memory"] - row["memory before"]:.2f}',
            ]
        )
    head = ['', 'forward', 'backward', 'estimator', 'optimiser', '**step**']
    head += ['times faster', 'peak GB', 'of it the step']
    passes = result['passes']
    lines = [
        f'### {name.capitalize()}: {result["num_users"]:,} users, '
        f'{result["num_items"]:,} items, {result["num_edges"]:,} interactions',
        '',
        *table(head, rows),
        '',
        f'Sampling an epoch {passes["sampling"]:.3f} s'
        + released(passes, 'sampling')
        + f', one evaluation {passes["evaluation"]:.2f} s'
        + released(passes, 'evaluation')
        + f'. The full-width map alone, there and back: '
        f'{result["full-width map"]:.2f} s.',
        '',
        f'{source(result, f"speed_{name}")}, {result["rounds"]} rounds, '
        'seed 0.',
        '',
    ]
    return lines


def released(passes: dict[str, float], name: str) -> str:
    seconds = passes.get(f'literal {name}')
    return '' if seconds is None else f' (released {seconds:.2f})'


def number(value: float | None, digits: int) -> str:
    return 'never' if value is None else f'{value:.{digits}f}'


def spread(runs: list[dict[str, Any]]) -> str:
    best = [run['best'] for run in runs]
    if len(best) == 1:
        return f'{best[0]:.4f}, one seed'
    return (
        f'{statistics.mean(best):.4f} ± {statistics.stdev(best):.4f}, '
        f'{len(best)} seeds'
    )


def pieces() -> list[str]:
    result = read('speed_pieces')
    if result is None:
        return []
    ways = [
        [piece if i == 0 else '', way, f'{milliseconds:.1f}']
        for piece, ways in result['milliseconds'].items()
        for i, (way, milliseconds) in enumerate(ways.items())
    ]
    operations = [
        [
            f'`{row["operation"].rsplit(": ", 1)[-1]}`',
            ' '.join(str(shape) for shape in row['shapes'][:3]),
            str(row['calls']),
            f'{100 * row["share"]:.1f} %',
        ]
        for row in result['profile']
    ]
    return [
        '## Pieces',
        '',
        *table(['', 'way', 'ms, forward and backward'], ways),
        '',
        'What a step of `SEA` spends its time on:',
        '',
        *table(['operation', 'shapes', 'calls', 'share'], operations),
        '',
        source(result, 'speed_pieces'),
        '',
    ]


def quality() -> list[str]:
    rows, sources = [], []
    for name in ('lfm2k', 'baby'):
        result = read(f'speed_quality_{name}')
        if result is None:
            continue
        ratios = result['times faster']
        rows.append(
            [
                name,
                f'{result["target"]:.4f}',
                str(result['released epochs']),
                f'{result["literal epoch"]:.1f}',
                f'{result["literal would need"]:,.0f}',
                ', '.join(number(s, 1) for s in result['sea seconds']),
                ', '.join(number(ratio, 0) for ratio in ratios),
                spread(result['parts']['sea']),
            ]
        )
        sources += [source(result, f'speed_quality_{name}') + '.', '']
    if not rows:
        return []
    head = ['', 'target', 'epochs of `ReleasedSEA` to it', 's an epoch of (a)']
    head += ['s that (a) would need', 's of `SEA` by seed', 'times faster']
    head += ['best of `SEA`']
    return ['## Time to quality', '', *table(head, rows), '', *sources]


def scale() -> list[str]:
    result = read('speed_scale')
    if result is None:
        return []
    lines = ['## Scale', '', '![step time and memory](speed_scale.png)', '']
    rows = [
        [
            name,
            f'{point["items"]:,}',
            f'{point["edges"]:,}',
            f'{point["step"]:.2f}',
            f'{point["peak memory"]:.2f}',
            f'{point["evaluation of 2,000 users"]:.2f}',
        ]
        for name, sweep in result['sweeps'].items()
        for point in sweep['points']
    ]
    head = ['sweep', 'items (and users)', 'interactions', 's a step']
    lines += table([*head, 'peak GB', 's to rank for 2,000 users'], rows)
    slopes = '; '.join(
        f'{name}: step {sweep["slopes"]["step"]:.2f}, memory '
        f'{sweep["slopes"]["peak memory"]:.2f}'
        for name, sweep in result['sweeps'].items()
    )
    return [
        *lines,
        '',
        f'Slopes: {slopes}.',
        '',
        source(result, 'speed_scale'),
    ]


def neighbors() -> list[str]:
    result = read('speed_neighbors')
    if result is None:
        return []
    rows = [
        [
            f'{value:.3g}' if isinstance(value, float) else str(value)
            for value in run.values()
        ]
        for run in result['runs']
    ]
    lines = table(list(result['runs'][0]), rows)
    return [
        '',
        '## Neighbours',
        '',
        *lines,
        '',
        source(result, 'speed_neighbors'),
    ]


def processes() -> list[str]:
    result = read('speed_processes')
    if result is None:
        return []
    rows = [
        [
            str(row['processes']),
            str(row['threads']),
            f'{row["seconds"]:.3f}',
            f'{row["speedup"]:.2f}',
            f'{row["efficiency"]:.0%}',
        ]
        for row in result['worlds']
    ]
    head = ['processes', 'threads each', 's a step', 'speed-up', 'efficiency']
    lines = table(head, rows)
    return [
        '',
        '## Processes',
        '',
        *lines,
        '',
        source(result, 'speed_processes'),
    ]


def precision() -> list[str]:
    result = read('speed_precision')
    if result is None:
        return []
    recall = result['recall']
    lines = [
        [
            kind,
            f'{row["mean"]:.4f} ± {row["std"]:.4f}',
            f'{row["minus fp32"]["mean"]:+.4f} ± '
            f'{row["minus fp32"]["std"]:.4f}',
            str(len(row['values'])),
        ]
        for kind, row in recall['precisions'].items()
    ]
    header = ['', 'Recall@20', 'minus fp32, seed by seed', 'seeds']
    return [
        '',
        '## Precision',
        '',
        f'What it does to validation Recall@20 of `SEA` on {recall["data"]}, '
        f'best of {recall["max_epochs"]} epochs.',
        '',
        *table(header, lines),
        '',
        source(result, 'speed_precision'),
    ]


def serving() -> list[str]:
    result = read('speed_serving')
    if result is None:
        return []
    lines = [
        [
            f'{row["users"]:,}',
            f'{row["seconds"]:.1f}',
            f'{row["first part after"]:.2f}',
            f'{row["before"]:.2f}',
            f'{row["peak"]:.2f}',
        ]
        for row in result['points']
    ]
    header = ['users', 's for all', 's to the first', 'GB before', 'peak GB']
    return [
        '',
        '## Serving',
        '',
        f'The best {result["k"]} of {result["items"]:,} items, '
        f'{result["channels"]} channels, exact, for every user:',
        '',
        *table(header, lines),
        '',
        source(result, 'speed_serving'),
    ]


def main() -> None:
    lines = ['## Steps', '', 'Seconds, medians; every model in turns.', '']
    for name in ('baby', 'sports', 'clothing', 'electronics'):
        lines += steps(name)
    for part in (
        pieces,
        quality,
        scale,
        neighbors,
        processes,
        precision,
        serving,
    ):
        lines += part()
    path = RESULTS / 'speed.md'
    path.write_text('\n'.join(lines) + '\n')
    print(path.read_text())


if __name__ == '__main__':
    main()
