import random
import subprocess
import sys
import warnings
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from lightning.pytorch import Callback, Trainer

from pyg_sea.nn import SEA, ReleasedSEA
from pyg_sea.training import (
    LastCheckpoint,
    ProgressBar,
    RandomStates,
    RecommenderDataModule,
    RecommenderModule,
    train,
)
from pyg_sea.transforms import model_inputs

from .models import fake_data, tiny_model

KWARGS = {'batch_size': 100, 'lr': 1e-2, 'progress': False}


def make(name, data):
    if name == 'tiny':
        return tiny_model()
    torch.manual_seed(0)
    data['item'].x_image = data['item'].x_text.flip(1)
    modal_x = model_inputs(data)['modal_x']
    widths = {name: x.size(1) for name, x in modal_x.items()}
    if name == 'SEA':
        return SEA(60, 40, widths, hidden_channels=8)
    if name == 'SEA.paper':  # With the optimizers of its estimators.
        club_kwargs = {'num_steps': 2}
        return SEA.paper(
            60, 40, widths, hidden_channels=8, club_kwargs=club_kwargs
        )
    return ReleasedSEA(60, 40, widths, hidden_channels=8, num_steps=2)


def assert_equal(a, b):
    """Equal to the bit, through dictionaries and lists."""
    if isinstance(a, dict):
        assert list(a) == list(b)
        for name in a:
            assert_equal(a[name], b[name])
    elif isinstance(a, (list, tuple)):
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            assert_equal(x, y)
    elif isinstance(a, torch.Tensor):
        assert torch.equal(a, b)
    else:
        assert a == b


def load(path):
    return torch.load(path, weights_only=True)


def without_seconds(rows):
    return [
        {name: value for name, value in row.items() if name != 'seconds'}
        for row in rows
    ]


class StopAt(Callback):
    def __init__(self, epoch):
        self.epoch = epoch

    def on_train_epoch_start(self, trainer, pl_module):
        if trainer.current_epoch == self.epoch:
            raise RuntimeError('power cut')


def test_learns_and_reports(tmp_path, capfd):
    data, model = fake_data(), tiny_model()
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        result = train(
            model,
            data,
            tmp_path,
            max_epochs=15,
            seed=1,
            k=(5, 10),
            monitor='recall@5',
            **KWARGS,
        )
    assert capfd.readouterr() == ('', '')
    assert result.num_epochs == 15 == len(result.history)
    assert result.history[-1]['train/loss'] < result.history[0]['train/loss']
    assert result.val['recall@5'] > result.history[0]['val/recall@5']
    assert list(result.test) == ['recall@5', 'recall@10', 'ndcg@5', 'ndcg@10']
    assert result.test['recall@5'] > 0.2
    assert model.num_backward <= 15 * 5

    table = pd.read_csv(tmp_path / 'metrics.csv')
    assert len(table) == 15
    assert table.notna().all().all()
    assert set(table) > {'epoch', 'step', 'seconds', 'train/bpr', 'train/norm'}
    # The first of equally good epochs.
    assert result.best_epoch == table['val/recall@5'].idxmax()
    assert result.val['recall@5'] == table['val/recall@5'].max()
    assert {path.name for path in tmp_path.iterdir()} == {
        'best.ckpt',
        'last.ckpt',
        'metrics.csv',
    }

    # The model carries the weights of its best epoch.
    module = RecommenderModule(model, data, k=(5, 10))
    store = data['user', 'buys', 'item']
    assert module.evaluate(store.test_edge_index) == pytest.approx(
        result.test, abs=1e-7
    )
    best = load(tmp_path / 'best.ckpt')
    assert_equal(dict(best['state_dict']), dict(module.state_dict()))
    assert 'optimizer_states' not in best
    assert str(tmp_path) not in str(load(tmp_path / 'last.ckpt')['callbacks'])


def test_early_stopping_and_more_patience(tmp_path):
    def run(patience, resume, **kwargs):
        return train(
            tiny_model(),
            fake_data(),
            tmp_path,
            patience=patience,
            seed=1,
            resume=resume,
            **{**KWARGS, 'lr': 0.0, **kwargs},
        )

    result = run(2, resume=False)
    assert (result.best_epoch, result.num_epochs) == (0, 3)
    again = run(2, resume=True)
    assert again.test == result.test
    assert (again.best_epoch, again.num_epochs) == (0, 3)
    assert run(4, resume=True).num_epochs == 5


