import shutil

import pytest

from pyg_sea.runs import make_settings

from .made import SMALL


def test_settings_say_everything(folder, settings):
    assert settings['data'] == {
        'folder': str(folder),
        'name': 'shop',
        'modalities': {'image': 'image_feat.npy', 'text': 'text_feat.npy'},
        'normalize': 'standard',
        'weight': None,
        'k': 5,
        'graph_weights': None,
    }
    assert settings['model'] == {'name': 'SEA', 'settings': SMALL}
    assert settings['train'] == {
        'lr': 1e-3,
        'max_epochs': 3,
        'patience': 20,
        'batch_size': 64,
        'precision': '32-true',
        'seed': 3,
    }


def test_presets_come_as_published(folder):
    settings = make_settings(folder, 'SEA.paper')
    assert settings['train']['lr'] == 1e-4
    assert settings['data']['normalize'] is None
    settings = make_settings(folder, normalize='none', lr=0.5)
    assert settings['train']['lr'] == 0.5
    assert settings['data']['normalize'] is None


@pytest.mark.parametrize(
    ('kwargs', 'message'),
    [
        ({'model': 'BM3'}, "'model' needs to be one of .*'BM3'"),
        ({'epochs': 3}, r"'train' needs .*\['epochs'\]"),
        ({'normalize': 'max'}, "'normalize' needs .*'max'"),
        ({'model_settings': {'foo': 1}}, "'foo', which is no .*: hidden_cha"),
    ],
)
def test_refuses_settings(folder, kwargs, message):
    with pytest.raises(ValueError, match=message):
        make_settings(folder, **kwargs)


def test_refuses_folders(folder, tmp_path):
    with pytest.raises(ValueError, match=r"'demo', take no \['weight'\]"):
        make_settings('demo', weight='rating')
    with pytest.raises(FileNotFoundError, match=r'is no folder.*prepare'):
        make_settings(tmp_path / 'none')
    with pytest.raises(FileNotFoundError, match=r'needs to hold one \.inter'):
        make_settings(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"'x.inter'.*\['shop'\]"):
        make_settings(folder, name='x')
    shutil.copy(folder / 'shop.inter', tmp_path)
    with pytest.raises(FileNotFoundError, match='no feature file'):
        make_settings(tmp_path)
