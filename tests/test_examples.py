import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pyg_sea.datasets import FakeMultimodal

pytest.importorskip('lightning', reason='the examples need lightning')
pytest.importorskip('matplotlib', reason='the examples need matplotlib')

EXAMPLES = Path(__file__).parents[1] / 'examples'
RESULTS = {
    'metrics.json',
    'metrics.csv',
    'best.ckpt',
    'last.ckpt',
    'curves.png',
    'parts.png',
}


@pytest.fixture(scope='module')
def folder(tmp_path_factory) -> Path:
    """A small catalogue in the MMRec format."""
    root = tmp_path_factory.mktemp('shop')
    data = FakeMultimodal(num_users=60, num_items=150)[0]
    store = data['user', 'buys', 'item']
    edges = [
        pd.DataFrame(
            {'userID': e[0].numpy(), 'itemID': e[1].numpy(), 'x_label': label}
        )
        for label, e in enumerate(
            [store.edge_index, store.val_edge_index, store.test_edge_index]
        )
    ]
    pd.concat(edges).to_csv(root / 'shop.inter', sep='\t', index=False)
    for name in ('image', 'text'):
        np.save(root / f'{name}.npy', data['item'][f'x_{name}'].numpy())
    return root


def run(*args: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, EXAMPLES / 'amazon_baby.py', *map(str, args)],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {'OMP_NUM_THREADS': '1'},
    )


@pytest.mark.parametrize('model', ['SEA', 'ReleasedSEA'])
@pytest.mark.filterwarnings('ignore')
def test_main_job_on_a_folder(folder, tmp_path, model):
    args = [
        '--dataset', folder, '--modality', 'image=image.npy',
        '--modality', 'text=text.npy', '--model', model, '--out', tmp_path,
    ]  # fmt: skip
    done = run(*args, '--epochs', 1)
    assert done.returncode == 0, done.stderr
    assert '60 users, 150 items' in done.stdout
    assert 'popularity' in done.stdout
    assert 'content k-NN' in done.stdout
    assert {path.name for path in tmp_path.iterdir()} == RESULTS

    first = json.loads((tmp_path / 'metrics.json').read_text())
    assert first['epochs'] == 1
    assert first['arguments']['seed'] == 999
    assert set(first['test']) == {'popularity', 'content k-NN', model}
    assert 0 <= first['test'][model]['recall@20'] <= 1
    assert set(first['r2_unique_from_generic']) == {'before', 'after'}
    assert first['versions']['torch']

    done = run(*args, '--epochs', 2, '--resume')
    assert done.returncode == 0, done.stderr
    second = json.loads((tmp_path / 'metrics.json').read_text())
    assert second['epochs'] == 2
    log = pd.read_csv(tmp_path / 'metrics.csv')
    assert list(log['epoch']) == [0, 1]


def test_missing_files_say_what_to_do(tmp_path):
    done = run('--root', tmp_path, '--epochs', 1, '--out', tmp_path / 'out')
    assert done.returncode != 0
    assert 'baby.inter' in done.stderr


@pytest.mark.parametrize('model', ['lightgcn', 'vbpr', 'freedom'])
def test_plug_into(monkeypatch, model):
    monkeypatch.syspath_prepend(EXAMPLES)
    example = importlib.import_module(f'plug_into_{model}')
    without = example.run(False, num_epochs=1)
    with_parts = example.run(True, num_epochs=1)
    assert 0 < with_parts['recall@20'] < 1
    assert with_parts != without
