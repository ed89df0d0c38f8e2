import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F

from pyg_sea.datasets import FakeMultimodal
from pyg_sea.evaluate import evaluate
from pyg_sea.transforms import model_inputs

pytest.importorskip('lightning', reason='the benchmarks train')

FOLDER = Path(__file__).parents[2] / 'benchmarks' / 'quality'
sys.path.insert(0, str(FOLDER))
import catalogue  # noqa: E402
import grids  # noqa: E402
import models  # noqa: E402
import records  # noqa: E402
import run  # noqa: E402
import tune  # noqa: E402
from models.mgcn import normalized  # noqa: E402
from per_user import per_user  # noqa: E402

sys.path.remove(str(FOLDER))

pytestmark = pytest.mark.filterwarnings('ignore')
COMMIT = 'f' * 40


@pytest.fixture(autouse=True)
def _no_git(monkeypatch):
    """Results do not depend on what a checkout looks like."""
    about = {'machine': 'a machine', 'torch': torch.__version__}
    monkeypatch.setattr(
        run, 'environment', lambda: {'commit': COMMIT, **about}
    )


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """A small catalogue in the MMRec format, with a ready-made graph."""
    root = tmp_path_factory.mktemp('data') / 'shop'
    root.mkdir()
    data = FakeMultimodal(num_users=80, num_items=60)[0]
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
    row = np.arange(60).repeat(2)
    col = np.stack([np.arange(60), (np.arange(60) + 1) % 60], 1).ravel()
    cos = np.tile([1.0, 0.25], 60)
    np.savez(root / 'text_knn2.npz', row=row, col=col, cos=cos, n=60)
    return root


def options(folder, *more):
    return [
        *('--data', str(folder), '--modality', 'image=image.npy'),
        *('--modality', 'text=text.npy', '--k', '4', *map(str, more)),
    ]


@pytest.fixture
def shop(folder):
    return read(folder)


def read(folder, *more):
    parser = run.argparse.ArgumentParser()
    catalogue.add_arguments(parser)
    return catalogue.read(parser.parse_args(options(folder, *more)))


# --- the data


def test_catalogue_reads_what_the_command_line_says(folder):
    shop = read(
        folder,
        *('--normalize', 'l2', '--normalize', 'text=none'),
        *('--graph-weight', 'image=0.1', '--graph-weight', 'text=0.9'),
        *('--neighbors', 'text=text_knn2.npz'),
    )
    assert shop.name == 'shop'
    item = shop.data['item']
    assert list(model_inputs(shop.data)['modal_x']) == ['image', 'text']
    torch.testing.assert_close(item.x_image.norm(dim=1), torch.ones(60))
    raw = np.load(folder / 'text.npy')
    assert np.array_equal(item.x_text.numpy(), raw)
    graph = shop.data['item', 'similar', 'item']
    adj = torch.zeros(60, 60)
    adj[graph.edge_index[1], graph.edge_index[0]] = graph.edge_weight
    torch.testing.assert_close(adj.sum(1), torch.ones(60))
    # Half of what the text weighs, and maybe a quarter of the image's.
    assert float(adj[5, 6]) in (pytest.approx(0.45), pytest.approx(0.475))

    inputs = shop.inputs
    assert inputs['normalize'] == {'image': 'l2', 'text': None}
    assert list(inputs['sha256']) == [
        *('shop.inter', 'image.npy', 'text.npy', 'text_knn2.npz')
    ]
    assert json.loads(json.dumps(inputs)) == inputs
    assert read(folder).inputs['normalize']['text'] == 'standard'
    above = read(folder.parent, '--name', 'shop')
    assert above.inputs == read(folder).inputs


def test_files_decide_the_key(folder, tmp_path, shop):
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    assert read(tmp_path).inputs == shop.inputs
    x = np.load(tmp_path / 'text.npy')
    x[0, 0] += 1
    np.save(tmp_path / 'text.npy', x)
    other = read(tmp_path)
    keys = [run.key(s, 'vbpr', {}, 0) for s in (shop, other)]
    assert records.key_of(keys[0]) != records.key_of(keys[1])


