import json
import sys

import numpy as np
import pandas as pd
import pytest
import torch

from pyg_sea import Recommender
from pyg_sea.serving import _storage

from .made import U, make_data, make_graph, make_model, make_recommender

safetensors = pytest.importorskip('safetensors.torch')
MANIFEST, TENSORS = 'recommender.json', 'recommender.safetensors'


def new_item(recommender):
    x = {'image': np.full((1, 9), 0.1), 'text': np.full((1, 7), -0.2)}
    return recommender.add_items(x, [77])


@pytest.mark.parametrize('mode', ['slice', 'linear'])
def test_loaded_is_bit_identical(tmp_path, mode):
    recommender = make_recommender(3, mode=mode)
    recommender.save(tmp_path / 'saved')
    assert sorted(p.name for p in tmp_path.iterdir()) == ['saved']
    assert sorted(p.name for p in (tmp_path / 'saved').iterdir()) == sorted(
        [MANIFEST, TENSORS]
    )
    again = Recommender.load(tmp_path / 'saved')
    assert repr(again) == repr(recommender)
    assert again.blocks == recommender.blocks
    tables = [
        lambda r: r.recommend(k=7),
        lambda r: r.recommend_for([1003, 1004]),
        lambda r: r.similar_items([1003], 5, 'unique', 'audio.v1'),
        lambda r: r.explain('user 3', 1005).because,
        lambda r: r.explain('user 3', 1005).contributions,
        lambda r: r.add_interactions(
            pd.DataFrame({'user': ['new'], 'item': [1004]})
        ).recommend('new'),
        lambda r: r.add_items({'audio.v1': [[0.3] * 5]}, [77]).recommend(),
    ]
    for table in tables:
        pd.testing.assert_frame_equal(
            table(again), table(recommender), check_exact=True
        )
    again.save(tmp_path / 'again')
    for name in (MANIFEST, TENSORS):
        first, second = (
            (tmp_path / folder / name).read_bytes()
            for folder in ('saved', 'again')
        )
        assert first == second


@pytest.mark.parametrize(
    'ids',
    [
        [f'ä {i}' for i in range(U)],
        [''] + [f'{i}\n' for i in range(1, U)],
        np.arange(U, dtype=np.int32) - 7,
        np.arange(U, dtype=np.uint64) + np.uint64(2**63),
        torch.arange(U) + 2**40,
        np.array([f'n{i}' for i in range(U)], dtype=object),
        pd.Series([f's{i}' for i in range(U)]),
    ],
)
def test_ids_keep_value_and_type(tmp_path, ids):
    data = make_data()
    recommender = Recommender.from_model(make_model(data), data, ids)
    recommender.save(tmp_path / 'saved')
    again = Recommender.load(tmp_path / 'saved')
    assert again.user_ids.dtype == recommender.user_ids.dtype
    assert again.user_ids.tolist() == recommender.user_ids.tolist()
    assert again.user_ids.tolist() == list(
        ids.tolist() if hasattr(ids, 'tolist') else ids
    )
    first = recommender.user_ids[0]
    assert again.recommend(first, 2)['user'].tolist() == [first] * 2


def test_ids_that_cannot_be_saved(tmp_path):
    data = make_data()
    ids = [(i, 'a') for i in range(U)]
    recommender = Recommender.from_model(make_model(data), data, ids)
    assert (
        recommender.recommend([(3, 'a')], 2)['user'].tolist() == [(3, 'a')] * 2
    )
    with pytest.raises(TypeError, match='user ids that are integers or str'):
        recommender.save(tmp_path / 'saved')
    assert list(tmp_path.iterdir()) == []


def test_saving_replaces(tmp_path):
    first = make_recommender()
    first.save(tmp_path / 'saved')
    second = new_item(first)
    second.save(tmp_path / 'saved')
    assert repr(Recommender.load(tmp_path / 'saved')) == repr(second)
    assert [p.name for p in tmp_path.iterdir()] == ['saved']


def test_an_interrupted_save_leaves_the_old_one(tmp_path, monkeypatch):
    first = make_recommender()
    first.save(tmp_path / 'saved')

    def fail(*args):
        raise OSError('disk full')

    monkeypatch.setattr(_storage, '_describe', fail)
    with pytest.raises(OSError, match='disk full'):
        new_item(first).save(tmp_path / 'saved')
    monkeypatch.undo()
    assert repr(Recommender.load(tmp_path / 'saved')) == repr(first)
    assert [p.name for p in tmp_path.iterdir()] == ['saved']


