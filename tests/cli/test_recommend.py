import shutil
import sys
from pathlib import Path

import pandas as pd
import pytest


def test_recommend(run, process):
    # The console script; the others are called by `python -m`.
    script = shutil.which('pyg-sea', path=str(Path(sys.executable).parent))
    args = ['--user', '0007', '--user', '0003', '--k', '3']
    out, _ = process('recommend', 'runs/shop', *args, program=[script])
    header, *lines = [line.split() for line in out.splitlines()]
    assert header == ['user', 'item', 'title', 'rank', 'score']
    expected = run.recommender().recommend(['0007', '0003'], k=3)
    assert [line[0] for line in lines] == expected['user'].tolist()
    assert [line[1] for line in lines] == expected['item'].tolist()
    scores = [float(line[-1]) for line in lines]
    assert scores == pytest.approx(expected['score'].tolist(), abs=5e-5)
    assert [line[2] for line in lines if line[1] == 'sku-03'] in (
        [],
        ['black'],
    )


@pytest.mark.parametrize('suffix', ['csv', 'parquet'])
def test_recommend_to_everybody_into_a_file(run, call, tmp_path, suffix):
    path = tmp_path / f'out.{suffix}'
    out, _ = call('recommend', 'runs/shop', '--all', '--k', '4', '--out', path)
    assert '240 recommendations written' in out
    if suffix == 'csv':
        table = pd.read_csv(path, dtype={'user': str})
    else:
        table = pd.read_parquet(path)
    expected = run.recommender().recommend(k=4)
    for column in ('user', 'item', 'rank'):
        assert table[column].tolist() == expected[column].tolist()
    assert table['title'].notna().any()
    assert [path.name for path in tmp_path.iterdir()] == [path.name]


def test_recommend_by_history_among_candidates(run, call, tmp_path):
    (tmp_path / 'some.txt').write_text('sku-01\n\nsku-02\nsku-04\n')
    out, _ = call(
        *('recommend', 'runs/shop', '--history', 'sku-01'),
        *('--history', 'sku-06', '--candidates', tmp_path / 'some.txt'),
    )
    found = [line.split()[0] for line in out.splitlines()[1:]]
    expected = run.recommender().recommend_for(
        ['sku-01', 'sku-06'], candidates=['sku-01', 'sku-02', 'sku-04']
    )
    assert found == expected['item'].tolist()
    assert set(found) == {'sku-02', 'sku-04'}


def test_seen_items_on_request(run, call):
    args = ['recommend', 'runs/shop', '--user', '0007', '--k', '32']
    assert len(call(*args)[0].splitlines()) == 1 + 32 - 6
    out, _ = call(*args, '--include-seen')
    assert len(out.splitlines()) == 1 + 32


def test_generated_users_are_numbers(call, tmp_path):
    run = tmp_path / 'run'
    args = ['--model', 'VBPR', '--epochs', '1']
    call('train', 'demo', '--out', run, *args)
    out, _ = call('recommend', run, '--user', '7', '--k', '1')
    assert out.splitlines()[1].split()[0] == '7'
    _, err = call('recommend', run, '--user', 'eve', code=1)
    assert 'user ids are integers here, such as 0' in err


@pytest.mark.parametrize(
    ('args', 'code', 'message'),
    [
        ('runs/shop', 2, 'say for whom'),
        ('runs/shop --all --user 1', 2, 'say for whom'),
        ('runs/shop --user eve', 1, "unknown user ids: 'eve'"),
        ('runs/shop --history x', 1, "unknown item ids: 'x'"),
        ('runs/shop --all --out a.x', 2, 'ending .csv, .tsv or'),
        ('photos --all', 1, "has no 'run.json'"),
    ],
)
def test_bad_input(trained, refuses, args, code, message):
    refuses('recommend', args, code, message)


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        (b'sku-01\n\xe4\n', 'is no UTF-8 text'),
        (b'\n\n', 'names no item: one id per line'),
        (b'sku-01\nx\n', "unknown item ids: 'x'"),
    ],
)
def test_bad_candidates(trained, refuses, tmp_path, content, message):
    path = tmp_path / 'some.txt'
    path.write_bytes(content)
    refuses('recommend', f'runs/shop --all --candidates {path}', 1, message)
