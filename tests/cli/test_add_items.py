import shutil

import numpy as np
import pandas as pd
import pytest

from pyg_sea import Recommender
from pyg_sea.datasets import MMRecDataset
from pyg_sea.runs import Run

from .made import write_items


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
    out, err = call('add-items', tmp_path / 'run', *args, code=1)
    assert out == ''  # Nothing was encoded.
    assert "'add_items'" in err
    assert 'SEA' in err
    out, _ = call('explain', tmp_path / 'run', '0007', 'sku-01')
    assert 'because of' in out
    assert 'nan' not in out


def test_other_folders_are_refused_before_anything_is_encoded(added, call):
    args = ['--items', 'new.csv', '--out', 'data/shop']
    out, err = call('add-items', 'runs/shop', *args, code=1)
    assert out == ''
    assert "not written by 'pyg-sea add-items'" in err


@pytest.mark.parametrize(
    ('args', 'message'),
    [
        ('runs/shop --items items.csv --out runs/shop', 'choose'),
        ('runs/more --items new.csv --out x', 'nothing to add'),
        (
            'runs/shop --items new.csv --images text=photos --out x',
            'made as those of training were',
        ),
        (
            'runs/more/recommender --items new.csv --out x',
            'nothing is known',
        ),
    ],
)
def test_bad_input(added, refuses, args, message):
    refuses('add-items', args, 1, message)


def test_a_folder_that_only_looks_like_ours_is_left_alone(
    added, call, tmp_path
):
    mine = tmp_path / 'items' / 'titles.csv'
    mine.parent.mkdir()
    mine.write_text('my own')
    args = ['add-items', 'runs/shop', '--items', 'new.csv', '--out']
    call(*args, tmp_path / 'out')
    _, err = call(*args, tmp_path, code=1)
    assert "not written by 'pyg-sea add-items'" in err
    assert mine.read_text() == 'my own'
    # What it wrote itself, it writes again.
    out, _ = call(*args, tmp_path / 'out')
    assert '1 item added' in out


def test_titles_come_from_the_column_of_prepare(shop, call, tmp_path):
    items = pd.read_csv(shop / 'items.csv').assign(label='one')
    items.to_csv(tmp_path / 'items.csv', index=False)
    call(
        *('prepare', '--interactions', 'orders.csv', '--text', 'text=title'),
        *('--items', tmp_path / 'items.csv', '--title', 'label'),
        *('--text-model', 'models/text', '--out', tmp_path / 'in'),
    )
    call('train', tmp_path / 'in', '--epochs', '1', '--out', tmp_path / 'run')
    args = ['add-items', tmp_path / 'run', '--items', tmp_path / 'new.csv']

    def title(*more, **columns):
        new = pd.DataFrame({'sku': ['z'], 'title': ['red cup'], **columns})
        new.to_csv(tmp_path / 'new.csv', index=False)
        call(*args, *more, '--out', tmp_path / 'out')
        path = tmp_path / 'out' / 'items' / 'titles.csv'
        return pd.read_csv(path, index_col='item')['title']['z']

    assert title(label=['two']) == 'two'
    assert title('--title', 'title', label=['two']) == 'red cup'
    # It has to be called something.
    assert title() == 'red cup'