def test_item_graphs_of_single_modalities(folder):
    shop = read(folder, '--neighbors', 'text=text_knn2.npz')
    graphs = shop.item_graphs()
    adj = {}
    for name, (edge_index, weight) in graphs.items():
        adj[name] = torch.zeros(60, 60)
        adj[name][edge_index[1], edge_index[0]] = weight
    # Cosines of 1 and 1/4 in each row.
    expected = torch.eye(60) * 0.8 + torch.eye(60).roll(1, 1) * 0.2
    torch.testing.assert_close(adj['text'], expected)

    unit = F.normalize(shop.data['item'].x_image)
    cosine = unit @ unit.t()
    top = cosine.topk(4).indices
    K = torch.zeros(60, 60).scatter(1, top, cosine.gather(1, top)).clamp(min=0)
    scale = K.sum(1).rsqrt()
    torch.testing.assert_close(adj['image'], scale[:, None] * K * scale)


def test_normalized_keeps_lonely_items_finite():
    edge_index = torch.tensor([[0, 1], [1, 2]])
    _, weight = normalized(edge_index, torch.tensor([0.5, -0.5]), 3)
    assert weight.tolist() == [0.0, 0.0]


# --- the models


@pytest.mark.parametrize('name', models.MODELS)
def test_every_model_learns(shop, tmp_path, name):
    settings = {'max_epochs': 3, 'batch_size': 256, 'lr': 0.01}
    row, users = run.run(shop, name, settings, 0, tmp_path)
    assert row['epochs'] == 3
    assert row['settings']['train']['patience'] == 20
    assert row['settings']['train']['lr'] == 0.01
    assert row['parameters'] > 0
    assert row['seconds'] > 0
    assert row['commit'] == COMMIT
    for metric in ('recall@20', 'ndcg@20'):
        assert float(users[metric].mean()) == pytest.approx(
            row['test'][metric], abs=1e-6
        )
    # 20 of 60 items at random would find a third.
    assert row['validation']['recall@20'] > 0.34
    assert not any(tmp_path.iterdir())
    again, _ = run.run(shop, name, settings, 0, tmp_path)
    assert again['test'] == row['test']
    assert again['validation'] == row['validation']


@pytest.mark.parametrize('name', models.SCORERS)
def test_scorers_are_evaluated(shop, name):
    row, users = run.run(shop, name, {}, 0)
    scorer = models.SCORERS[name](shop.data)
    store = shop.data['user', 'buys', 'item']
    assert row['test'] == evaluate(
        scorer, store.test_edge_index, store.edge_index
    )
    assert row['settings']['train'] == {}
    assert users['recall@20'].mean() == pytest.approx(row['test']['recall@20'])


def test_settings_are_all_recorded():
    out = models.resolve('freedom', {'dropout': 0.5, 'lr': 1.0})
    assert out['model']['dropout'] == 0.5
    assert out['model']['num_layers'] == 2
    assert out['train']['lr'] == 1.0
    assert out['train']['max_epochs'] == 1000
    assert set(out['model']) == {
        'hidden_channels',
        'num_layers',
        'num_item_layers',
        'dropout',
        'lambda_modal',
    }
    assert models.resolve('sea', {'temperature': 1})['model']['temperature']
    assert models.resolve('sea_no_losses', {})['model']['alpha'] == 0
    assert models.resolve('sea_paper', {})['train']['lr'] == 1e-4
    for model, name in [('vbpr', 'dropot'), ('sea', 'num_users')]:
        with pytest.raises(ValueError, match=name):
            models.resolve(model, {name: 1})
    with pytest.raises(ValueError, match="'nn'"):
        models.resolve('nn', {})


