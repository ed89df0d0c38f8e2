import pickle
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from torch_geometric.data import HeteroData

from pyg_sea.datasets import MMRecDataset

REAL = {
    'lfm2k': (
        ['all-MiniLM-L6-v2', 'vggish', 'whisper'],
        (1858, 1425, 44327, 4799, 7219),
    ),
    'tiktok': (['image_feat', 'audio_feat'], (9308, 6710, 59541, 3051, 6130)),
    'baby': (
        ['image_spectral128', 'text_spectral128'],
        (19445, 7050, 118551, 20559, 21682),
    ),
}
BUYS = ('user', 'buys', 'item')


@pytest.mark.parametrize('name', REAL)
@pytest.mark.filterwarnings('ignore:.*no train edge')
def test_real_folders_have_the_published_sizes(data_dir, name):
    files, sizes = REAL[name]
    dataset = MMRecDataset(data_dir, name, {m: f'{m}.npy' for m in files})
    data = dataset[0]
    store = data[BUYS]
    assert sizes == (
        data['user'].num_nodes,
        data['item'].num_nodes,
        store.edge_index.size(1),
        store.val_edge_index.size(1),
        store.test_edge_index.size(1),
    )
    assert data.validate(raise_on_error=True)
    assert data.node_types == ['user', 'item']
    assert list(data['item'].keys()) == ['num_nodes'] + [
        f'x_{m}' for m in files
    ]
    for m in files:
        expected = np.load(data_dir / name / f'{m}.npy').astype(np.float32)
        assert torch.equal(data['item'][f'x_{m}'], torch.tensor(expected))


def test_real_tiktok_reports_isolated_users_and_items(data_dir):
    files = {'image': 'image_feat.npy', 'audio': 'audio_feat.npy'}
    with pytest.warns(UserWarning, match='no train edge') as record:
        MMRecDataset(data_dir / 'tiktok', 'tiktok', files)
    first, second = (str(w.message) for w in record)
    assert first.startswith('10 of 9,308 users have no train edge (5 of them')
    assert '5 test edges' in first
    assert second.startswith('465 of 6,710 items have no train edge')


def test_real_rating_column_becomes_train_weights(data_dir):
    files = {'vggish': 'vggish.npy'}
    data = MMRecDataset(data_dir, 'lfm2k', files, weight='rating')[0]
    assert data[BUYS].edge_weight.shape == (44327,)
    assert data[BUYS].edge_weight.dtype == torch.float32


def test_behaves_like_a_dataset_and_never_writes(write_shop):
    root = write_shop()
    before = {p: p.stat().st_mtime_ns for p in root.rglob('*')}
    root.chmod(0o555)
    calls = []

    def mark(data: HeteroData) -> HeteroData:
        calls.append(1)
        data.mark = len(calls)
        return data

    dataset = MMRecDataset(root, 'shop', pre_transform=mark)
    root.chmod(0o755)
    assert {p: p.stat().st_mtime_ns for p in root.rglob('*')} == before
    assert (len(dataset), str(dataset)) == (1, 'MMRecDataset(shop)')
    assert isinstance(dataset[0], HeteroData)
    assert dataset[0].mark == dataset[0].mark == 1
    assert len(list(dataset)) == 1
    dataset = MMRecDataset(root, 'shop', transform=mark)
    assert dataset[0].mark < dataset[0].mark

    data = dataset[0]
    assert data[BUYS].edge_index.tolist() == [
        [0, 0, 1, 1, 2, 2, 2],
        [0, 1, 1, 3, 0, 3, 2],
    ]
    assert data[BUYS].val_edge_index.tolist() == [[0], [2]]
    assert data[BUYS].test_edge_index.tolist() == [[1], [2]]
    assert 'edge_weight' not in data[BUYS]
    assert 'external_id' not in data['user']


def test_finds_the_folder(write_shop):
    root = write_shop()
    names = {
        MMRecDataset(root).name,
        MMRecDataset(str(root), 'shop').name,
        MMRecDataset(root.parent, 'shop').name,
    }
    assert names == {'shop'}
    shutil.copy(root / 'shop.inter', root / 'other.inter')
    with pytest.raises(FileNotFoundError, match=r'needs to hold one \.inter'):
        MMRecDataset(root)
    with pytest.raises(FileNotFoundError, match=r"'other', 'shop'"):
        MMRecDataset(root, 'third')


def test_column_names_and_weights(write_shop, table):
    table = table.rename(
        columns={'userID': 'u', 'itemID': 'i', 'x_label': 'part'}
    )
    data = MMRecDataset(
        write_shop(table), user='u', item='i', label='part', weight='rating'
    )[0]
    assert data[BUYS].edge_weight.tolist() == [5, 3, 2, 5, 4, 4, 1]


def test_external_ids(write_shop):
    root = write_shop()
    (root / 'u_id_mapping.csv').write_text(
        'user_id\tuserID\nNA\t1\nA1\t0\n007\t2\n'
    )
    (root / 'i_id_mapping.csv').write_text(
        'asin\titemID\na\t0\nb\t1\nc\t2\nd\t3\n'
    )
    data = MMRecDataset(root)[0]
    assert data['user'].external_id == ['A1', 'NA', '007']
    assert data['item'].external_id == ['a', 'b', 'c', 'd']


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('asin,itemID\na,0\n', 'two tab-separated columns'),
        ('asin\titemID\na\t0\nb\t1\nc\t2\n', 'from 0 to 3 exactly once'),
        ('asin\titemID\na\t0\nb\t1\nc\t2\nd\tx\n', 'exactly once'),
        ('asin\titemID\na\t0\nb\t1\nb\t2\nd\t3\n', "external id 'b'"),
    ],
)
def test_damaged_id_maps(write_shop, text, message):
    root = write_shop()
    (root / 'i_id_mapping.csv').write_text(text)
    with pytest.raises(ValueError, match=message):
        MMRecDataset(root)


