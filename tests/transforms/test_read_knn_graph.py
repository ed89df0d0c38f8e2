import numpy as np
import pytest

from pyg_sea.transforms import read_knn_graph


@pytest.mark.parametrize(
    ('fields', 'message'),
    [
        ({'row': [0], 'col': [0]}, "needs the fields 'row', 'col' and 'n'"),
        ({'row': [0], 'col': [2], 'n': 2}, r'items in \[0, 2\)'),
        ({'row': [-1], 'col': [0], 'n': 2}, 'got -1 to 0'),
        ({'row': [0.5], 'col': [0.5], 'n': 2}, 'lists of integers'),
        ({'row': [0, 1], 'col': [0], 'n': 2}, 'no readable .npz'),
        ({'row': [0], 'col': [0], 'n': [2, 2]}, 'no readable .npz'),
        ({'row': [None], 'col': [0], 'n': 2}, 'no readable .npz'),
    ],
)
def test_refuses_graph_files(tmp_path, fields, message):
    path = tmp_path / 'graph.npz'
    np.savez(path, **fields)
    with pytest.raises(ValueError, match=message):
        read_knn_graph(path)


def test_refuses_damaged_graph_files(tmp_path):
    path = tmp_path / 'graph.npz'
    np.savez(path, row=[0], col=[0], n=1)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(ValueError, match=r'no readable .npz'):
        read_knn_graph(path)
    with pytest.raises(FileNotFoundError):
        read_knn_graph(tmp_path / 'nothing.npz')
