import json
import shutil

import numpy as np
import pandas as pd
import pytest
import torch

from pyg_sea.datasets import MMRecDataset, from_pandas
from pyg_sea.encode import encode_text
from pyg_sea.encode._store import RowStore
from pyg_sea.runs import make_settings

from .made import NUM_ITEMS, NUM_USERS, edges, orders

TABLES = ['--interactions', 'orders.csv', '--items', 'items.csv']


def assert_same(found, expected):
    assert edges(found) == edges(expected)
    for kind in ('user', 'item'):
        ids = [str(x) for x in expected[kind].external_id]
        assert found[kind].external_id == ids


def test_says_what_it_took(prepared):
    assert "user of orders.csv: the column 'customer_id'" in prepared
    assert "item of orders.csv: the column 'sku'" in prepared
    assert "id of items.csv: the column 'sku'" in prepared
    assert '60 users, 32 items, 360 train, 60 validation, 60' in prepared
    assert '1 item of the table left out, without interactions' in prepared
    assert 'image: 31 of 32 items have features, not sku-03' in prepared
    assert 'text: 31 of 32 items have features, not sku-05' in prepared
    assert 'next: pyg-sea train data/shop' in prepared


def test_folder_is_what_from_pandas_would_make(shop, prepared):
    data = MMRecDataset(shop / 'data' / 'shop')[0]
    none = pd.DataFrame({0: 1.0}, index=orders(shop)['sku'].unique())
    expected = from_pandas(
        orders(shop), {'none': none}, user='customer_id', item='sku'
    )
    assert_same(data, expected)
    assert data['user'].external_id[7] == '0007'
    assert data['user'].num_nodes == NUM_USERS
    assert data['item'].num_nodes == NUM_ITEMS


def test_features_are_those_of_the_encoders(shop, prepared, tmp_path):
    data = MMRecDataset(shop / 'data' / 'shop')[0]['item']
    titles = pd.read_csv(shop / 'items.csv', index_col='sku')['title']
    texts = [titles[item] for item in data.external_id]
    done = encode_text(
        texts,
        shop / 'models' / 'text',
        tmp_path / 'x.npy',
        cache_dir=tmp_path,
        progress=False,
    )
    expected = np.nan_to_num(np.load(done.path))
    assert np.array_equal(data.x_text.numpy(), expected)
    assert not data.x_text[5].any()
    lacks = ~data.x_image.any(dim=1)
    assert lacks.nonzero().flatten().tolist() == [3]


def test_keeps_titles_and_how_it_was_done(shop, prepared):
    folder = shop / 'data' / 'shop'
    titles = pd.read_csv(folder / 'titles.csv', index_col='item')['title']
    assert titles['sku-01'] == 'green cup'
    assert len(titles) == NUM_ITEMS - 1
    content = json.loads((folder / 'prepare.json').read_text())
    assert content['modalities'] == {
        'image': {
            'kind': 'images',
            'source': [str(shop / 'photos')],
            'model': str(shop / 'models' / 'image'),
        },
        'text': {
            'kind': 'text',
            'source': ['title'],
            'model': str(shop / 'models' / 'text'),
        },
    }