def _set(column: str, row: int, value: object):
    def change(table):
        table[column] = table[column].astype(object)
        table.loc[row, column] = value
        return table

    return change


@pytest.mark.parametrize(
    ('change', 'error', 'message'),
    [
        (lambda t: t.drop(columns='userID'), ValueError, "column 'userID'"),
        (lambda t: t.drop(columns='x_label'), ValueError, "argument 'label'"),
        (_set('itemID', 3, 1.5), TypeError, "'1.5' in line 5"),
        (_set('userID', 3, 'ann'), TypeError, "'ann' in line 5"),
        (_set('userID', 3, None), TypeError, 'needs integers'),
        (_set('itemID', 3, -1), ValueError, 'negative item ids .*line 5: -1'),
        (_set('userID', 0, -7), ValueError, 'negative user ids .*line 2: -7'),
        (_set('itemID', 3, 4), ValueError, 'item ids reach 4.*4 rows'),
        (_set('x_label', 4, 3), ValueError, r'needs 0 \(train\).*line 6'),
        (_set('x_label', 4, 'test'), TypeError, "'test' in line 6"),
        (_set('x_label', 2, 0), ValueError, 'the validation split is empty'),
        (_set('x_label', 4, 0), ValueError, 'the test split is empty'),
        (lambda t: t.assign(x_label=1), ValueError, 'train split is empty'),
        (lambda t: t.iloc[:0], ValueError, 'no interactions'),
        (_set('itemID', 1, 0), ValueError, r'user 0, item 0 in line 3'),
        (_set('itemID', 2, 0), ValueError, 'across splits'),
        (
            lambda t: t.assign(userID=t.userID * 2),
            ValueError,
            r'gaps .*only 3 users .*missing one is 1\)',
        ),
        (
            lambda t: t.assign(userID=t.userID + 1),
            ValueError,
            r'missing one is 0\).*from_pandas',
        ),
        (
            lambda t: t.assign(userID=t.userID + 2**40),
            ValueError,
            'gaps in its user ids',
        ),
    ],
)
def test_malformed_interactions(write_shop, table, change, error, message):
    root = write_shop(change(table))
    with pytest.raises(error, match=message):
        MMRecDataset(root)


@pytest.mark.parametrize(
    ('value', 'error', 'message'),
    [
        (-1, ValueError, 'positive .1 are not, the first is -1.0 in row 3'),
        (np.inf, ValueError, 'finite'),
        (np.nan, ValueError, 'finite'),
        ('good', TypeError, 'need to be numbers'),
    ],
)
def test_malformed_weights(write_shop, table, value, error, message):
    root = write_shop(_set('rating', 3, value)(table))
    with pytest.raises(error, match=message):
        MMRecDataset(root, weight='rating')
    with pytest.raises(ValueError, match="argument 'weight'"):
        MMRecDataset(root, weight='stars')


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        (b'', 'is no tab-separated table'),
        (b'userID\titemID\tx_label\n0\t0\t0\n0\t1\t0\t5\t6\n', 'tab-separ'),
        (b'userID,itemID,x_label\n0,0,0\n', "no column 'userID'"),
        (b'userID\titemID\tx_label\n0\t\xff\xfe\t0\n', 'is no UTF-8 text'),
    ],
)
def test_files_that_are_no_table(write_shop, content, message):
    root = write_shop()
    (root / 'shop.inter').write_bytes(content)
    with pytest.raises(ValueError, match=message):
        MMRecDataset(root)


class _Bomb:
    def __reduce__(self):
        return (pytest.fail, ('a pickle was loaded',))


def test_pickled_features_are_never_loaded(write_shop):
    root = write_shop()
    np.save(root / 'image_feat.npy', np.array([_Bomb()], dtype=object))
    with pytest.raises(ValueError, match='pickles are never loaded'):
        MMRecDataset(root)
    (root / 'image_feat.npy').write_bytes(pickle.dumps(_Bomb()))
    with pytest.raises(ValueError, match='pickles are never loaded'):
        MMRecDataset(root)


@pytest.mark.parametrize('size', [0, 5, 40, -8])
def test_truncated_features(write_shop, size):
    root = write_shop()
    path = root / 'image_feat.npy'
    content = path.read_bytes()
    path.write_bytes(content[:size])
    with pytest.raises(ValueError, match=r'image_feat\.npy'):
        MMRecDataset(root)
    path.write_bytes(content[:-8])
    with pytest.raises(ValueError, match='cut short or damaged'):
        MMRecDataset(root)


def test_feature_files_that_are_missing_or_archives(write_shop):
    root = write_shop()
    with pytest.raises(FileNotFoundError, match=r"\['image_feat.npy', 'tex"):
        MMRecDataset(root, modalities={'audio': 'audio_feat.npy'})
    np.savez(root / 'image_feat.npz', x=np.ones((4, 2)))
    with pytest.raises(ValueError, match=r'is a \.npz archive'):
        MMRecDataset(root, modalities={'image': 'image_feat.npz'})


def test_isolated_nodes_are_counted(write_shop, table):
    table.loc[table.userID == 2, 'x_label'] = [1, 2, 1]
    root = write_shop(table, num_items=6)
    with pytest.warns(UserWarning, match='no train edge') as record:
        MMRecDataset(root)
    messages = [str(w.message) for w in record]
    assert messages[0].startswith('1 of 3 users have no train edge (1 of')
    assert messages[1].startswith('3 of 6 items have no train edge (1 of')
    assert Path(record[0].filename) == Path(__file__)


def test_clean_data_does_not_warn(write_shop):
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        MMRecDataset(write_shop())
