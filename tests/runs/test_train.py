import json
import shutil
from pathlib import Path

import pytest

from pyg_sea.runs import Run, make_settings, train_run

from .made import SHORT, make_folder


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
    settings = make_settings(folder, 'SEA', {'alpha': [1]})
    with pytest.raises(ValueError, match=r"'alpha': \[1.*do not fit.*'SEA'"):
        train_run(settings, tmp_path / 'run')
    assert not (tmp_path / 'run').exists()


def files(folder):
    return {
        path: path.read_bytes() for path in folder.rglob('*') if path.is_file()
    }


@pytest.fixture
def copy(run, tmp_path):
    return Path(shutil.copytree(run.path, tmp_path / 'copy'))


@pytest.mark.parametrize('max_epochs', [2, 1])
def test_resume_needs_as_many_epochs_as_there_are(settings, copy, max_epochs):
    train = {**settings['train'], 'max_epochs': max_epochs}
    before = files(copy)
    with pytest.raises(
        ValueError, match=rf'at least 3, as many .*\(got {max_epochs}\)'
    ):
        train_run({**settings, 'train': train}, copy, resume=True)
    assert files(copy) == before


def test_a_run_that_cannot_go_on_stays_as_it_is(settings, copy, tmp_path):
    # More users than there were.
    data = {**settings['data'], 'folder': str(tmp_path / 'grown')}
    make_folder(tmp_path / 'grown', num_users=70)
    content = {**settings, 'data': data}
    stored = json.loads((copy / 'run.json').read_text())
    (copy / 'run.json').write_text(json.dumps({**stored, 'data': data}))
    before = files(copy)
    with pytest.raises(ValueError, match=r'grown.* must have changed since'):
        train_run(content, copy, resume=True)
    assert files(copy) == before

    last = (copy / 'last.ckpt').read_bytes()
    (copy / 'last.ckpt').write_bytes(last[: len(last) // 2])
    before = files(copy)
    with pytest.raises(ValueError, match=r'last\.ckpt.* cannot be read'):
        train_run(content, copy, resume=True)
    assert files(copy) == before
