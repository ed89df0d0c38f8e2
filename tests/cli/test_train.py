import json
import shlex
import signal
import subprocess
import sys
import time

import pandas as pd
import pytest
import torch

from pyg_sea import Recommender
from pyg_sea.runs import Run

from .conftest import TRAIN


def test_run_folder_and_table(shop, trained):
    lines = trained.splitlines()
    assert lines[0].split() == [
        'test',
        'recall@10',
        'recall@20',
        'ndcg@10',
        'ndcg@20',
    ]
    assert [line.split()[0] for line in lines[1:4]] == [
        'popularity',
        'content',
        'SEA',
    ]
    run = Run.open(shop / 'runs' / 'shop')
    shown = [float(x) for x in lines[3].split()[1:]]
    expected = list(run.metrics['test'].values())
    assert shown == pytest.approx(expected, abs=5e-5)
    assert f'best epoch {run.metrics["best_epoch"] + 1} of 30' in trained
    assert 'next: pyg-sea recommend runs/shop --user 0000' in trained
    assert run.settings['model']['settings'] == {
        'hidden_channels': 8,
        'id_channels': 8,
    }
    assert run.recommender().user_ids[7] == '0007'


def epochs(run):
    path = run / 'metrics.csv'
    return len(pd.read_csv(path)) if path.exists() else 0


