import json
import shutil

import pytest
import torch

from pyg_sea.evaluate import evaluate
from pyg_sea.nn import SEA
from pyg_sea.recommend import EmbeddingScorer
from pyg_sea.runs import Run, make_settings, train_run
from pyg_sea.transforms import model_inputs

from .made import make_folder

SHORT = {'max_epochs': 3, 'batch_size': 64}
SMALL = {'hidden_channels': 8, 'id_channels': 4, 'num_anchors': None}


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    return make_folder(tmp_path_factory.mktemp('runs') / 'shop')


@pytest.fixture(scope='module')
def settings(folder):
    return make_settings(folder, 'SEA', SMALL, k=5, seed=3, **SHORT)


@pytest.fixture(scope='module')
def run(settings, tmp_path_factory):
    path = tmp_path_factory.mktemp('runs') / 'run'
    train_run(settings, path, progress=False, accelerator='cpu')
    return Run.open(path)


def test_settings_say_everything(folder, settings):
    assert settings['data'] == {
        'folder': str(folder),
        'name': 'shop',
        'modalities': {'image': 'image_feat.npy', 'text': 'text_feat.npy'},
        'normalize': 'standard',
        'weight': None,
        'k': 5,
        'graph_weights': None,
    }
    assert settings['model'] == {'name': 'SEA', 'settings': SMALL}
    assert settings['train'] == {
        'lr': 1e-3,
        'max_epochs': 3,
        'patience': 20,
        'batch_size': 64,
        'precision': '32-true',
        'seed': 3,
    }


def test_presets_come_as_published(folder):
    settings = make_settings(folder, 'SEA.paper')
    assert settings['train']['lr'] == 1e-4
    assert settings['data']['normalize'] is None
    settings = make_settings(folder, normalize='none', lr=0.5)
    assert settings['train']['lr'] == 0.5
    assert settings['data']['normalize'] is None


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


def test_same_seed_same_run_other_seed_another(run, settings, tmp_path):
    def scores(seed, name):
        train = {**settings['train'], 'seed': seed}
        other = train_run(
            {**settings, 'train': train},
            tmp_path / name,
            progress=False,
            accelerator='cpu',
        )
        return other.recommender().score(['u-07'], ['i-05'])[0]

    expected = run.recommender().score(['u-07'], ['i-05'])[0]
    assert scores(3, 'same') == expected
    assert scores(4, 'other') != expected


def test_generated_data_and_weighted_graph(tmp_path):
    settings = make_settings(
        'demo', 'FREEDOM', k=3, graph_weights={'text': 2.0}, max_epochs=1
    )
    run = train_run(settings, tmp_path / 'run', progress=False)
    data = run.data()
    weight = data['item', 'similar', 'item'].edge_weight
    assert float(weight.sum()) == pytest.approx(2.0 * 1000, rel=1e-4)
    assert run.recommender().user_ids[:2].tolist() == [0, 1]


def test_interactions_may_have_weights(folder, settings, tmp_path):
    settings = make_settings(folder, 'VBPR', weight='rating', **SHORT)
    store = train_run(settings, tmp_path, progress=False).data()[
        'user', 'buys', 'item'
    ]
    assert store.edge_weight.unique().tolist() == [1.0]


def test_resume_prolongs_a_run(run, settings, tmp_path):
    path = tmp_path / 'run'
    short = {**settings, 'train': {**settings['train'], 'max_epochs': 1}}
    train_run(short, path, progress=False, accelerator='cpu')
    (path / 'metrics.json').unlink()
    with pytest.raises(ValueError, match=r'not come to its end.*--resume'):
        Run.open(path)
    done = train_run(
        settings, path, resume=True, progress=False, accelerator='cpu'
    )
    expected = {**run.metrics, 'seconds': done.metrics['seconds']}
    assert done.metrics == expected


@pytest.mark.parametrize(
    ('part', 'key', 'value'),
    [
        ('data', 'k', 4),
        ('model', 'name', 'VBPR'),
        ('train', 'lr', 0.5),
        ('train', 'seed', 4),
    ],
)
def test_resume_refuses_other_settings(run, settings, part, key, value):
    other = {**settings, part: {**settings[part], key: value}}
    with pytest.raises(ValueError, match=f"'{key}' was .*got {value!r}"):
        train_run(other, run.path, resume=True)
    with pytest.raises(FileExistsError, match='holds a run already'):
        train_run(settings, run.path)


def test_other_folders_are_left_alone(settings, tmp_path):
    (tmp_path / 'letter.txt').write_text('Dear')
    with pytest.raises(FileExistsError, match='no run folder'):
        train_run(settings, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ['letter.txt']


def test_a_run_that_cannot_start_leaves_nothing(folder, tmp_path):
    settings = make_settings(folder, 'SEA', {'alpa': 1})
    with pytest.raises(ValueError, match=r"'alpa': 1.*do not fit.*'SEA'"):
        train_run(settings, tmp_path / 'run')
    assert not (tmp_path / 'run').exists()


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


@pytest.mark.parametrize(
    ('kwargs', 'message'),
    [
        ({'model': 'BM3'}, "'model' needs to be one of .*'BM3'"),
        ({'epochs': 3}, r"'train' needs .*\['epochs'\]"),
        ({'normalize': 'max'}, "'normalize' needs .*'max'"),
    ],
)
def test_refuses_settings(folder, kwargs, message):
    with pytest.raises(ValueError, match=message):
        make_settings(folder, **kwargs)


def test_refuses_folders(folder, tmp_path):
    with pytest.raises(ValueError, match=r"'demo', take no \['weight'\]"):
        make_settings('demo', weight='rating')
    with pytest.raises(FileNotFoundError, match=r'is no folder.*prepare'):
        make_settings(tmp_path / 'none')
    with pytest.raises(FileNotFoundError, match=r'needs to hold one \.inter'):
        make_settings(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"'x.inter'.*\['shop'\]"):
        make_settings(folder, name='x')
    shutil.copy(folder / 'shop.inter', tmp_path)
    with pytest.raises(FileNotFoundError, match='no feature file'):
        make_settings(tmp_path)