def test_other_folders_are_left_alone(tmp_path):
    (tmp_path / 'thesis').mkdir()
    (tmp_path / 'thesis' / 'final.tex').write_text('x')
    (tmp_path / 'file').write_text('x')
    for name in ('thesis', 'file'):
        with pytest.raises(FileExistsError, match='no saved recommender'):
            make_recommender().save(tmp_path / name)
    assert (tmp_path / 'thesis' / 'final.tex').read_text() == 'x'
    (tmp_path / 'empty').mkdir()
    make_recommender().save(tmp_path / 'empty')
    Recommender.load(tmp_path / 'empty')


def edit(file, old, new):
    content = file.read_bytes()
    assert content.count(old) >= 1
    file.write_bytes(content.replace(old, new, 1))


def newer(folder):
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest['format_version'], manifest['pyg_sea'] = 2, '9.0.0'
    (folder / MANIFEST).write_text(json.dumps(manifest))


def flip(folder):
    content = bytearray((folder / TENSORS).read_bytes())
    content[-5] ^= 1
    (folder / TENSORS).write_bytes(content)


def cut(name, size):
    def run(folder):
        file = folder / name
        file.write_bytes(file.read_bytes()[:size])

    return run


@pytest.mark.parametrize(
    ('damage', 'error', 'match'),
    [
        (cut(TENSORS, -1), ValueError, 'tensors. is cut short.* bytes'),
        (cut(TENSORS, 0), ValueError, 'cut short or was changed'),
        (cut(MANIFEST, -9), ValueError, 'json. is cut short or was changed'),
        (cut(MANIFEST, 0), ValueError, 'cut short or was changed'),
        (flip, ValueError, 'safetensors. was changed after'),
        (
            lambda f: edit(f / MANIFEST, b'generic', b'unknown'),
            ValueError,
            'json. was changed after',
        ),
        (
            lambda f: edit(f / MANIFEST, b'"sha256"', b'"sha255"'),
            ValueError,
            'json. was changed after',
        ),
        (
            lambda f: (f / MANIFEST).write_text('{"a": 1}'),
            ValueError,
            'not written by pyg_sea',
        ),
        (
            lambda f: (f / MANIFEST).write_text('[1]'),
            ValueError,
            'not written by pyg_sea',
        ),
        (
            lambda f: (f / MANIFEST).write_bytes(b'\xff\xfe'),
            ValueError,
            'cut short or was changed',
        ),
        (newer, ValueError, r'format 2, written by pyg_sea 9\.0\.0.*format 1'),
        (
            lambda f: (f / TENSORS).unlink(),
            FileNotFoundError,
            'lacks .recommender.safetensors',
        ),
        (
            lambda f: (f / MANIFEST).unlink(),
            FileNotFoundError,
            'is no saved recommender',
        ),
    ],
)
def test_damage_is_found(tmp_path, damage, error, match):
    folder = tmp_path / 'saved'
    make_recommender().save(folder)
    damage(folder)
    with pytest.raises(error, match=match):
        Recommender.load(folder)


def test_foreign_folders(tmp_path):
    with pytest.raises(FileNotFoundError, match='no saved recommender'):
        Recommender.load(tmp_path)
    with pytest.raises(FileNotFoundError, match='no saved recommender'):
        Recommender.load(tmp_path / 'nothing')


def test_others_can_read_it(tmp_path):
    recommender = make_recommender()
    recommender.save(tmp_path / 'saved')
    stored = safetensors.load_file(tmp_path / 'saved' / TENSORS)
    assert stored['user'].equal(recommender.state.user)
    assert stored['items.id'].tolist() == recommender.item_ids.tolist()


def test_size_is_as_documented(tmp_path):
    data = make_data()
    recommender = Recommender.from_model(
        make_model(data, hidden_channels=64, id_channels=128),
        data,
        graph=make_graph(),
    )
    state = recommender.state
    dim, num = state.num_columns, len(recommender.item_ids)
    rows = [state.user, state.item, state.terms.own, state.terms.message]
    size = sum(x.numel() * x.element_size() for x in rows)
    assert dim == 256
    # And a column of biases.
    assert size == 4 * (dim * (U + 3 * num) + U + num)
    kept = sum(x.numel() * x.element_size() for x in state.features.values())
    assert kept == 2 * num * (9 + 7)


def test_without_safetensors(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'safetensors', None)
    monkeypatch.setitem(sys.modules, 'safetensors.torch', None)
    with pytest.raises(ImportError, match=r'pyg_sea\[hub\]'):
        make_recommender().save(tmp_path / 'saved')
    with pytest.raises(ImportError, match=r'pyg_sea\[hub\]'):
        Recommender.load(tmp_path / 'saved')