def test_interrupted_and_resumed_is_bit_for_bit_the_same(shop, trained, call):
    run = shop / 'runs' / 'again'
    args = [*TRAIN, '--out', 'runs/again']
    child = subprocess.Popen(
        [sys.executable, '-m', 'pyg_sea.cli', *args],
        cwd=shop,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 120
    while child.poll() is None and time.monotonic() < deadline:
        if epochs(run) >= 4 and (run / 'last.ckpt').exists():
            break
        time.sleep(0.05)
    child.send_signal(signal.SIGINT)
    _, err = child.communicate(timeout=120)
    assert child.returncode == 130, err
    message = err.splitlines()[-1]
    command = f'pyg-sea {" ".join(args)} --resume'
    assert message == f'Error: interrupted. Go on with: {command}'
    assert 'Traceback' not in err
    assert not (run / 'metrics.json').exists()
    last = torch.load(run / 'last.ckpt', weights_only=True)
    assert last['epoch'] < epochs(run) < 30

    call(*command.split()[1:])
    expected, found = Run.open(shop / 'runs' / 'shop'), Run.open(run)
    assert len(found.history) == 30
    for key in ('best_epoch', 'epochs', 'validation', 'test', 'baselines'):
        assert found.metrics[key] == expected.metrics[key], key
    weights = [
        torch.load(one.path / 'best.ckpt', weights_only=True)['state_dict']
        for one in (expected, found)
    ]
    assert weights[0].keys() == weights[1].keys()
    for key, x in weights[0].items():
        assert torch.equal(x, weights[1][key]), key
    tensors = [
        (one.path / 'recommender' / 'recommender.safetensors').read_bytes()
        for one in (expected, found)
    ]
    assert tensors[0] == tensors[1]


def test_a_run_is_not_overwritten(call, trained):
    _, err = call(*TRAIN, '--out', 'runs/shop', code=1)
    assert 'holds a run already: add --resume' in err
    other = [*TRAIN, '--out', 'runs/shop', '--resume', '--lr', '0.5']
    _, err = call(*other, code=1)
    assert "'lr' was 0.001 (got 0.5)" in err
    other = [*TRAIN, '--out', 'runs/shop', '--resume', '--graph-k', '4']
    _, err = call(*other, code=1)
    assert 'other settings: --graph-k was 10 (got 4)' in err


def test_fewer_epochs_leave_a_run_as_it_is(call, shop, trained):
    args = [*TRAIN, '--out', 'runs/shop', '--resume', '--epochs', '29']
    _, err = call(*args, code=1)
    assert '--epochs needs to be at least 30, as many as the run' in err
    assert '(got 29)' in err
    run = Run.open(shop / 'runs' / 'shop')
    assert run.settings['train']['max_epochs'] == 30


def test_options_reach_the_run(shop, call, prepared, tmp_path):
    out, _ = call(
        *('train', 'data/shop', '--out', tmp_path / 'run', '--epochs', '1'),
        *('--model', 'SEA.paper', '--normalize', 'l2', '--lr', '0.01'),
        *('--modality', 'title=text_feat.npy', '--batch-size', '32'),
        *('--graph-k', '4', '--graph-weight', 'title=0.5', '--seed', '3'),
        *('--set', 'distance=negative_l2', '--set', 'hidden_channels=4'),
        *('--set', 'generic_channels=None', '--patience', '2'),
    )
    assert 'SEA.paper' in out
    settings = json.loads((tmp_path / 'run' / 'run.json').read_text())
    assert settings['data'] == {
        'folder': str(shop / 'data' / 'shop'),
        'name': 'shop',
        'modalities': {'title': 'text_feat.npy'},
        'normalize': 'l2',
        'weight': None,
        'k': 4,
        'graph_weights': {'title': 0.5},
    }
    assert settings['model']['settings'] == {
        'distance': 'negative_l2',
        'hidden_channels': 4,
        'generic_channels': None,
    }
    assert settings['train'] == {
        'lr': 0.01,
        'max_epochs': 1,
        'patience': 2,
        'batch_size': 32,
        'precision': '32-true',
        'seed': 3,
    }


def test_generated_catalogue(call, tmp_path):
    out, _ = call(
        *('train', 'demo', '--out', tmp_path / 'run', '--epochs', '1'),
        *('--model', 'VBPR'),
    )
    assert 'VBPR' in out
    recommender = Recommender.load(tmp_path / 'run' / 'recommender')
    assert recommender.user_ids[1] == 1


def test_next_command_can_be_pasted(call, tmp_path):
    folder = tmp_path / 'my run'
    args = ['--model', 'VBPR', '--epochs', '1']
    out, _ = call('train', 'demo', '--out', folder, *args)
    command = out.splitlines()[-1].removeprefix('next: ')
    assert command == f"pyg-sea recommend '{folder}' --user 0"
    out, _ = call(*shlex.split(command)[1:])
    assert len(out.splitlines()) == 1 + 10


@pytest.mark.parametrize(
    ('args', 'code', 'message'),
    [
        (['nowhere'], 1, "there is no folder '{cwd}/nowhere': 'pyg-sea pr"),
        (['orders.csv'], 1, "there is no folder '{cwd}/orders.csv': 'pyg"),
        (['photos'], 1, "'pyg-sea prepare' makes such a folder"),
        (['data/shop', '--model', 'BM3'], 2, "'BM3' is not one of 'SEA'"),
        (['data/shop', '--set', 'alpa=1'], 1, "--set holds 'alpa', which is"),
        (['nowhere', '--set', 'foo=1'], 1, 'Those are: hidden_channels, '),
        (
            ['data/shop', '--set', 'alpha=[1]'],
            1,
            "{'alpha': [1]} do not fit the model 'SEA'",
        ),
        (['data/shop', '--set', 'alpha'], 2, 'KEY=VALUE is needed (got'),
        (['data/shop', '--modality', 'a=b.npy'], 1, "b.npy' does not exist"),
        (['data/shop', '--graph-weight', 'text=x'], 2, 'could not convert'),
        (
            ['data/shop', '--graph-weight', 'x=1'],
            1,
            "--graph-weight name unknown modalities ['x",
        ),
        (['data/shop', '--graph-k', '99'], 1, 'lower --graph-k'),
        (['data/shop', '--weight', 'x'], 1, "has no column 'x'"),
        (['data/shop', '--epochs', '0'], 2, '0 is not in the range'),
        (['data/shop', '--name', 'x'], 1, "needs to hold 'x.inter' (got"),
        (['demo', '--normalize', 'l2'], 1, "'demo', take no ['normalize']"),
    ],
)
def test_bad_input(shop, call, prepared, tmp_path, args, code, message):
    _, err = call('train', *args, '--out', tmp_path / 'run', code=code)
    last = err.splitlines()[-1]
    assert last.startswith('Error: ')
    assert message.replace('{cwd}', str(shop)) in last
    assert not (tmp_path / 'run').exists()
