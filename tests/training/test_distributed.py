"""Training launched by torchrun, against one process."""

import json
import os
import subprocess
import sys

import pytest
import torch

from .ranks import run

pytestmark = pytest.mark.skipif(
    not (
        torch.distributed.is_available()
        and torch.distributed.is_gloo_available()
    ),
    reason='needs torch.distributed with gloo',
)


@pytest.fixture(scope='module')
def single(tmp_path_factory):
    return run(tmp_path_factory.mktemp('single'), devices=1)


@pytest.fixture(scope='module')
def ranks(tmp_path_factory, pytestconfig):
    folder = tmp_path_factory.mktemp('ranks')
    command = '-m torch.distributed.run --standalone --nproc-per-node 2'
    out = subprocess.run(
        [
            *(sys.executable, *command.split()),
            *('--module', 'tests.training.ranks', str(folder)),
        ],
        cwd=pytestconfig.rootpath,
        env={**os.environ, 'OMP_NUM_THREADS': '1'},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert out.returncode == 0, out.stderr
    assert 'arning' not in out.stderr + out.stdout
    return [json.loads((folder / f'{i}.json').read_text()) for i in range(2)]


def assert_close(out, expected):
    if isinstance(expected, dict):
        assert out.keys() == expected.keys()
        for name in expected:
            assert_close(out[name], expected[name])
    elif isinstance(expected, list):
        assert len(out) == len(expected)
        for a, b in zip(out, expected):
            assert_close(a, b)
    else:
        assert out == pytest.approx(expected, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize(
    'name', ['synced', 'weights', 'not synced', 'thinned']
)
def test_equals_one_process(ranks, single, name):
    """In every loss term and metric of every epoch, on every rank."""
    for found in ranks:
        assert_close(found[name], single[name])


def test_learns(single):
    for name in ('synced', 'not synced'):
        losses = [row['train/loss'] for row in single[name]['history']]
        assert losses[-1] < 0.98 * losses[0]


def test_resume_is_bit_for_bit(ranks):
    for found in ranks:
        assert found['resumed'] == found['straight']


def test_one_process_writes(ranks):
    assert ranks[0]['files'] == ['best.ckpt', 'last.ckpt', 'metrics.csv']
    assert ranks[1]['files'] == []


def test_all_processes_raise(ranks, single):
    message = "epoch 0, step 3: 'align/text-image' = nan"
    assert message in single['error']
    for found in ranks:
        assert found['error'] == single['error']
