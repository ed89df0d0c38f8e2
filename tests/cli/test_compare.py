import pandas as pd
import pytest
import torch

from pyg_sea.runs import Run

ARGS = ['compare', 'data/shop', '--model', 'SEA', '--model', 'VBPR']
ARGS += ['--epochs', '2', '--batch-size', '64', '--device', 'cpu']
TABLE = 'comparison.csv'
# One run has 2 epochs of 6 steps.
STEP = 'pyg_sea.training.module:RecommenderModule.training_step'


@pytest.fixture(scope='module')
def compared(prepared, process):
    """What `compare` said; it wrote `runs/compare`."""
    return process(*ARGS, '--out', 'runs/compare', '--seeds', '2')[0]


def test_table_is_of_the_runs(shop, compared):
    table = pd.read_csv(shop / 'runs' / 'compare' / TABLE)
    rows = table.set_index(['model', 'split', 'metric'])
    for model in ('SEA', 'VBPR'):
        runs = [
            Run.open(shop / 'runs' / 'compare' / model / f'seed-{seed}')
            for seed in range(2)
        ]
        for split in ('validation', 'test'):
            values = [run.metrics[split]['recall@20'] for run in runs]
            mean = sum(values) / 2
            std = abs(values[0] - values[1]) / 2**0.5
            row = rows.loc[model, split, 'recall@20']
            assert row['mean'] == pytest.approx(mean)
            assert row['std'] == pytest.approx(std, abs=1e-9)
            assert row['num_seeds'] == 2
            assert f'{mean:.4f} ± {std:.4f}' in compared
    assert ('popularity', 'test', 'ndcg@10') in rows.index


def test_what_is_there_is_not_trained_again(shop, compared, call):
    folder = shop / 'runs' / 'compare'
    table = pd.read_csv(folder / TABLE)
    first = folder / 'SEA' / 'seed-0' / 'best.ckpt'
    stamps = [first.stat().st_mtime_ns]
    (first.parent.parent / 'seed-1' / 'metrics.json').unlink()
    args = [*ARGS, '--out', 'runs/compare']
    call(*args, '--seeds', '2')
    again = pd.read_csv(folder / TABLE)
    assert first.stat().st_mtime_ns == stamps[0]
    pd.testing.assert_frame_equal(table, again)
    _, err = call(*args[:-1], 'data/shop', '--lr', '-1', code=2)
    assert 'not in the range x>0' in err


def assert_goes_on(shop, call, err, folder, args):
    """See that nothing is half-written, and go on."""
    [message] = [x for x in err.splitlines() if x.startswith('Error')]
    command = f'pyg-sea {" ".join(args)}'
    assert message == f'Error: interrupted. Go on with: {command}'
    assert not (folder / TABLE).exists()
    assert not [x for x in folder.rglob('*') if x.name.startswith('.')]
    call(*command.split()[1:])
    expected = shop / 'runs' / 'compare' / TABLE
    assert (folder / TABLE).read_bytes() == expected.read_bytes()


def test_interrupted_goes_on_to_the_same_table(
    shop, compared, interrupted, call
):
    args = [*ARGS, '--seeds', '2', '--out', 'runs/cut']
    # The second epoch of the second run.
    out, err = interrupted(STEP, 12 + 8, *args)
    assert out.startswith('SEA, seed 0: ')
    assert 'seed 1' not in out
    folder = shop / 'runs' / 'cut'
    done, cut = (folder / 'SEA' / f'seed-{i}' for i in range(2))
    stamp = (done / 'best.ckpt').stat().st_mtime_ns
    assert len(Run.open(done).history) == 2
    with pytest.raises(ValueError, match='not come to its end'):
        Run.open(cut)
    last = torch.load(cut / 'last.ckpt', weights_only=True)
    assert last['epoch'] == 0
    assert_goes_on(shop, call, err, folder, args)
    assert (done / 'best.ckpt').stat().st_mtime_ns == stamp
    assert len(Run.open(cut).history) == 2


@pytest.mark.parametrize(
    ('where', 'number'),
    [
        ('pyg_sea.runs._compare:load_data', 1),
        (STEP, 1),
        # The second run: it has its settings, or lacks its metrics only.
        ('pyg_sea.runs.train:write_json', 3),
        ('pyg_sea.runs.train:Catalogue.save', 2),
        # All but the table.
        ('pyg_sea.runs._compare:train_run', 4),
    ],
)
def test_interrupted_anywhere(
    shop, compared, call, call_interrupted, tmp_path, where, number
):
    args = [*ARGS, '--seeds', '2', '--out', str(tmp_path)]
    _, err = call_interrupted(where, number, *args)
    assert_goes_on(shop, call, err, tmp_path, args)


def test_a_run_with_more_epochs_stays_as_it_is(call, prepared, tmp_path):
    args = ['compare', 'data/shop', '--model', 'VBPR', '--seeds', '1']
    args += ['--batch-size', '64', '--out', tmp_path, '--epochs']
    call(*args, 3)
    run = tmp_path / 'VBPR' / 'seed-0'
    for epochs in (2, 1):
        _, err = call(*args, epochs, code=1)
        assert '--epochs needs to be at least 3, as many as the' in err
        assert f'(got {epochs})' in err
    assert Run.open(run).metrics['epochs'] == 3