@pytest.mark.parametrize('model', ['tiny', 'SEA', 'SEA.paper', 'ReleasedSEA'])
@pytest.mark.parametrize('how', ['finished', 'killed'])
def test_resume_is_bit_for_bit(tmp_path, model, how):
    data = fake_data()

    def run(out, max_epochs, resume=False, **kwargs):
        result = train(
            make(model, data),
            data,
            tmp_path / out,
            max_epochs=max_epochs,
            seed=7,
            resume=resume,
            gradient_clip_val=1.0,
            **KWARGS,
            **kwargs,
        )
        return result, load(tmp_path / out / 'last.ckpt')

    expected, reference = run('straight', 6)
    if how == 'finished':
        run('stopped', 3)
    else:
        with pytest.raises(RuntimeError, match='power cut'):
            run('stopped', 6, callbacks=[StopAt(3)])
    # The state at the moment of the interruption must not matter.
    random.seed(5)
    np.random.seed(5)  # noqa: NPY002
    torch.manual_seed(5)
    (tmp_path / 'stopped').rename(tmp_path / 'moved')
    result, state = run('moved', 6, resume=True)

    assert result.num_epochs == 6
    assert without_seconds(result.history) == without_seconds(expected.history)
    assert (result.val, result.test) == (expected.val, expected.test)
    assert result.best_epoch == expected.best_epoch
    for key in ('state_dict', 'optimizer_states', 'RecommenderDataModule'):
        assert_equal(state[key], reference[key])
    for name, callback in state['callbacks'].items():
        if name != 'History':
            assert_equal(callback, reference['callbacks'][name])
    best = [
        load(tmp_path / out / 'best.ckpt')['state_dict']
        for out in ('straight', 'moved')
    ]
    assert_equal(*best)


SCRIPT = """
import sys
from tests.training.models import fake_data, tiny_model
from pyg_sea.training import train
train(tiny_model(), fake_data(), sys.argv[1], max_epochs=4, resume=True,
      batch_size=100, lr=1e-2, seed=7, progress=False)
"""


def test_resume_in_another_process(tmp_path, pytestconfig):
    for out, max_epochs in [('a', 4), ('b', 2)]:
        train(
            tiny_model(),
            fake_data(),
            tmp_path / out,
            max_epochs=max_epochs,
            seed=7,
            **KWARGS,
        )
    subprocess.run(
        [sys.executable, '-c', SCRIPT, tmp_path / 'b'],
        cwd=pytestconfig.rootpath,
        check=True,
    )
    a, b = (load(tmp_path / out / 'last.ckpt') for out in 'ab')
    for key in ('state_dict', 'optimizer_states', 'RecommenderDataModule'):
        assert_equal(a[key], b[key])


def test_resume_without_a_checkpoint_starts(tmp_path):
    result = train(
        tiny_model(),
        fake_data(),
        tmp_path,
        max_epochs=1,
        resume=True,
        **KWARGS,
    )
    assert result.num_epochs == 1


@pytest.mark.parametrize('value', [float('nan'), float('inf')])
def test_poison_stops_the_run_and_keeps_the_last_good_epoch(tmp_path, value):
    model = tiny_model()
    healthy = model.loss

    def loss(**kwargs):
        total, terms = healthy(**kwargs)
        if model.num_backward == 12:
            terms['norm'] = terms['norm'] * value
        return total, terms

    model.loss = loss
    message = f"epoch 2, step 2: 'norm' = {value}"
    with pytest.raises(FloatingPointError, match=message):
        train(model, fake_data(), tmp_path, max_epochs=9, seed=1, **KWARGS)
    last = load(tmp_path / 'last.ckpt')
    assert last['epoch'] <= 1
    for state in (last['state_dict'], load(tmp_path / 'best.ckpt')):
        for tensor in state.values():
            if isinstance(tensor, torch.Tensor):
                assert tensor.isfinite().all()


def test_poisoned_weights_are_never_saved(tmp_path):
    class Poison(Callback):
        def on_train_batch_end(self, trainer, pl_module, *_):
            if trainer.is_last_batch and trainer.current_epoch == 1:
                pl_module.model.lin.bias.data.fill_(float('nan'))

    message = r"weights are not finite after epoch 1, step 4: \['lin.bias'\]"
    with pytest.raises(FloatingPointError, match=message):
        train(
            tiny_model(),
            fake_data(),
            tmp_path,
            max_epochs=3,
            callbacks=[Poison()],
            **KWARGS,
        )
    for name in ('last.ckpt', 'best.ckpt'):
        state = load(tmp_path / name)
        assert state['epoch'] == 0
        assert state['state_dict']['model.lin.bias'].isfinite().all()


