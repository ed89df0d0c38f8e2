import shutil
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch

from pyg_sea.evaluate import evaluate
from pyg_sea.recommend import EmbeddingScorer
from pyg_sea.transforms import model_inputs


def test_evaluate(run, process):
    args = ['--k', '3', '--metric', 'mrr', '--metric', 'recall']
    out, _ = process('evaluate', 'runs/shop', *args, '--split', 'val')
    data, model = run.data(), run.model()
    store = data['user', 'buys', 'item']
    with torch.no_grad():
        rows = model.get_embedding(**model_inputs(data)).split([60, 32])
    expected = evaluate(
        EmbeddingScorer(*rows),
        store.val_edge_index,
        store.edge_index,
        3,
        ['mrr', 'recall'],
    )
    lines = [line.split() for line in out.splitlines()]
    assert lines[0] == ['val', 'mrr@3', 'recall@3']
    assert [line[0] for line in lines[1:]] == ['popularity', 'content', 'SEA']
    shown = dict(zip(lines[0][1:], map(float, lines[3][1:])))
    assert shown == pytest.approx(expected, abs=5e-5)


def test_evaluate_gives_the_metrics_of_training(run, call):
    lines = call('evaluate', 'runs/shop')[0].splitlines()
    rows = {**run.metrics['baselines'], 'SEA': run.metrics['test']}
    for line, metrics in zip(lines[1:], rows.values(), strict=True):
        shown = [float(x) for x in line.split()[-4:]]
        assert shown == pytest.approx(list(metrics.values()), abs=5e-5)


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


def test_explain(run, process, shop):
    args = ['0007', 'sku-01', '--plot', 'why.png', '--k', '2']
    out, _ = process('explain', 'runs/shop', *args)
    why = run.recommender().explain('0007', 'sku-01')
    first = f'sku-01 (green cup) for 0007: score {why.score:.4f}'
    assert out.splitlines()[0] == first
    because = out.splitlines().index('because of (6 items of the user)')
    header, *items = [x.split() for x in out.splitlines()[because + 1 :]][:3]
    assert header == ['item', 'title', 'similarity', 'contribution']
    assert [row[0] for row in items] == why.because['item'].tolist()[:2]
    parts = [line.split() for line in out.splitlines()[3 : because - 1]]
    total = sum(float(row[-1]) for row in parts)
    assert total == pytest.approx(why.score, abs=1e-3)
    assert f'own vector adds {why.user_vector:.4f}' in out
    image = (shop / 'why.png').read_bytes()
    assert image.startswith(b'\x89PNG')


def test_report(run, process, shop):
    out, _ = process('report', 'runs/shop', '--out', 'report.html')
    assert out == f'written to {shop / "report.html"}\n'
    page = (shop / 'report.html').read_text(encoding='utf-8')
    assert '<h1>SEA on shop</h1>' in page
    assert 'green cup' in page
    for value in run.metrics['test'].values():
        assert f'{value:.4f}' in page
    # Counted as `train` does, which says it of this run.
    assert f'<dd>{run.metrics["best_epoch"] + 1}\n' in page


@pytest.mark.parametrize(
    ('args', 'code', 'message'),
    [
        ('evaluate nowhere', 1, "'pyg-sea train' makes one"),
        ('evaluate photos', 1, "has no 'run.json'"),
        ('evaluate runs/shop --metric x', 2, "'x' is not one of"),
        ('evaluate runs/shop --k 0', 2, '0 is not in the range'),
        ('recommend runs/shop', 2, 'say for whom'),
        ('recommend runs/shop --all --user 1', 2, 'say for whom'),
        ('recommend runs/shop --user eve', 1, "unknown user ids: 'eve'"),
        ('recommend runs/shop --history x', 1, "unknown item ids: 'x'"),
        ('recommend runs/shop --all --out a.x', 2, 'ending .csv, .tsv or'),
        ('recommend photos --all', 1, "has no 'run.json'"),
        ('explain runs/shop eve sku-01', 1, "unknown user ids: 'eve'"),
        ('explain runs/shop 0007 x', 1, "unknown item ids: 'x'"),
        ('explain runs/shop 0007 sku-01 --plot a.x', 2, 'ending .png, .pdf'),
        ('add-items runs/shop --items items.csv --out runs/shop', 1, 'choose'),
        ('report nowhere --out x', 1, "'pyg-sea train' makes one"),
        ('report runs/more --out x', 1, 'name the run behind it'),
        ('report runs/shop', 2, "Missing option '--out'"),
        ('add-items runs/more --items new.csv --out x', 1, 'nothing to add'),
        (
            'add-items runs/shop --items new.csv --images text=photos --out x',
            1,
            'made as those of training were',
        ),
        (
            'add-items runs/more/recommender --items new.csv --out x',
            1,
            'nothing is known',
        ),
    ],
)
def test_bad_input(added, call, shop, args, code, message):
    _, err = call(*args.split(), code=code)
    last = err.splitlines()[-1]
    assert last.startswith('Error: ')
    assert message in last
    assert not (shop / 'x').exists()


def test_generated_users_are_numbers(call, tmp_path):
    run = tmp_path / 'run'
    args = ['--model', 'VBPR', '--epochs', '1']
    call('train', 'demo', '--out', run, *args)
    out, _ = call('recommend', run, '--user', '7', '--k', '1')
    assert out.splitlines()[1].split()[0] == '7'
    _, err = call('recommend', run, '--user', 'eve', code=1)
    assert 'user ids are integers here, such as 0' in err