def test_settings_are_parsed():
    values = [
        *('lr=1e-3', 'mode=slice', 'x=null', 'y=None', 'flag=true'),
        *('club_kwargs={"num_steps": 5}', 'pair=(1, 2)', 'expr=a=b'),
    ]
    assert run.parse_settings(values) == {
        'lr': 0.001,
        'mode': 'slice',
        'x': None,
        'y': None,
        'flag': True,
        'club_kwargs': {'num_steps': 5},
        'pair': (1, 2),
        'expr': 'a=b',
    }
    with pytest.raises(ValueError, match='NAME=VALUE'):
        run.parse_settings(['lr'])


# --- per user


def test_per_user_means_are_those_of_evaluate():
    scores = torch.randn(30, 25)
    scores[3, :22] = float('-inf')  # Fewer candidates than the cut-off.
    edges = torch.stack([torch.randint(30, (150,)), torch.randint(25, (150,))])
    train, held_out = edges[:, :75], edges[:, 75:]
    for k in (1, 5, 20):
        out = per_user(scores.__getitem__, held_out, train, k)
        expected = evaluate(scores.__getitem__, held_out, train, k)
        assert list(out) == list(expected)
        users = set(held_out[0].tolist()) & set(train[0].tolist())
        for name, values in out.items():
            assert values.shape == (len(users),)
            assert float(values.mean()) == pytest.approx(
                expected[name], abs=1e-6
            )


# --- the result file


def test_runs_are_skipped_resumed_and_kept(folder, tmp_path, monkeypatch):
    out, work = tmp_path / 'results' / 'a.jsonl', tmp_path / 'work'
    common = [
        *options(folder, '--model', 'freedom', '--set', 'batch_size=256'),
        *('--set', 'max_epochs=4', '--work', str(work)),
    ]
    run.main([*common, '--seeds', '1', '--out', str(tmp_path / 'ref.jsonl')])

    from lightning.pytorch import Callback

    class StopAt(Callback):
        def on_train_epoch_start(self, trainer, pl_module):
            if trainer.current_epoch == 2:
                raise RuntimeError('power cut')

    train = run.train
    with monkeypatch.context() as patch:
        patch.setattr(
            run, 'train', lambda *a, **k: train(*a, callbacks=[StopAt()], **k)
        )
        with pytest.raises(RuntimeError, match='power cut'):
            run.main([*common, '--seeds', '2', '--out', str(out)])
    assert not out.exists()
    [checkpoints] = work.iterdir()
    assert (checkpoints / 'last.ckpt').exists()

    epochs = []
    with monkeypatch.context() as patch:

        class Count(Callback):
            def on_train_epoch_start(self, trainer, pl_module):
                epochs.append(trainer.current_epoch)

        patch.setattr(
            run, 'train', lambda *a, **k: train(*a, callbacks=[Count()], **k)
        )
        run.main([*common, '--seeds', '2', '--out', str(out)])
    rows = records.read(out)
    assert [row['seed'] for row in rows] == [0, 1]
    assert epochs[-4:] == [0, 1, 2, 3]
    assert len(epochs) < 8
    assert not any(work.iterdir())

    [reference] = records.read(tmp_path / 'ref.jsonl')
    for name in ('validation', 'test', 'best_epoch', 'epochs', 'settings'):
        assert rows[0][name] == reference[name]
    assert rows[1]['validation'] != rows[0]['validation']
    users = records.read_users(records.users_path(out, rows[0]))
    assert users['recall@20'].mean() == pytest.approx(
        rows[0]['test']['recall@20'], abs=1e-3
    )

    def fail(*args, **kwargs):
        raise AssertionError('it was there already')

    monkeypatch.setattr(run, 'train', fail)
    run.main([*common, '--seeds', '2', '--out', str(out)])
    assert len(records.read(out)) == 2
    with pytest.raises(AssertionError, match='already'):
        run.main([*common, '--seeds', '3', '--out', str(out)])


