import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip('lightning', reason='the benchmarks train')

FOLDER = Path(__file__).parents[2] / 'benchmarks' / 'quality'
sys.path.insert(0, str(FOLDER))
import records  # noqa: E402
import report  # noqa: E402

sys.path.remove(str(FOLDER))

COMMIT = 'f' * 40


def line(model, seed, value, **settings):
    names = ('recall@10', 'recall@20', 'ndcg@10', 'ndcg@20')
    metrics = {name: value + i / 100 for i, name in enumerate(names)}
    return {
        'data': 'shop',
        'model': model,
        'seed': seed,
        'set': settings,
        'settings': {'model': settings, 'train': {}},
        'inputs': {
            'modalities': {'text': 'text.npy'},
            'neighbors': {},
            'normalize': {'text': 'standard'},
        },
        'seconds': 10.0 + seed,
        'validation': {name: v + 0.5 for name, v in metrics.items()},
        'test': metrics,
        'commit': COMMIT,
        'versions': {'machine': 'a machine', 'torch': '2.13'},
    }


def test_report_on_known_lines():
    rows = [line('a', 0, 0.1), line('a', 1, 0.2), line('b', 0, 0.3)]
    text = report.report(rows, {})
    assert '## shop' in text
    assert 'text: `text.npy`' in text
    assert COMMIT[:12] in text
    assert 'Item graph: 10 neighbours, modalities weigh alike.' in text
    weighed = {**rows[0]['inputs'], 'k': 4, 'graph_weights': {'text': 0.9}}
    about = report.about([{**rows[0], 'inputs': weighed}])
    assert 'graph: 4 neighbours, modalities weigh {"text": 0.9}.' in about
    [a] = [row for row in text.splitlines() if row.startswith('| a |')]
    assert [cell.strip() for cell in a.split('|')[2:-1]] == [
        *('0.1500 ± 0.0707', '0.1600 ± 0.0707', '0.1700 ± 0.0707'),
        *('0.1800 ± 0.0707', '0.6600 ± 0.0707', '2', '10'),
    ]
    [b] = [row for row in text.splitlines() if row.startswith('| b |')]
    assert '| 0.3100 | ' in b

    rows.append(line('a', 0, 0.1, k=5))
    text = report.report(rows, {})
    assert '| a `{"k": 5}` |' in text
    assert '| a `{}` |' in text


def test_differences_are_paired_by_user(tmp_path, capsys):
    rng = np.random.default_rng(4)
    user = rng.random(300)
    path = tmp_path / 'a.jsonl'
    rows = []
    for model, shift in (('a', 0.0), ('b', 0.03), ('c', 0.0)):
        for seed in range(3):
            row = line(model, seed, 0.1)
            noise = 0.01 * rng.standard_normal((2, 300))
            values = dict(zip(report.TESTED, user + shift + noise))
            records.write_users(records.users_path(path, row), values)
            records.append(path, row)
            rows.append(row)
    report.main([str(path), '--against', 'a', '--replicates', '1000'])
    text = capsys.readouterr().out
    after = text[text.index('a minus') :]
    [b] = [row for row in after.splitlines() if row.startswith('| b |')]
    [c] = [row for row in after.splitlines() if row.startswith('| c |')]
    cells = [cell.strip() for cell in b.split('|')[2:-1]]
    assert float(cells[0]) == pytest.approx(-0.03, abs=0.003)
    percent = 100 * float(cells[0]) / (user.mean() + 0.03)
    assert float(cells[1]) == pytest.approx(percent, abs=0.1)
    assert float(cells[3]) < 0.01
    cells = [cell.strip() for cell in c.split('|')[2:-1]]
    assert abs(float(cells[0])) < 0.003
    assert '\n| a |' not in after
    with pytest.raises(SystemExit):
        report.main([str(path), '--against', 'z'])
    assert 'one setting' in capsys.readouterr().err
