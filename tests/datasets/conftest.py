import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from pyg_sea.datasets import AmazonMultimodal
from pyg_sea.datasets.amazon import Published

Write = Callable[..., Path]


@pytest.fixture
def write_shop(tmp_path: Path) -> Write:
    """Write a small, correct MMRec folder; arguments replace its parts."""

    def write(
        table: pd.DataFrame | None = None,
        folder: str = 'shop',
        num_items: int = 4,
        **features: np.ndarray,
    ) -> Path:
        root = tmp_path / folder
        root.mkdir(exist_ok=True)
        frame = good_table() if table is None else table
        frame.to_csv(root / 'shop.inter', sep='\t', index=False)
        rng = np.random.default_rng(0)
        for name, width in (('image', 6), ('text', 3)):
            x = features.get(name, rng.normal(size=(num_items, width)))
            np.save(root / f'{name}_feat.npy', x)
        return root

    return write


def good_table() -> pd.DataFrame:
    return pd.DataFrame(
        {
            'userID': [0, 0, 0, 1, 1, 1, 2, 2, 2],
            'itemID': [0, 1, 2, 1, 2, 3, 0, 3, 2],
            'x_label': [0, 0, 1, 0, 2, 0, 0, 0, 0],
            'rating': [5.0, 3, 4, 2, 1, 5, 4, 4, 1],
        }
    )


@pytest.fixture
def table() -> pd.DataFrame:
    return good_table()


@pytest.fixture
def file_of() -> Callable[[torch.Tensor], Path | None]:
    """Which file the memory of a tensor is mapped from."""
    maps = Path('/proc/self/maps')
    if not maps.exists():
        pytest.skip(f'needs {maps}')

    def find(x: torch.Tensor) -> Path | None:
        for line in maps.read_text().splitlines():
            addresses, _, _, _, _, *path = line.split(maxsplit=5)
            first, last = (int(n, 16) for n in addresses.split('-'))
            if first <= x.data_ptr() < last:
                return Path(path[0]) if path and path[0][0] == '/' else None
        raise AssertionError('no such memory')

    return find


@pytest.fixture
def small(monkeypatch):
    """Shrink the published sizes to those of the little shop."""
    sizes = Published('baby', 3, 4, 9, 7, 1, 1)
    monkeypatch.setitem(AmazonMultimodal.published, 'Baby', sizes)
    monkeypatch.setattr(AmazonMultimodal, 'widths', {'image': 6, 'text': 3})


@pytest.fixture
def files(write_shop) -> Path:
    root = write_shop()
    (root / 'shop.inter').rename(root / 'baby.inter')
    return root


@pytest.fixture
def root(files, tmp_path) -> Path:
    shutil.copytree(files, tmp_path / 'data' / 'baby' / 'raw')
    return tmp_path / 'data'
