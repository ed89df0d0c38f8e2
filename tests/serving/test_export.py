import json
import sys

import numpy as np
import pytest

from pyg_sea import Recommender
from pyg_sea.serving import _export

from .made import I, U, make_data, make_model, make_recommender


def test_round_trip(tmp_path, monkeypatch):
    parquet = pytest.importorskip('pyarrow.parquet')
    monkeypatch.setattr(_export, '_NUM_ROWS', 16)
    recommender = make_recommender()
    files = recommender.export(tmp_path / 'out')
    assert [file.name for file in files] == ['users.parquet', 'items.parquet']
    assert sorted((tmp_path / 'out').iterdir()) == sorted(files)
    rows = []
    for file, ids, x in zip(
        files,
        (recommender.user_ids, recommender.item_ids),
        (recommender.state.user, recommender.state.item),
    ):
        assert parquet.ParquetFile(file).num_row_groups == -(-len(ids) // 16)
        table = parquet.read_table(file)
        assert table['id'].to_pylist() == ids.tolist()
        assert str(table.schema.field('vector').type) == (
            f'fixed_size_list<element: float>[{x.size(1)}]'
        )
        vectors = np.array(table['vector'].to_pylist(), dtype=np.float32)
        np.testing.assert_array_equal(vectors, x.numpy())
        rows.append(vectors)
        about = table.schema.metadata
        assert about[b'metric'] == b'inner product'
        assert ['image', 'generic', 0, 4] in json.loads(about[b'blocks'])
    assert rows[0].shape[0] == U
    assert rows[1].shape[0] == I
    found = recommender.recommend('user 4', 1, exclude_seen=False)
    best = int((rows[1] @ rows[0][4]).argmax())
    assert found['item'].tolist() == [1000 + best]


def test_an_interrupted_export_leaves_nothing(tmp_path, monkeypatch):
    arrow = pytest.importorskip('pyarrow')

    def fail(*args, **kwargs):
        raise OSError('disk full')

    monkeypatch.setattr(arrow, 'table', fail)
    with pytest.raises(OSError, match='disk full'):
        make_recommender().export(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_ids_of_several_types(tmp_path):
    pytest.importorskip('pyarrow')
    data = make_data()
    ids = ['a', *range(1, I)]
    mixed = Recommender.from_model(make_model(data), data, item_ids=ids)
    with pytest.raises(TypeError, match=r'item ids of one type.*mixed'):
        mixed.export(tmp_path)


def test_without_pyarrow(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'pyarrow', None)
    with pytest.raises(ImportError, match=r'pyg_sea\[export\]'):
        make_recommender().export(tmp_path)