@pytest.mark.parametrize('suffix', ['parquet', 'tsv', 'csv'])
def test_other_tables_splits_and_weights(shop, call, tmp_path, suffix):
    table = orders(shop)
    table['date'] = pd.to_datetime(table['date'])
    table['customer_id'] = table['customer_id'].astype(int)
    items = pd.read_csv(shop / 'items.csv').rename(columns={'sku': 'number'})
    items['path'] = [f'photos/{i}.webp' for i in items['number']]
    for name, frame in (('orders', table), ('goods', items)):
        path = tmp_path / f'{name}.{suffix}'
        if suffix == 'parquet':
            frame.to_parquet(path)
        else:
            sep = {'tsv': '\t', 'csv': ';'}[suffix]
            frame.to_csv(path, sep=sep, index=False)
    shutil.copytree(shop / 'photos', tmp_path / 'photos')
    out, _ = call(
        'prepare',
        *('--interactions', tmp_path / f'orders.{suffix}'),
        *('--items', tmp_path / f'goods.{suffix}', '--item-id', 'number'),
        *('--weight', 'pieces', '--split', 'leave_last_out'),
        *('--images', 'photo=path', '--image-model', 'models/image'),
        *('--out', tmp_path / 'out'),
    )
    assert f"time of orders.{suffix}: the column 'date'" in out
    # Every second photo is no .webp.
    assert 'photo: 16 of 32 items have features' in out
    found = MMRecDataset(
        tmp_path / 'out',
        modalities={'photo': 'photo_feat.npy'},
        weight='weight',
    )[0]
    table['customer_id'] = table['customer_id'].astype(str)
    none = pd.DataFrame({0: 1.0}, index=table['sku'].unique())
    expected = from_pandas(
        table,
        {'none': none},
        'customer_id',
        'sku',
        'date',
        'pieces',
        'leave_last_out',
    )
    assert_same(found, expected)
    weights = [
        data['user', 'buys', 'item'].edge_weight for data in (found, expected)
    ]
    assert torch.equal(*weights)
    # Training takes them up by itself.
    assert make_settings(tmp_path / 'out')['data']['weight'] == 'weight'


def test_ready_made_vectors(shop, call, tmp_path):
    items = pd.read_csv(shop / 'items.csv')
    x = np.random.default_rng(0).normal(size=(len(items), 4))
    x[2] = np.nan
    np.save(tmp_path / 'rows.npy', x)
    table = pd.DataFrame(x, columns=list('abcd')).assign(sku=items['sku'])
    table.iloc[::-1].drop(index=4).to_csv(tmp_path / 'x.csv', index=False)
    out, _ = call(
        *('prepare', *TABLES, '--out', tmp_path / 'out', '--k-core', '2'),
        *('--features', f'rows={tmp_path / "rows.npy"}'),
        *('--features', f'csv={tmp_path / "x.csv"}'),
    )
    assert 'rows: 31 of 32 items have features' in out
    assert 'csv: 30 of 32 items have features' in out
    expected = x[:NUM_ITEMS].astype(np.float32)
    rows = np.load(tmp_path / 'out' / 'rows_feat.npy')
    assert np.array_equal(rows, expected, equal_nan=True)
    expected[4] = np.nan
    csv = np.load(tmp_path / 'out' / 'csv_feat.npy')
    assert np.allclose(csv, expected, equal_nan=True)
    # The ids need not come first, nor be called as those of the items.
    table = table.rename(columns={'sku': 'ID'})[[*'abcd', 'ID']]
    table.drop(index=4).to_csv(tmp_path / 'x.csv', index=False)
    call(
        *('prepare', *TABLES, '--out', tmp_path / 'out'),
        *('--features', f'csv={tmp_path / "x.csv"}'),
    )
    csv = np.load(tmp_path / 'out' / 'csv_feat.npy')
    assert np.allclose(csv, expected, equal_nan=True)


def test_again_takes_titles_and_removes_what_is_gone(shop, call, tmp_path):
    def prepare(*args):
        return call('prepare', *TABLES, '--out', tmp_path / 'out', *args)[0]

    x = np.ones((NUM_ITEMS + 1, 2))
    np.save(tmp_path / 'x.npy', x)
    prepare('--features', f'old={tmp_path / "x.npy"}')
    out = prepare('--text-model', 'models/text')
    assert "text of items: the column 'title'" in out
    names = {path.name for path in (tmp_path / 'out').iterdir()}
    assert names == {
        'out.inter',
        'text_feat.npy',
        'u_id_mapping.csv',
        'i_id_mapping.csv',
        'titles.csv',
        'prepare.json',
    }


