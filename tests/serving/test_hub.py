import shutil
import sys

import pytest

from pyg_sea import Recommender

from .made import make_recommender

hub = pytest.importorskip('huggingface_hub')
pytest.importorskip('safetensors')


@pytest.fixture
def server(tmp_path, monkeypatch):
    """The hub, as a folder."""
    calls = []

    class Api:
        def __init__(self, token=None):
            calls.append(('token', token))

        def create_repo(self, repo_id, *, private, exist_ok):
            calls.append(('create', repo_id, private, exist_ok))

        def upload_folder(self, *, repo_id, folder_path, commit_message):
            calls.append(('upload', commit_message))
            shutil.copytree(folder_path, tmp_path / 'hub' / repo_id)
            return f'https://hub/{repo_id}'

    def download(repo_id, *, allow_patterns, revision=None):
        calls.append(('download', sorted(allow_patterns), revision))
        return str(tmp_path / 'hub' / repo_id)

    monkeypatch.setattr(hub, 'HfApi', Api)
    monkeypatch.setattr(hub, 'snapshot_download', download)
    return calls, tmp_path / 'hub'


def test_there_and_back(server):
    calls, folder = server
    recommender = make_recommender()
    url = recommender.push_to_hub('me/shop', private=True, token='secret')
    assert url == 'https://hub/me/shop'
    assert calls == [
        ('token', 'secret'),
        ('create', 'me/shop', True, True),
        ('upload', 'A recommender of pyg_sea'),
    ]
    card = (folder / 'me' / 'shop' / 'README.md').read_text()
    assert '30 users, 40 items' in card
    assert "from_pretrained('me/shop')" in card

    again = Recommender.from_pretrained('me/shop', revision='v1')
    assert repr(again) == repr(recommender)
    assert calls[-1] == (
        'download',
        ['recommender.json', 'recommender.safetensors'],
        'v1',
    )


def test_folders_need_no_hub(tmp_path, monkeypatch):
    recommender = make_recommender()
    recommender.save(tmp_path / 'saved')
    monkeypatch.setitem(sys.modules, 'huggingface_hub', None)
    again = Recommender.from_pretrained(str(tmp_path / 'saved'))
    assert repr(again) == repr(recommender)
    for call in (
        lambda: recommender.push_to_hub('me/shop'),
        lambda: Recommender.from_pretrained('me/shop'),
    ):
        with pytest.raises(ImportError, match=r'pyg_sea\[hub\]'):
            call()
