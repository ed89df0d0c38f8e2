import json
import shutil
from pathlib import Path

import pytest
import torch

from pyg_sea.evaluate import evaluate
from pyg_sea.nn import SEA
from pyg_sea.recommend import EmbeddingScorer
from pyg_sea.runs import Run
from pyg_sea.transforms import model_inputs

from .made import make_folder


def test_what_is_opened_is_what_was_trained(run, settings):
    stored = json.loads((run.path / 'run.json').read_text())
    assert run.settings == stored
    assert {key: stored[key] for key in settings} == settings
    assert stored['format'] == 1
    assert len(run.history) == run.metrics['epochs'] == 3
    best = run.history['val/recall@20'].idxmax()
    assert run.metrics['best_epoch'] == best
    row = run.history.iloc[best]
    for name, value in run.metrics['validation'].items():
        assert row[f'val/{name}'] == pytest.approx(value, abs=1e-9)
    total = run.history['seconds'].sum()
    assert run.metrics['seconds'] == pytest.approx(total)
    assert repr(run) == f"Run('{run.path}')"


def test_weights_of_the_best_epoch_give_the_test_metrics(run):
    data = run.data()
    assert data['user'].external_id[:2] == ['u-00', 'u-01']
    model = run.model(data)
    assert isinstance(model, SEA)
    assert not model.training
    store = data['user', 'buys', 'item']
    with torch.no_grad():
        rows = model.get_embedding(**model_inputs(data)).split([60, 40])
    found = evaluate(
        EmbeddingScorer(*rows), store.test_edge_index, store.edge_index
    )
    assert found == pytest.approx(run.metrics['test'])


def test_recommender_has_the_scores_of_the_model(run):
    data, recommender = run.data(), run.recommender()
    with torch.no_grad():
        rows = run.model().get_embedding(**model_inputs(data))
    users, items = ['u-07', 'u-31'], ['i-05', 'i-39']
    expected = (rows[[7, 31]] * rows[[65, 99]]).sum(dim=1)
    found = torch.from_numpy(recommender.score(users, items))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


def test_refuses_what_is_no_run(run, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"'.*none' does not exist"):
        Run.open(tmp_path / 'none')
    with pytest.raises(FileNotFoundError, match=r"has no 'run\.json'"):
        Run.open(tmp_path)
    copy = tmp_path / 'copy'
    shutil.copytree(run.path, copy)
    (copy / 'run.json').write_text('{"format": 2, "pyg_sea": "9.0"}')
    with pytest.raises(ValueError, match=r'format 2, written by pyg_sea 9.0'):
        Run.open(copy)
    (copy / 'run.json').write_text('[1]')
    with pytest.raises(ValueError, match='not written by pyg_sea'):
        Run.open(copy)
    (copy / 'run.json').write_text('{"format"')
    with pytest.raises(ValueError, match='cut short'):
        Run.open(copy)


def test_data_that_have_changed_are_noticed(run):
    other = make_folder(run.path.parent / 'other', num_users=50)
    data = {**run.settings['data'], 'folder': str(other)}
    changed = Run(run.path, {**run.settings, 'data': data}, run.metrics)
    with pytest.raises(ValueError, match='must have changed since'):
        changed.model()


@pytest.mark.parametrize('content', [None, b'', b'PK', b'no weights'])
def test_weights_that_cannot_be_read(run, tmp_path, content):
    copy = Path(shutil.copytree(run.path, tmp_path / 'copy'))
    weights = (copy / 'best.ckpt').read_bytes()
    half = weights[: len(weights) // 2] if content is None else content
    (copy / 'best.ckpt').write_bytes(half)
    with pytest.raises(ValueError, match=r'best\.ckpt.* cannot be read'):
        Run.open(copy).model()
    (copy / 'best.ckpt').unlink()
    with pytest.raises(ValueError, match='No such file'):
        Run.open(copy).model()