def test_scores_that_overflow_name_epoch_and_step(tmp_path):
    class Blow(Callback):
        def on_train_batch_end(self, trainer, pl_module, *_):
            if trainer.is_last_batch and trainer.current_epoch == 1:
                pl_module.model.lin.bias.data.fill_(1e38)
                pl_module.model.gcn.embedding.weight.data.fill_(1e38)

    message = "after epoch 1, step 4, 'scorer' needs to return finite"
    with pytest.raises(FloatingPointError, match=message):
        train(
            tiny_model(),
            fake_data(),
            tmp_path,
            max_epochs=3,
            callbacks=[Blow()],
            **KWARGS,
        )
    assert load(tmp_path / 'last.ckpt')['epoch'] == 0


def test_one_metric_and_edge_type():
    data = fake_data()
    data['user', 'views', 'item'].edge_index = torch.zeros(2, 1).long()
    kwargs = {'max_epochs': 1, 'metrics': 'recall', 'k': 20, **KWARGS}
    with pytest.raises(ValueError, match="'edge_type' needs to name"):
        train(tiny_model(), data, **kwargs)
    edge_type = ('user', 'buys', 'item')
    result = train(tiny_model(), data, edge_type=edge_type, **kwargs)
    assert list(result.test) == ['recall@20']
    assert list(result.val) == ['recall@20']


def test_writing_is_rationed(tmp_path):
    data = fake_data()
    epochs = []

    class Slow(LastCheckpoint):
        def _save_checkpoint(self, trainer, filepath):
            epochs.append(trainer.current_epoch)
            super()._save_checkpoint(trainer, filepath)

    for overhead, expected in [(1e-9, [0, 5]), (0, [0, 1, 2, 3, 4, 5])]:
        epochs.clear()
        Trainer(
            max_epochs=6,
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            callbacks=[Slow(tmp_path, overhead)],
        ).fit(
            RecommenderModule(tiny_model(), data),
            datamodule=RecommenderDataModule(data),
        )
        assert epochs == expected


def test_progress_shows_the_terms(capsys):
    train(
        tiny_model(), fake_data(), max_epochs=2, **{**KWARGS, 'progress': True}
    )
    out = ''.join(capsys.readouterr())
    for name in ('loss=', 'bpr=', 'norm=', 'val/recall@20='):
        assert name in out
    assert 'Validation' not in out
    assert 'Testing' not in out
    assert ProgressBar().refresh_rate == 10


def test_progress_never_looks_at_the_terms_itself():
    module = RecommenderModule(tiny_model(), fake_data())
    module.terms.every = 3
    trainer = SimpleNamespace(loggers=[], progress_bar_metrics={})
    shown = []
    for value in (1.0, 2.0, 3.0, 9.0):
        module.terms.add({'bpr': torch.tensor(value)})
        shown.append(ProgressBar().get_metrics(trainer, module))
    assert shown == [{}, {}, {'bpr': 2.0}, {'bpr': 2.0}]
    assert module.terms.means() == {'bpr': 3.75}


def test_random_states_survive_a_file(tmp_path):
    def draw():
        legacy = np.random.rand()  # noqa: NPY002
        return random.random(), legacy, torch.rand(3).tolist()

    torch.save(RandomStates().state_dict(), tmp_path / 'state.pt')
    expected = draw()
    callback = RandomStates()
    callback.load_state_dict(load(tmp_path / 'state.pt'))
    draw()
    callback.on_train_start(None, None)
    assert draw() == expected
    callback.on_train_start(None, None)  # only once
    assert draw() != expected


@pytest.mark.parametrize('precision', ['bf16-mixed', 'bf16-true'])
@pytest.mark.parametrize('clip', [None, 1.0])
def test_bf16(precision, clip):
    result = train(
        tiny_model(),
        fake_data(),
        max_epochs=1,
        precision=precision,
        gradient_clip_val=clip,
        **KWARGS,
    )
    assert result.test['recall@20'] > 0


def test_malformed_input(tmp_path):
    with pytest.raises(ValueError, match="'monitor' needs to be one of"):
        train(tiny_model(), fake_data(), monitor='recall@7')
    with pytest.raises(ValueError, match="'resume' needs 'out'"):
        train(tiny_model(), fake_data(), resume=True)
    for number in (0, -1):
        with pytest.raises(ValueError, match=f"'max_epochs' .*got {number}"):
            train(tiny_model(), fake_data(), max_epochs=number)


def test_import_without_lightning():
    code = (
        "import sys; sys.modules['lightning'] = None\n"
        'try:\n    import pyg_sea.training\n'
        'except ImportError as error:\n'
        "    assert '[lightning]' in str(error)\n"
        "else:\n    raise SystemExit('no ImportError')\n"
    )
    subprocess.run([sys.executable, '-c', code], check=True)