def test_what_fails_half_way_is_not_read(shop, call, tmp_path, models):
    args = ['prepare', *TABLES, *models, '--out', tmp_path / 'out']
    call(*args)
    (tmp_path / 'empty').mkdir()
    _, err = call(*args, '--images', f'image={tmp_path / "empty"}', code=1)
    assert "no file in '" in err
    _, err = call('train', tmp_path / 'out', '--out', tmp_path / 'r', code=1)
    assert "needs to hold one .inter file (got []): 'pyg-sea prepare'" in err
    assert not (tmp_path / 'r').exists()


@pytest.mark.parametrize(
    ('args', 'code', 'message'),
    [
        ([], 2, "Missing option '--interactions'"),
        (['--interactions', 'no.csv'], 2, "File 'no.csv' does not exist"),
        ([*TABLES, '--user', 'x'], 1, "no column 'x' (columns: customer_id,"),
        ([*TABLES, '--item-id', 'x'], 1, 'one of them with --item-id'),
        ([*TABLES, '--title', 'x'], 1, 'one of them with --title'),
        ([*TABLES, '--text', 'text'], 2, 'NAME=COLUMN[,COLUMN] is needed (g'),
        ([*TABLES, '--text', 'text=x'], 1, "no column 'x' for texts"),
        ([*TABLES, '--images', 'i=x'], 1, 'neither a column of the items'),
        ([*TABLES, '--features', 'x=no.npy'], 1, "'no.npy' does not exist"),
        ([*TABLES, '--features', 'x=new.csv'], 1, 'needs numbers in all'),
        ([*TABLES, '--text', 'a=title', '--images', 'a=photos'], 2, 'twice'),
        ([*TABLES, '--text', 'a/b=title'], 2, 'letters, digits and _'),
        ([*TABLES, '--text', '1a=title'], 2, "no digit (got '1a')"),
        ([*TABLES, '--weight', 'date'], 1, 'need to be numbers'),
        ([*TABLES, '--split', 'time', '--time', 'sku'], 1, 'numbers or dates'),
        ([*TABLES, '--k-core', '99'], 1, 'lower it'),
        ([*TABLES, '--text-model', 'photos'], 1, "'model' needs to be a"),
    ],
)
def test_bad_input(call, tmp_path, args, code, message):
    _, err = call('prepare', *args, '--out', tmp_path / 'out', code=code)
    last = err.splitlines()[-1]
    assert last.startswith('Error: ')
    assert message in last
    assert not list(tmp_path.glob('out/*.inter'))


def test_bad_modalities(shop, call, tmp_path):
    def fails(option, source):
        args = [*TABLES, option, f'm={source}', '--out', tmp_path / 'out']
        return call('prepare', *args, code=1)[1]

    def write(name, text):
        (tmp_path / name).write_text(text)
        return tmp_path / name

    np.save(tmp_path / 'x.npy', np.ones((3, 2)))
    err = fails('--features', tmp_path / 'x.npy')
    assert 'needs one row for each of the 33 items' in err
    path = write('twice.csv', 'sku,a\nsku-01,1\nsku-01,2\n')
    assert "repeats the item 'sku-01'" in fails('--features', path)
    path = write('others.csv', 'sku,a\nx,1\n')
    assert 'has no vector of any item' in fails('--features', path)
    path = write('header.csv', 'sku,a,b\n')
    assert '(got 0 rows with 2 numbers)' in fails('--features', path)
    path = write('ids.csv', 'sku\nsku-01\n')
    assert '(got 1 rows with 0 numbers)' in fails('--features', path)
    for wrong in ('inf', '1e39', ''):
        path = write('wrong.csv', f'sku,a,b\nsku-01,{wrong},1\nsku-02,1,2\n')
        assert 'in the vectors of 1 item, such as sku-01. Repair' in fails(
            '--features', path
        )
    path = write('no.parquet', 'sku,a\nx,1\n')
    assert 'is no Parquet file' in fails('--features', path)
    (tmp_path / 'two').mkdir()
    for suffix in ('png', 'jpg'):
        write(f'two/sku-01.{suffix}', '')
    assert "'sku-01' has several images, [" in fails(
        '--images', tmp_path / 'two'
    )
    assert 'no item has an image: there is no file such as' in fails(
        '--images', 'title'
    )
    table = pd.read_csv(shop / 'items.csv').assign(note='')
    table.to_csv(tmp_path / 'items.csv', index=False)
    _, err = call(
        *('prepare', '--interactions', 'orders.csv', '--text', 'm=note'),
        *('--items', tmp_path / 'items.csv', '--out', tmp_path / 'out'),
        code=1,
    )
    assert "no item has a text in ['note']" in err


