import numpy as np
import pytest

from pyg_sea.runs._catalogue import Catalogue


@pytest.fixture
def catalogue(run):
    return Catalogue.load(run.path / 'items')


def test_scales_as_the_data_set_does(run, folder, catalogue):
    for name in ('image', 'text'):
        raw = np.load(folder / f'{name}_feat.npy')
        expected = run.data()['item'][f'x_{name}'].numpy()
        assert np.allclose(catalogue.scaled(name, raw), expected, atol=1e-6)


def test_comes_back_as_it_was(catalogue, tmp_path):
    catalogue.save(tmp_path)
    found = Catalogue.load(tmp_path)
    assert found.recipes == catalogue.recipes
    assert found.normalize == catalogue.normalize
    x = np.random.default_rng(0).normal(size=(3, 6))
    assert np.array_equal(
        found.scaled('image', x), catalogue.scaled('image', x)
    )


@pytest.mark.parametrize('content', [None, b'', b'no arrays'])
def test_moments_that_cannot_be_read(catalogue, tmp_path, content):
    catalogue.save(tmp_path)
    path = tmp_path / 'moments.npz'
    arrays = path.read_bytes()
    half = arrays[: len(arrays) // 2] if content is None else content
    path.write_bytes(half)
    with pytest.raises(ValueError, match=r'moments\.npz. is cut short'):
        Catalogue.load(tmp_path)
