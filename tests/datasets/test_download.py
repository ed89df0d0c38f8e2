import hashlib
import inspect
import shutil
import sys
from collections import namedtuple
from pathlib import Path
from types import SimpleNamespace

import pytest

from pyg_sea.datasets import AmazonMultimodal

File = namedtuple('File', ['id', 'path', 'local_path'])
NAMES = ['baby.inter', 'image_feat.npy', 'text_feat.npy']


class DriveError(Exception):
    pass


class FakeDrive:
    """Stands in for the module `gdown`, serving files from a folder."""

    exceptions = SimpleNamespace(DriveError=DriveError)

    def __init__(self, source: Path) -> None:
        self.source = source
        self.fetched: list[str] = []
        self.fails_on: str | None = None

    def download_folder(self, id, skip_download, quiet):
        assert id == AmazonMultimodal.folder_id
        assert skip_download
        return [
            File(
                f'id of {path}', str(path.relative_to(self.source)), str(path)
            )
            for path in sorted(self.source.rglob('*'))
            if path.is_file()
        ]

    def download(self, id, output, quiet):
        path = id.removeprefix('id of ')
        self.fetched.append(path)
        if self.fails_on is not None and path.endswith(self.fails_on):
            raise DriveError('Too many users have viewed this file\n')
        shutil.copy(path, output)
        return output


@pytest.fixture
def drive(files, tmp_path, monkeypatch) -> FakeDrive:
    for stem in ('baby', 'sports'):
        shutil.copytree(files, tmp_path / 'drive' / 'All' / stem)
    sports = tmp_path / 'drive' / 'All' / 'sports'
    (sports / 'baby.inter').rename(sports / 'sports.inter')
    drive = FakeDrive(tmp_path / 'drive')
    monkeypatch.setitem(sys.modules, 'gdown', drive)
    return drive


def test_downloads_just_what_is_needed(small, drive, tmp_path):
    baby = drive.source / 'All' / 'baby'
    (baby / 'i_id_mapping.csv').write_text(
        'asin\titemID\na\t0\nb\t1\nc\t2\nd\t3\n'
    )
    data = AmazonMultimodal(tmp_path / 'data')[0]
    assert data['item'].external_id == ['a', 'b', 'c', 'd']
    assert {Path(path).parent for path in drive.fetched} == {baby}

    raw = tmp_path / 'data' / 'baby' / 'raw'
    assert sorted(p.name for p in raw.iterdir()) == sorted(
        [*NAMES, 'SHA256SUMS', 'i_id_mapping.csv']
    )
    for line in (raw / 'SHA256SUMS').read_text().splitlines():
        value, name = line.split('  ')
        content = (raw / name).read_bytes()
        assert value == hashlib.sha256(content).hexdigest()
        assert content == (baby / name).read_bytes()
    assert sorted(p.name for p in raw.parent.iterdir()) == ['processed', 'raw']

    AmazonMultimodal(tmp_path / 'data', force_reload=True)
    assert len(drive.fetched) == 4


@pytest.mark.parametrize('name', NAMES)
def test_a_download_that_breaks_leaves_nothing(small, drive, tmp_path, name):
    drive.fails_on = name
    with pytest.raises(FileNotFoundError, match='Too many users') as error:
        AmazonMultimodal(tmp_path / 'data')
    message = str(error.value)
    raw = tmp_path / 'data' / 'baby' / 'raw'
    assert str(raw) in message
    assert ', '.join(NAMES) in message
    assert AmazonMultimodal.folder_id in message
    assert list(raw.iterdir()) == []
    assert list(raw.parent.iterdir()) == [raw]

    drive.fails_on = None
    assert len(AmazonMultimodal(tmp_path / 'data')) == 1


def test_a_file_that_does_not_arrive(small, drive, tmp_path, monkeypatch):
    monkeypatch.setattr(FakeDrive, 'download', lambda self, **kwargs: None)
    with pytest.raises(FileNotFoundError, match=r"'baby\.inter' did not arr"):
        AmazonMultimodal(tmp_path / 'data')


def test_without_a_network(small, drive, tmp_path, monkeypatch):
    def fail(self, **kwargs):
        raise ConnectionError('no route to host')

    monkeypatch.setattr(FakeDrive, 'download_folder', fail)
    with pytest.raises(FileNotFoundError, match='no route to host'):
        AmazonMultimodal(tmp_path / 'data')


def test_without_gdown(small, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'gdown', None)
    with pytest.raises(FileNotFoundError, match=r'"pyg_sea\[download\]"'):
        AmazonMultimodal(tmp_path / 'data')


def test_the_fake_takes_what_gdown_takes():
    gdown = pytest.importorskip('gdown')
    for name in ('download_folder', 'download'):
        real = inspect.signature(getattr(gdown, name)).parameters
        fake = inspect.signature(getattr(FakeDrive, name)).parameters
        assert set(fake) - {'self'} <= set(real)
    assert issubclass(gdown.exceptions.FileURLRetrievalError, Exception)


def test_a_catalogue_that_is_not_published(drive, tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match=r"not hold 'elec\.inter'"):
        AmazonMultimodal(tmp_path / 'data', 'Electronics')
    (drive.source / 'All' / 'sports' / 'text_feat.npy').unlink()
    with pytest.raises(FileNotFoundError, match=r"hold \['text_feat.npy'\]"):
        AmazonMultimodal(tmp_path / 'data', 'Sports')
    monkeypatch.setattr(drive, 'download_folder', lambda **kwargs: None)
    with pytest.raises(FileNotFoundError, match=r"hold 'sports\.inter'"):
        AmazonMultimodal(tmp_path / 'data', 'Sports')


def test_sums_are_checked_when_given(small, drive, root, tmp_path):
    content = (root / 'baby' / 'raw' / 'baby.inter').read_bytes()
    good = {'baby.inter': hashlib.sha256(content).hexdigest().upper()}
    assert len(AmazonMultimodal(root, sha256=good)) == 1
    bad = {'baby.inter': '0' * 64}
    with pytest.raises(ValueError, match=r'0000 expected, .* found'):
        AmazonMultimodal(root, sha256=bad, force_reload=True)

    with pytest.raises(ValueError, match='is not the expected file'):
        AmazonMultimodal(tmp_path / 'new', sha256=bad)
    assert list((tmp_path / 'new' / 'baby' / 'raw').iterdir()) == []