def test_next_command_can_be_pasted(call, tmp_path):
    np.save(tmp_path / 'x.npy', np.ones((NUM_ITEMS + 1, 2)))
    features = ['--features', f'v={tmp_path / "x.npy"}']
    folder = tmp_path / 'my shop'
    out, _ = call('prepare', *TABLES, *features, '--out', folder)
    command = out.splitlines()[-1].partition('next: ')[2]
    assert command == f"pyg-sea train '{folder}' --out runs/..."


def test_other_folders_are_left_alone(shop, call, tmp_path):
    (tmp_path / 'letter.txt').write_text('Dear')
    _, err = call('prepare', *TABLES, '--out', tmp_path, code=1)
    assert 'was not prepared by pyg_sea' in err
    assert [path.name for path in tmp_path.iterdir()] == ['letter.txt']


def assert_completes(shop, call, err, out, args):
    """See that nothing half-written can be read, and prepare again."""
    [message] = [x for x in err.splitlines() if x.startswith('Error')]
    command = f'pyg-sea {" ".join(args)}'
    how = f'What is encoded is kept, go on with: {command}'
    assert message == f'Error: interrupted. {how}'
    names = [path.name for path in out.glob('*')]
    assert not [x for x in names if x.startswith('.') or 'inter' in x]
    for path in out.glob('*.npy'):
        assert np.load(path).shape == (NUM_ITEMS, 8)
    _, err = call('train', out, '--out', out.parent / 'run', code=1)
    assert "'pyg-sea prepare' makes " in err
    call(*command.split()[1:])
    found, expected = (
        {path.name: path.read_bytes() for path in folder.iterdir()}
        for folder in (out, shop / 'data' / 'shop')
    )
    assert found == expected


def interrupted_args(models, out):
    modalities = ['--text', 'text=title', '--images', 'image=photos']
    return ['prepare', *TABLES, *modalities, *models, '--out', str(out)]


def test_interrupted_keeps_what_is_encoded(
    shop, prepared, models, interrupted, call, monkeypatch, tmp_path
):
    # Where nothing is known yet.
    monkeypatch.setenv('PYG_HOME', str(tmp_path / 'home'))
    out = tmp_path / 'shop'
    args = interrupted_args(models, out)
    _, err = interrupted('pyg_sea.encode._store:RowStore.append', 1, *args)
    assert [path.name for path in out.iterdir()] == ['prepare.json']

    added = []

    def append(self, contents, rows):
        added.append(len(contents))
        keep(self, contents, rows)

    keep = RowStore.append
    monkeypatch.setattr(RowStore, 'append', append)
    assert_completes(shop, call, err, out, args)
    # The titles. Photos were kept.
    assert added == [NUM_ITEMS - 1]


@pytest.mark.parametrize(
    ('where', 'number'),
    [
        ('pyg_sea.cli.prepare:read_items', 1),
        ('pyg_sea.runs._prepare:from_pandas', 1),
        ('pyg_sea.runs._prepare:write_json', 1),
        ('pyg_sea.runs._prepare:write_features', 1),
        # Of titles, users, items and interactions; not moved yet.
        ('pyg_sea.runs._tables:pd.DataFrame.to_csv', 1),
        ('pyg_sea.runs._tables:pd.DataFrame.to_csv', 4),
    ],
)
def test_interrupted_anywhere(
    shop, prepared, models, call, call_interrupted, tmp_path, where, number
):
    args = interrupted_args(models, tmp_path / 'shop')
    _, err = call_interrupted(where, number, *args)
    assert_completes(shop, call, err, tmp_path / 'shop', args)
