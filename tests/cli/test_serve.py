import shutil
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from pyg_sea import Recommender
from pyg_sea.datasets import MMRecDataset
from pyg_sea.evaluate import evaluate
from pyg_sea.recommend import EmbeddingScorer
from pyg_sea.runs import Run
from pyg_sea.transforms import model_inputs

from .made import write_items


@pytest.fixture(scope='session')
def run(shop, trained) -> Run:
    return Run.open(shop / 'runs' / 'shop')


@pytest.fixture(scope='session')
def added(run, process) -> str:
    """What `add-items` said; it wrote `runs/more`."""
    args = ['--items', 'new.csv', '--out', 'runs/more']
    return process('add-items', 'runs/shop', *args)[0]


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


def test_new_items_are_placed_as_the_recommender_would(run, added, shop):
    assert '1 of 2 items there already: left as they are' in added
    assert 'text: 1 of 1 item have features' in added
    assert '1 item added, 33 in all' in added
    more = Recommender.load(shop / 'runs' / 'more' / 'recommender')
    assert more.item_ids[-1] == 'sku-90'

    # The blue lamp has the title of another one, and a photo of its own. The
    # data set scales the features of both as it did in training.
    folder = shop / 'data' / 'with_lamp'
    shutil.copytree(shop / 'data' / 'shop', folder)
    data = MMRecDataset(folder, 'shop', normalize='standard')[0]['item']
    twin = data.external_id.index('sku-30')
    raw = np.load(folder / 'text_feat.npy')
    scaled = run_catalogue(shop).scaled('text', raw)
    there = data.x_text.any(dim=1).numpy()
    assert np.allclose(scaled[there], data.x_text.numpy()[there], atol=1e-6)
    expected = run.recommender().add_items(
        {'text': scaled[[twin]], 'image': photo_of_lamp(shop)}, ['sku-90']
    )
    users = ['0000', '0007']
    assert more.score(users, ['sku-90'] * 2) == pytest.approx(
        expected.score(users, ['sku-90'] * 2), abs=1e-5
    )


def run_catalogue(shop):
    from pyg_sea.runs._catalogue import Catalogue

    return Catalogue.load(shop / 'runs' / 'shop' / 'items')


def photo_of_lamp(shop):
    from pyg_sea.encode import encode_images

    path = shop / 'lamp.npy'
    [photo] = (shop / 'photos').glob('sku-90.*')
    encode_images([photo], shop / 'models' / 'image', path, progress=False)
    return run_catalogue(shop).scaled('image', np.load(path))


def test_new_items_are_served(added, call):
    out, _ = call('recommend', 'runs/more', '--all', '--k', '33')
    assert 'sku-90  blue lamp' in out
    out, _ = call('explain', 'runs/more', '0000', 'sku-90')
    assert out.startswith('sku-90 (blue lamp) for 0000')
    out, _ = call('recommend', 'runs/more/recommender', '--user', '0000')
    assert 'title' not in out


def test_new_items_more_than_once(added, call, shop, tmp_path):
    np.save(tmp_path / 'x.npy', np.random.default_rng(1).normal(size=(2, 8)))
    write_items(tmp_path / 'two.csv', {'a': 'red jug', 'b': ''})
    args = ['add-items', 'runs/more', '--items', tmp_path / 'two.csv']
    out, _ = call(*args, '--out', tmp_path / 'out')
    assert "no file in '" in out
    assert 'new items lack it' in out
    assert '1 item left out, without features, such as b' in out
    assert '1 item added, 34 in all' in out
    # Vectors of the right width, in place of photos.
    vectors = ['--features', f'image={tmp_path / "x.npy"}']
    out, _ = call(*args, *vectors, '--out', tmp_path / 'out')
    assert '2 items added, 35 in all' in out


@pytest.mark.parametrize('normalize', ['l2', 'none'])
def test_new_vectors_are_scaled_as_in_training(
    shop, call, tmp_path, normalize
):
    items = pd.read_csv(shop / 'items.csv')
    x = np.random.default_rng(2).normal(size=(len(items), 4))
    np.save(tmp_path / 'x.npy', x)
    call(
        *('prepare', '--interactions', 'orders.csv', '--items', 'items.csv'),
        *('--features', f'v={tmp_path / "x.npy"}', '--out', tmp_path / 'in'),
    )
    call(
        *('train', tmp_path / 'in', '--out', tmp_path / 'run'),
        *('--epochs', '1', '--normalize', normalize),
    )
    write_items(tmp_path / 'new.csv', {'z': 'twin of the first'})
    np.save(tmp_path / 'new.npy', x[:1] * (3 if normalize == 'l2' else 1))
    args = ['add-items', tmp_path / 'run', '--items', tmp_path / 'new.csv']
    out, _ = call(
        *(*args, '--features', f'v={tmp_path / "new.npy"}'),
        *('--out', tmp_path / 'out'),
    )
    assert '1 item added' in out
    recommender = Run.open(tmp_path / 'run').recommender()
    row = x[:1] / (np.linalg.norm(x[:1]) if normalize == 'l2' else 1)
    expected = recommender.add_items({'v': row}, ['z']).score(['0000'], ['z'])
    found = Recommender.load(tmp_path / 'out' / 'recommender')
    assert found.score(['0000'], ['z']) == pytest.approx(expected, abs=1e-5)
    # Without vectors there is nothing to place an item by.
    _, err = call(*args, '--out', tmp_path / 'no', code=1)
    assert 'none of the new items has features' in err


def test_models_that_cannot_take_new_items(call, prepared, tmp_path):
    call(
        *('train', 'data/shop', '--model', 'VBPR', '--epochs', '1'),
        *('--out', tmp_path / 'run'),
    )
    args = ['--items', 'new.csv', '--out', tmp_path / 'out']
    _, err = call('add-items', tmp_path / 'run', *args, code=1)
    assert "'add_items'" in err
    assert 'SEA' in err
    out, _ = call('explain', tmp_path / 'run', '0007', 'sku-01')
    assert 'because of' in out
    assert 'nan' not in out


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
