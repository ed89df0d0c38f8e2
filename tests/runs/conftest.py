import pytest

from pyg_sea.runs import Run, make_settings, train_run

from .made import SHORT, SMALL, make_folder


@pytest.fixture(scope='session')
def folder(tmp_path_factory):
    return make_folder(tmp_path_factory.mktemp('runs') / 'shop')


@pytest.fixture(scope='session')
def settings(folder):
    return make_settings(folder, 'SEA', SMALL, k=5, seed=3, **SHORT)


@pytest.fixture(scope='session')
def run(settings, tmp_path_factory):
    path = tmp_path_factory.mktemp('runs') / 'run'
    train_run(settings, path, progress=False, accelerator='cpu')
    return Run.open(path)
