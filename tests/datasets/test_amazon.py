import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from torch_geometric.data import HeteroData

from pyg_sea.datasets import AmazonMultimodal
from pyg_sea.datasets.amazon import Published


def test_reads_files_that_were_put_there(small, root):
    dataset = AmazonMultimodal(root, 'Baby')
    assert (len(dataset), str(dataset)) == (1, 'AmazonMultimodal(Baby)')
    data = dataset[0]
    assert isinstance(data, HeteroData)
    assert data['user', 'buys', 'item'].edge_index.shape == (2, 7)
    raw = np.load(root / 'baby' / 'raw' / 'text_feat.npy')
    assert np.allclose(data['item'].x_text, raw)
    assert not list((root / 'baby').rglob('*.tmp'))


def test_processed_files_are_reused_and_never_mixed_up(small, root):
    first = AmazonMultimodal(root)[0]
    inter = root / 'baby' / 'raw' / 'baby.inter'
    content = inter.read_bytes()
    inter.write_text('damaged')
    again = AmazonMultimodal(root)[0]
    assert torch.equal(first['item'].x_image, again['item'].x_image)
    with pytest.raises(ValueError, match=r'baby\.inter'):
        AmazonMultimodal(root, force_reload=True)

    inter.write_bytes(content)
    unit = AmazonMultimodal(root, normalize={'image': 'l2'})[0]['item']
    assert torch.allclose(unit.x_image.norm(dim=1), torch.ones(4))
    assert torch.equal(unit.x_text, first['item'].x_text)
    rated = AmazonMultimodal(root, weight='rating')[0]
    assert rated['user', 'buys', 'item'].edge_weight.numel() == 7


def test_transforms(small, root):
    def mark(data):
        data.mark = data.mark + 1 if 'mark' in data else 0
        return data

    dataset = AmazonMultimodal(root, transform=mark, pre_transform=mark)
    assert dataset[0].mark == dataset[0].mark == 1


def test_processed_file_needs_no_unpickling(small, root):
    dataset = AmazonMultimodal(root)
    torch.save({'user': pytest.fail}, dataset.processed_paths[0])
    with pytest.raises(Exception, match=r'[Ww]eights.only'):
        AmazonMultimodal(root)


def drop_an_edge(data):
    store = data['user', 'buys', 'item']
    store.edge_index = store.edge_index[:, 1:]
    data['item'].x_text = data['item'].x_text[:, :1]
    return data


def test_processed_files_are_checked_too(small, root):
    path = AmazonMultimodal(root).processed_paths[0]
    saved = torch.load(path, weights_only=True)
    data = drop_an_edge(HeteroData.from_dict(saved['data']))
    torch.save({'data': data.to_dict()}, path)
    with pytest.raises(ValueError, match='are not the published') as error:
        AmazonMultimodal(root)
    for part in (
        f"the data in '{path}'",
        'num_train: 7 expected, 6 found',
        'text features: 3 expected, 1 found',
        'force_reload=True',
    ):
        assert part in str(error.value)
    assert len(AmazonMultimodal(root, force_reload=True)) == 1
    assert len(AmazonMultimodal(root)) == 1

    for other in ({'user': {}}, {'data': {}}, [1]):
        torch.save(other, path)
        with pytest.raises(ValueError, match=r'this version.*force_reload'):
            AmazonMultimodal(root)


def test_the_check_is_of_the_data_before_any_transform(
    small, root, monkeypatch
):
    kwargs = {'pre_transform': drop_an_edge, 'transform': drop_an_edge}
    for _ in range(2):
        data = AmazonMultimodal(root, **kwargs)[0]
        assert data['user', 'buys', 'item'].edge_index.size(1) == 5
    sizes = Published('baby', 3, 4, 9, 6, 2, 1)
    monkeypatch.setitem(AmazonMultimodal.published, 'Baby', sizes)
    with pytest.raises(ValueError, match='num_train: 6 expected, 7 found'):
        AmazonMultimodal(root, **kwargs)


def test_refuses_other_counts_and_widths(root):
    with pytest.raises(ValueError, match='are not the published') as error:
        AmazonMultimodal(root)
    message = str(error.value)
    for part in (
        'num_users: 19,445 expected, 3 found',
        'num_items: 7,050 expected, 4 found',
        'num_interactions: 160,792 expected, 9 found',
        'num_train: 118,551 expected, 7 found',
        'num_valid: 20,559 expected, 1 found',
        'num_test: 21,682 expected, 1 found',
        'image features: 4,096 expected, 6 found',
        'text features: 384 expected, 3 found',
    ):
        assert part in message
    assert not list((root / 'baby' / 'processed').glob('data*'))


def test_published_totals_are_the_sums_of_their_splits():
    for wanted in AmazonMultimodal.published.values():
        splits = [wanted.num_train, wanted.num_valid, wanted.num_test]
        if None not in splits:
            assert sum(splits) == wanted.num_interactions


def test_unknown_name(tmp_path):
    with pytest.raises(ValueError, match=r"'Electronics'\] \(got 'Books'\)"):
        AmazonMultimodal(tmp_path, 'Books')


@pytest.mark.filterwarnings('ignore:.*no train edge')
def test_real_interactions_pass_the_published_counts(data_dir, tmp_path):
    raw = tmp_path / 'baby' / 'raw'
    raw.mkdir(parents=True)
    shutil.copy(data_dir / 'baby' / 'baby.inter', raw)
    for name, width in AmazonMultimodal.widths.items():
        np.save(raw / f'{name}_feat.npy', np.ones((7050, width), np.float16))
    data = AmazonMultimodal(tmp_path)[0]
    assert data['user', 'buys', 'item'].num_edges == 118551


@pytest.mark.parametrize('normalize', [None, 'l2', 'standard'])
@pytest.mark.parametrize('dtype', [np.float16, np.float32, np.float64])
def test_mapped_data_are_the_same(small, root, file_of, normalize, dtype):
    for path in (root / 'baby' / 'raw').glob('*.npy'):
        np.save(path, np.load(path).astype(dtype))
    kept = AmazonMultimodal(root, normalize=normalize)[0]
    path = Path(AmazonMultimodal(root, normalize=normalize).processed_paths[0])
    for reload in (False, True):
        mapped = AmazonMultimodal(
            root, normalize=normalize, mmap=True, force_reload=reload
        )[0]
        for key in ('x_image', 'x_text'):
            assert torch.equal(mapped['item'][key], kept['item'][key])
            assert mapped['item'][key].dtype == torch.float32
            assert file_of(mapped['item'][key]) == path
    # Neither beside the raw files nor beside the processed ones.
    assert len(list((root / 'baby' / 'raw').iterdir())) == 3
    assert {p.suffix for p in path.parent.iterdir()} == {'.pt'}