def test_output_shows_no_test_metrics(folder, tmp_path, capsys):
    args = options(folder, '--model', 'popularity', '--out', tmp_path / 'a')
    run.main(args)
    [row] = records.read(tmp_path / 'a')
    text = capsys.readouterr().out
    assert f'{row["validation"]["recall@20"]:.4f}' in text
    for value in row['test'].values():
        assert f'{value:.4f}' not in text


def test_lines_that_were_cut_off(tmp_path):
    path = tmp_path / 'a.jsonl'
    assert records.read(path) == []
    records.append(path, {'a': 1})
    records.append(path, {'a': 2})
    whole = path.read_bytes()
    path.write_bytes(whole[:-4])
    assert records.read(path) == [{'a': 1}]
    records.append(path, {'a': 3})
    assert records.read(path) == [{'a': 1}, {'a': 3}]
    path.write_bytes(whole[:-1])  # Only the line feed is missing.
    records.append(path, {'a': 3})
    assert records.read(path) == [{'a': 1}, {'a': 2}, {'a': 3}]


# --- tuning


def test_grids_are_valid_and_of_equal_size():
    known = {*models.SCORERS, *models.MODELS} - {*models.CONTROLS}
    assert set(grids.GRIDS) == known
    for model, settings in grids.GRIDS.items():
        expected = 1 if model == 'popularity' else grids.NUM_TRIALS
        assert len({json.dumps(s) for s in settings}) == expected
        for trial in settings:
            models.resolve(model, trial)


def test_tuning_keeps_validation_only(folder, tmp_path, monkeypatch, capsys):
    grid = [{'lambda_reg': 1e3}, {'lambda_reg': 1e-3}]
    monkeypatch.setitem(grids.GRIDS, 'bpr_mf', grid)
    out = tmp_path / 'tuning.jsonl'
    args = options(folder, '--model', 'bpr_mf', '--out', out, '--work')
    args += [str(tmp_path / 'work'), '--set', 'max_epochs=8']
    args += ['--set', 'lr=0.05', '--set', 'batch_size=128']
    tune.main(args)
    rows = records.read(out)
    assert len(rows) == 2
    assert not any('test' in row for row in rows)
    assert 'test' not in capsys.readouterr().out
    tune.main(args)
    assert len(records.read(out)) == 2

    values = [row['validation']['recall@20'] for row in rows]
    assert values[1] > values[0]
    result = tmp_path / 'a.jsonl'
    run.main(
        options(
            folder,
            *('--model', 'bpr_mf', '--tuned', out, '--out', result),
            *('--seeds', 1, '--set', 'max_epochs=1', '--work', tmp_path),
        )
    )
    [row] = records.read(result)
    assert row['settings']['model']['lambda_reg'] == 1e-3
    assert row['settings']['train']['lr'] == 0.05
    assert row['settings']['train']['max_epochs'] == 1
    with pytest.raises(ValueError, match=r'tune\.py'):
        run.main(
            options(
                folder,
                *('--model', 'vbpr', '--tuned', out, '--out', result),
            )
        )


def test_plug_ins_are_tuned_on_top(folder, tmp_path, monkeypatch):
    bases = [{'lambda_reg': 1e3}, {'lambda_reg': 1e-3}]
    monkeypatch.setitem(grids.GRIDS, 'vbpr', bases)
    monkeypatch.setitem(grids.GRIDS, 'vbpr_separate', [{'alpha': 0.5}])
    out = tmp_path / 'tuning.jsonl'
    more = ['--out', out, '--work', tmp_path / 'work', '--tuned', out]
    more += ['--set', 'max_epochs=3', '--set', 'lr=0.05']
    with pytest.raises(ValueError, match="no trial of 'vbpr'"):
        tune.main(options(folder, '--model', 'vbpr_separate', *more))
    models = ['--model', 'vbpr', '--model', 'vbpr_separate']
    tune.main(options(folder, *models, *more))
    *trials, plugged = records.read(out)
    best = max(trials, key=lambda row: row['validation']['recall@20'])
    assert plugged['set'] == best['set'] | {'alpha': 0.5}
