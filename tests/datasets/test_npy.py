import os
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from pyg_sea.datasets import MMRecDataset
from pyg_sea.transforms import model_inputs

matrix = sys.modules['pyg_sea.datasets._matrix']


def features(*args, **kwargs):
    item = MMRecDataset(*args, **kwargs)[0]['item']
    return item.x_image, item.x_text


@pytest.fixture
def many(write_shop, monkeypatch):
    """A shop of 40 items, whose features are read in chunks of 7 rows."""
    monkeypatch.setattr(matrix, '_CHUNK_SIZE', 7 * 6)
    rng = np.random.default_rng(0)

    def write(dtype='float32', order='C', **change):
        x = rng.normal(50, 3, size=(40, 6))
        x[:, 2] = 0.1
        x[[5, 30]] = 0
        x = np.asarray(x.astype(dtype), order=order)
        return write_shop(num_items=40, image=x)

    return write


@pytest.mark.filterwarnings('ignore:modality', 'ignore:.*no train edge')
@pytest.mark.parametrize('normalize', [None, 'l2', 'standard'])
@pytest.mark.parametrize('order', ['C', 'F'])
@pytest.mark.parametrize('dtype', ['float16', '>f2', 'float32', '>f4', 'f8'])
def test_equals_what_is_kept_in_memory(
    many, tmp_path, file_of, dtype, order, normalize
):
    root, cache = many(dtype, order), tmp_path / 'cache'
    before = {p: p.stat().st_mtime_ns for p in root.rglob('*')}
    expected = features(root, normalize=normalize)
    found = features(root, normalize=normalize, mmap=True, cache_dir=cache)
    half = dtype in ('float16', '>f2')
    assert found[0].dtype == (torch.float16 if half else torch.float32)
    assert found[1].dtype == torch.float32
    tolerance = 1e-3 if half and normalize else 1e-6
    for x, y in zip(found, expected):
        torch.testing.assert_close(
            x.float(), y, rtol=tolerance, atol=tolerance * y.abs().max().item()
        )
    plain = order == 'C' and dtype in ('float16', 'float32') and not normalize
    source = root / 'image_feat.npy'
    assert (file_of(found[0]) == source) == plain
    assert file_of(found[0]).parent == (root if plain else cache)
    assert {p: p.stat().st_mtime_ns for p in root.rglob('*')} == before
    assert file_of(expected[0]) is None


@pytest.mark.filterwarnings('ignore:.*no train edge')
def test_messages_are_those_in_memory(many, tmp_path):
    root = many()
    for normalize in (None, 'l2', 'l2'):  # Written, then found.
        with pytest.warns(UserWarning, match="'image': 2 of 40 items"):
            features(root, normalize=normalize, mmap=True, cache_dir=tmp_path)
    x = np.load(root / 'image_feat.npy')
    x[[3, 39], 1] = np.nan
    np.save(root / 'image_feat.npy', x)
    for normalize in (None, 'l2', 'standard'):
        for mmap in (False, True):
            with pytest.raises(ValueError, match='in 2 of 40 rows: 3, 39'):
                MMRecDataset(root, normalize=normalize, mmap=mmap)


def test_copies_are_written_once_until_the_source_changes(
    write_shop, tmp_path, monkeypatch
):
    root, cache = write_shop(), tmp_path / 'not' / 'there'
    arguments = {'normalize': 'l2', 'mmap': True, 'cache_dir': cache}
    first = features(root, **arguments)
    [*copies] = cache.iterdir()
    assert len(copies) == 2

    with monkeypatch.context() as patch:
        patch.delattr('pyg_sea.datasets._features.write_npy')
        again = features(root, **arguments)
    assert torch.equal(first[0], again[0])
    assert sorted(cache.iterdir()) == sorted(copies)

    source = root / 'image_feat.npy'
    np.save(source, np.ones((4, 6)))
    changed = features(root, **arguments)
    assert torch.allclose(changed[0], torch.tensor(6**-0.5))
    assert torch.equal(changed[1], first[1])

    # Another time alone makes another file of it.
    os.utime(source, ns=(0, 0))
    num_copies = len(list(cache.iterdir()))
    features(root, **arguments)
    assert len(list(cache.iterdir())) == num_copies + 1


def test_other_ways_have_other_copies(write_shop, tmp_path):
    root = write_shop()
    found = {
        how: features(root, normalize=how, mmap=True, cache_dir=tmp_path)
        for how in (None, 'l2', 'standard')
    }
    assert torch.allclose(found['l2'][0].norm(dim=1), torch.ones(4))
    assert found['standard'][0].mean(dim=0).abs().max() < 1e-6
    expected = np.load(root / 'image_feat.npy').astype(np.float32)
    assert torch.equal(found[None][0], torch.from_numpy(expected))


def test_copies_lie_in_the_home_of_pyg_by_default(
    write_shop, tmp_path, monkeypatch, file_of
):
    monkeypatch.setenv('PYG_HOME', str(tmp_path / 'home'))
    x, _ = features(write_shop(), normalize='l2', mmap=True)
    assert file_of(x).parent == tmp_path / 'home' / 'pyg_sea'


def test_never_writes_beside_the_sources(write_shop):
    root = write_shop()
    before = sorted(root.iterdir())
    with pytest.raises(ValueError, match="'cache_dir' needs to be another"):
        MMRecDataset(root, normalize='l2', mmap=True, cache_dir=root)
    assert sorted(root.iterdir()) == before


