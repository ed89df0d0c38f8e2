import os
from pathlib import Path

import pytest
import torch


def _path_from(variable: str) -> Path:
    value = os.environ.get(variable)
    if not value:
        pytest.skip(f'{variable} is not set')
    path = Path(value)
    if not path.exists():
        pytest.fail(f'{variable} names {path}, which does not exist')
    return path


@pytest.fixture(scope='session')
def data_dir() -> Path:
    """The folder that holds lfm2k/, tiktok/ and baby/."""
    return _path_from('PYG_SEA_DATA')


@pytest.fixture(scope='session')
def golden_path() -> Path:
    """One recorded step of the released implementation (.npz)."""
    return _path_from('PYG_SEA_GOLDEN')


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(12345)