def test_a_copy_that_cannot_be_written_leaves_nothing(
    write_shop, tmp_path, monkeypatch
):
    root, cache = write_shop(), tmp_path / 'cache'
    cache.write_text('no folder')
    with pytest.raises(OSError, match='Name another folder with'):
        MMRecDataset(root, normalize='l2', mmap=True, cache_dir=cache)
    cache.unlink()

    def full(*args):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(np, 'ascontiguousarray', full)
    with pytest.raises(OSError, match='No space left'):
        MMRecDataset(root, normalize='l2', mmap=True, cache_dir=cache)
    assert list(cache.iterdir()) == []


def test_changes_of_the_tensor_stay_in_memory(write_shop, tmp_path, file_of):
    root = write_shop(image=np.ones((4, 6), np.float32))
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        x, _ = features(root, mmap=True, cache_dir=tmp_path)
    x.zero_()
    assert file_of(x) == root / 'image_feat.npy'
    assert (np.load(root / 'image_feat.npy') == 1).all()


def test_model_inputs_do_not_copy(write_shop, tmp_path, file_of):
    root = write_shop(image=np.ones((4, 6), np.float16))
    data = MMRecDataset(root, mmap=True, cache_dir=tmp_path)[0]
    x = model_inputs(data)['modal_x']['image']
    assert x.data_ptr() == data['item'].x_image.data_ptr()
    assert file_of(x) == root / 'image_feat.npy'


_MEASURE = """
import sys, threading, time
import numpy as np, torch
from pyg_sea.datasets import MMRecDataset
from pyg_sea.nn import ModalGCNConv

def anonymous():
    with open('/proc/self/status') as file:
        [line] = [line for line in file if line.startswith('RssAnon')]
    return int(line.split()[1]) / 1024

class Rise(threading.Thread):
    def __enter__(self):
        self.running, self.peak = True, 0
        self.base = anonymous()
        self.start()
    def run(self):
        while self.running:
            self.peak = max(self.peak, anonymous())
            time.sleep(0.005)
    def __exit__(self, *args):
        self.running = False
        self.join()
        print(round(self.peak - self.base), end=' ')

def load(name, **kwargs):
    dataset = MMRecDataset(root, modalities={'image': name}, **kwargs)
    return dataset[0]['item'].x_image

def step(x):
    out = conv((user, x), torch.tensor([[0, 1], [1, 0]]))
    out.square().mean().backward()

root, cache = sys.argv[1:]
mapped = {'mmap': True, 'cache_dir': cache}
conv, user = ModalGCNConv(4096, 8), torch.zeros(1, 8)
step(torch.zeros(9, 4096).half())
with Rise(): load('half.npy', normalize='l2')
for name in ('single.npy', 'half.npy'):
    with Rise(): x = load(name, **mapped)
    with Rise(): step(x)
with Rise(): x = load(name, normalize='standard', **mapped)
with Rise(): step(x)
"""


@pytest.mark.skipif(
    not Path('/proc/self/status').exists(), reason='needs /proc'
)
def test_nothing_holds_all_features(write_shop, tmp_path):
    root = write_shop()
    x = np.random.default_rng(0).normal(size=4096)
    for name, dtype in (('single', 'float32'), ('half', 'float16')):
        x = np.resize(x.astype(dtype), 100 * 2**20 // np.dtype(dtype).itemsize)
        np.save(root / f'{name}.npy', x.reshape(-1, 4096))
    out = subprocess.run(
        [sys.executable, '-c', _MEASURE, str(root), str(tmp_path / 'cache')],
        capture_output=True,
        text=True,
        check=False,
    )
    assert out.returncode == 0, out.stderr
    in_memory, *rest = map(int, out.stdout.split())
    assert in_memory > 90
    assert max(rest) < 60, rest
    assert len(rest) == 6


@pytest.mark.parametrize('size', [0, 100, 130])
def test_damaged_copies_are_written_again(write_shop, tmp_path, size):
    root, cache = write_shop(), tmp_path / 'cache'
    arguments = {'normalize': 'l2', 'mmap': True, 'cache_dir': cache}
    expected = [x.clone() for x in features(root, **arguments)]
    copies = sorted(cache.iterdir())
    for path in copies:
        with path.open('rb+') as file:
            file.truncate(size)
    for x, y in zip(features(root, **arguments), expected):
        assert torch.equal(x, y)
    assert sorted(cache.iterdir()) == copies
    for path in copies:
        np.load(path)


@pytest.mark.filterwarnings('ignore:modality', 'ignore:.*no train edge')
@pytest.mark.parametrize('normalize', [None, 'l2', 'standard'])
@pytest.mark.parametrize('dtype', ['float16', 'float32', 'f8'])
def test_rows_of_nan_in_a_file(many, tmp_path, file_of, dtype, normalize):
    root, cache = many(dtype), tmp_path / 'cache'
    source = root / 'image_feat.npy'
    x = np.load(source)
    x[[3, 20, 39]] = np.nan
    np.save(source, x)
    kept, _ = features(root, normalize=normalize)
    lacking = [3, 5, 20, 30, 39]
    is_zero = torch.zeros(40, dtype=torch.bool)
    is_zero[lacking] = True
    assert torch.equal((kept == 0).all(dim=1), is_zero)
    for _ in range(2):  # Written, then found.
        with pytest.warns(UserWarning, match="'image': 5 of 40 items"):
            found, _ = features(
                root, normalize=normalize, mmap=True, cache_dir=cache
            )
        assert file_of(found).parent == cache
        assert torch.equal((found == 0).all(dim=1), is_zero)
        assert found.dtype == (
            torch.float16 if dtype == 'float16' else torch.float32
        )
        torch.testing.assert_close(
            found.float(), kept, rtol=1e-3, atol=1e-3 * kept.abs().max().item()
        )
    assert len(list(cache.glob('*-5.npy'))) == 1
    assert np.isnan(np.load(source)).sum() == 18  # Never written to.
