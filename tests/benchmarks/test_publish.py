import json
import os
import re
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip('lightning', reason='the benchmarks train')
pytest.importorskip('sklearn', reason='fits ridge regressions')
pytest.importorskip('matplotlib', reason='draws')

FOLDER = Path(__file__).parents[2] / 'benchmarks' / 'quality'
sys.path.insert(0, str(FOLDER))
import catalogue  # noqa: E402
import commands  # noqa: E402
import controls  # noqa: E402
import grids  # noqa: E402
import pages  # noqa: E402
import publish  # noqa: E402
import records  # noqa: E402
import references  # noqa: E402
import run  # noqa: E402
import sensitivity  # noqa: E402
import tune  # noqa: E402

sys.path.remove(str(FOLDER))

pytestmark = pytest.mark.filterwarnings('ignore')
COMMIT = 'f' * 40
README = f"""# A package

before

{publish.START}

| an old table |

{publish.END}

after
"""
INPUTS = {
    'modalities': {'image': 'image.npy', 'text': 'text.npy'},
    'normalize': {'image': 'standard', 'text': 'standard'},
    'k': 10,
    'graph_weights': None,
    'neighbors': {},
    'sha256': {},
}


def line(model, seed, value, data='shop', inputs=INPUTS, **more):
    names = ('recall@10', 'recall@20', 'ndcg@10', 'ndcg@20')
    settings = more.pop('settings', {})
    return {
        'data': data,
        'model': model,
        'seed': seed,
        'set': settings,
        'settings': {'model': settings, 'train': {'lr': 1e-3}},
        'inputs': inputs,
        'validation': dict.fromkeys(names, value + 0.5),
        'test': dict.fromkeys(names, value),
        'commit': COMMIT,
        'versions': {'machine': 'a machine', 'torch': '2.13'},
        **more,
    }


def tuned(model, value, **settings):
    row = line(model, 1000, value, settings=settings)
    row.pop('test')
    return row


def control(variant, seed, value, inputs=INPUTS, **more):
    dependence = {'r2/image': value, 'r2/text': value + 0.2, 'hsic/image': 0.4}
    if len(inputs['modalities']) > 1:
        dependence['retrieval/text-image'] = 0.8
    return line(
        more.pop('model', 'sea'),
        seed,
        value,
        inputs=inputs,
        variant=variant,
        of=INPUTS,
        common={},
        dependence=dependence,
        **more,
    )


def point(sweep, value, seed, recall):
    center = {'alpha': 0.03, 'k': 10}
    settings = {} if sweep in (None, 'k') else {sweep: value}
    inputs = {**INPUTS, 'k': value} if sweep == 'k' else INPUTS
    row = line('sea', seed, recall - 0.5, inputs=inputs, settings=settings)
    row.pop('test')
    label = {'sweep': sweep, 'value': value, 'center': center, 'of': INPUTS}
    return {**label, 'common': {}, **row}


def add(path, *rows, shift=0.0):
    """Adds lines, and users around their figures."""
    rng = np.random.default_rng(len(records.read(path)))
    for row in rows:
        records.append(path, row)
        if 'test' in row:
            x = row['test']['recall@20'] + 0.01 * rng.standard_normal(50)
            users = {'recall@20': x, 'ndcg@20': x}
            records.write_users(records.users_path(path, row), users)


def published(tmp_path, replicates=200):
    readme = tmp_path / 'README.md'
    if not readme.exists():
        readme.write_text(README)
    publish.main(
        [
            *('--results', str(tmp_path / 'results')),
            *('--docs', str(tmp_path / 'docs'), '--readme', str(readme)),
            *('--replicates', str(replicates)),
        ]
    )
    files = [*(tmp_path / 'docs').iterdir(), readme]
    return {path.name: path.read_text() for path in files}


def rows_of(text, name):
    """The cells of the lines of tables that begin with a name."""
    return [
        [cell.strip() for cell in row.split('|')[2:-1]]
        for row in text.splitlines()
        if row.startswith(f'| {name} |')
    ]


def test_no_lines_no_tables(tmp_path):
    (tmp_path / 'README.md').write_text('nothing to replace')
    files = published(tmp_path)
    assert set(files) == {'index.md', 'README.md'}
    assert '|' not in files['index.md']
    assert 'toctree' not in files['index.md']
    assert files['README.md'] == 'nothing to replace'


def test_comparison(tmp_path):
    path = tmp_path / 'results' / 'shop.jsonl'
    add(path, line('sea', 0, 0.3), line('sea', 1, 0.32))
    add(path, line('popularity', 0, 0.1), line('mgcn', 0, 0.25))
    other = line('sea_mispaired', 0, 0.9)
    add(path, other, line('vbpr_separate', 0, 0.2), line('vbpr', 0, 0.1))
    files = published(tmp_path)
    page = files['shop.md']
    before, plugged = page.split('### Plug-ins')
    assert '## shop: image, text' in before
    assert '### Tuning' not in page
    assert '### Controls' not in page
    assert '### Sensitivity' not in page
    [cells, difference, target] = rows_of(before, 'mgcn')
    assert cells[1] == '0.2500'
    assert float(difference[0]) == pytest.approx(0.06, abs=0.005)
    assert float(difference[1]) == pytest.approx(24, abs=2)
    low, high = (float(x) for x in difference[2].split(' to '))
    assert 0 < low < float(difference[0]) < high
    assert float(difference[3]) < 0.05
    assert target[0] == '+2 %'
    assert target[1] == f'{difference[1]} %'
    assert target[-1] == '**open**: 1 of 5 seeds'
    assert rows_of(before, 'popularity')[-1][-1] == 'met'
    assert rows_of(before, 'freedom') == [['+2 %', '', '', '', '**not run**']]
    assert rows_of(before, 'sea')[0][1] == '0.3100 ± 0.0141'
    assert len(rows_of(before, 'sea')) == 1
    assert 'mispaired' not in page
    # In the order of the registry.
    assert before.index('| popularity') < before.index('| mgcn')
    assert before.index('| mgcn') < before.index('| sea')

    assert 'vbpr_separate' not in before
    [_, difference] = rows_of(plugged, 'vbpr')
    assert float(difference[0]) == pytest.approx(0.1, abs=0.005)
    assert 'run.py $data --model vbpr_separate' in plugged
    both = [['0.3100 ± 0.0141, 0.3100']]
    assert rows_of(files['index.md'], '`sea`') == both
    assert rows_of(files['README.md'], '`mgcn`') == [['0.2500, 0.2500']]
    assert '\nshop\n' in files['index.md']


def test_figures_of_others_are_beside_ours(tmp_path):
    run = {'name': 'theirs', 'model': 'sea', 'set': {'alpha': 1}}
    run |= {'valid': 0.81, 'recall@20': 0.24, 'ndcg@20': 0.25}
    known = {
        'about': 'Not ours.',
        'modalities': INPUTS['modalities'],
        'runs': [run, {**run, 'name': 'alone', 'model': 'mgcn'}],
    }
    path = tmp_path / 'references.json'
    path.write_text(json.dumps({'shop': known}))
    values = (0.2, 0.3, 0.4)
    rows = [line('sea', 0, v, settings={'alpha': 1}) for v in values]
    rows += [line('sea', 0, 0.9), line('mgcn', 0, 0.5)]
    [_, about, table] = references.references(rows, path)
    assert about.startswith('Not ours. In brackets')
    assert rows_of(table, 'theirs') == [
        [
            *('0.8100', '0.2400', '0.2500', '0.8000 ± 0.1000 (-0.1)'),
            *('0.3000 ± 0.1000 (+0.6)', '0.3000 ± 0.1000 (+0.5)', '3'),
        ]
    ]
    assert rows_of(table, 'alone')[0][3:] == ['', '', '', '']
    del run['set']
    path.write_text(json.dumps({'shop': known}))
    # Of two settings the better one, not the mean of all.
    [_, _, table] = references.references(rows, path)
    [cells] = rows_of(table, 'theirs')
    assert cells[3:] == ['1.4000', '0.9000', '0.9000', '1']

    other = line('sea', 0, 0.1, inputs={**INPUTS, 'modalities': {'a': 'b'}})
    assert references.references([other], path) == []
    assert references.references([line('sea', 0, 1, 'mall')], path) == []
    assert references.references([], path) == []


def test_lines_without_users_are_compared_with_nothing(tmp_path):
    path = tmp_path / 'results' / 'shop.jsonl'
    add(path, line('sea', 0, 0.3), line('mgcn', 0, 0.25))
    records.users_path(path, line('mgcn', 0, 0.25)).unlink()
    page = published(tmp_path)['shop.md']
    assert 'minus' not in page
    assert rows_of(page, 'mgcn')[0][1] == '0.2500'


def test_a_run_in_several_files_counts_once(tmp_path):
    for name in ('a', 'b'):
        path = tmp_path / 'results' / f'{name}.jsonl'
        add(path, line('sea', 0, 0.3), tuned('sea', 0.3))
    add(path, line('sea', 1, 0.3), control('SEA', 0, 0.3))
    page = published(tmp_path)['shop.md']
    assert rows_of(page, 'sea')[0][-2] == '2'
    assert len(rows_of(page, 'sea')) == 2  # And the trial.
    assert rows_of(page, 'SEA')[0][-1] == '1'


def test_lines_of_several_tables_are_in_all_of_them(tmp_path):
    text = {**INPUTS, 'modalities': {'text': 'text.npy'}}
    path = tmp_path / 'results' / 'controls_shop.jsonl'
    for other in ('image', 'audio'):
        of = {**INPUTS, 'modalities': {other: 'x.npy', 'text': 'text.npy'}}
        row = control('text only', 0, 0.1, inputs=text)
        add(path, row | {'of': of})
    page = published(tmp_path)['shop.md']
    assert page.count('### Controls') == 2
    assert len(rows_of(page, 'text only')) == 2


def test_other_defaults_are_other_models(tmp_path):
    path = tmp_path / 'results' / 'shop.jsonl'
    rows = [line('sea', seed, 0.3 + seed / 10) for seed in (0, 1)]
    for row, alpha in zip(rows, (0.5, 0.03)):
        row['settings']['model'] = {'alpha': alpha, 'beta': 1}
    add(path, *rows, line('mgcn', 0, 0.25))
    page = published(tmp_path)['shop.md']
    assert rows_of(page, 'sea `{"alpha": 0.5}`')[0][1] == '0.3000'
    [chosen, *_] = rows_of(page, 'sea `{"alpha": 0.03}`')
    assert chosen[1] == '0.4000'
    assert '| sea `{"alpha": 0.03}` minus |' in page
    text = (tmp_path / 'README.md').read_text()
    assert rows_of(text, '`sea`') == [['0.4000, 0.4000']]


def test_reports_say_what_they_need(tmp_path, capsys):
    path = tmp_path / 'shop.jsonl'
    with pytest.raises(SystemExit):
        publish.report.main([str(path)])
    assert f'no lines in {path}' in capsys.readouterr().err
    add(path, line('sea', 0, 0.3), line('mgcn', 0, 0.25))
    records.users_path(path, line('mgcn', 0, 0.25)).unlink()
    publish.report.main([str(path)])
    assert '| mgcn | 0.2500' in capsys.readouterr().out
    with pytest.raises(SystemExit):
        publish.report.main([str(path), '--against', 'sea'])
    error = capsys.readouterr().err
    assert '1 of 2' in error
    assert 'mgcn, seed 0): run them again' in error
    add(path, tuned('vbpr', 0.1))
    with pytest.raises(SystemExit):
        publish.report.main([str(path)])
    assert 'without test' in capsys.readouterr().err


def test_of_several_settings_validation_chooses(tmp_path):
    path = tmp_path / 'results' / 'shop.jsonl'
    add(path, line('sea', 0, 0.3), line('mgcn', 0, 0.25))
    better = line('sea', 0, 0.2, settings={'alpha': 1})
    better['validation']['recall@20'] = 0.95
    add(path, better)
    files = published(tmp_path)
    assert rows_of(files['README.md'], '`sea`') == [['0.2000, 0.2000']]
    assert '| sea `{"alpha": 1}` minus |' in files['shop.md']


def test_tuning(tmp_path):
    path = tmp_path / 'results' / 'tuning.jsonl'
    add(
        path,
        *(tuned('vbpr', v, lambda_map=0.1, lambda_reg=v) for v in (0.1, 0.2)),
    )
    add(path, tuned('bpr_mf', 0.05, lr=1e-3, lambda_reg=1, batch_size=64))
    page = published(tmp_path)['shop.md']
    assert '### Comparison' not in page
    values = [cells[1] for cells in rows_of(page, 'vbpr')]
    assert values == ['0.7000', '0.6000']
    assert page.index('| bpr_mf') < page.index('| vbpr')
    [one, other] = re.findall(r'tune\.py[^`]*?jsonl', page)
    assert '--model bpr_mf --set batch_size=64' in one
    assert '--model vbpr --seed 1000' in other.replace(' \\\n   ', '')


def test_controls(tmp_path):
    path = tmp_path / 'results' / 'controls_shop.jsonl'
    text = {**INPUTS, 'modalities': {'text': 'text.npy'}}
    for seed in (0, 1):
        add(
            path,
            control('text only', seed, 0.1, inputs=text),
            control('SEA', seed, 0.3 + 0.02 * seed),
            control('CLUB: mispaired', seed, 0.3, model='sea_mispaired'),
        )
    page = published(tmp_path)['shop.md']
    assert '### Comparison' not in page
    [cells] = rows_of(page, 'SEA')
    assert cells == [
        *('0.3100 ± 0.0141', '0.3100 ± 0.0141', '', '', ''),
        *('0.410 ± 0.014', '0.800 ± 0.000', '0.400 ± 0.000', '2'),
    ]
    [cells] = rows_of(page, 'text only')
    assert float(cells[2]) == pytest.approx(-0.21, abs=0.005)
    assert float(cells[4]) < 0.05
    assert cells[6] == ''  # Nothing to find it in.
    assert "--variant 'CLUB: mispaired'" in page
    assert '`pyg_sea.dependence`' in page
    assert 'With one seed' not in page
    assert 'modality image=image.npy' in page

    path.write_text(''.join(path.read_text().splitlines(True)[:3]))
    page = published(tmp_path)['shop.md']
    assert 'With one seed, intervals and p values speak of users only' in page

    known = controls.variants(['image', 'text'], {})
    rows = [{'file': 'a.jsonl', **control(name, 0, 0.1)} for name in known]
    assert '--variant' not in commands.controls_command(rows)


def test_sensitivity(tmp_path):
    path = tmp_path / 'results' / 'sensitivity_shop.jsonl'
    for seed in (0, 1):
        add(path, point('k', 20, seed, 0.3), point('alpha', 0.3, seed, 0.1))
        add(path, point(None, None, seed, 0.2 + 0.02 * seed))
        add(path, point('alpha', 0.0, seed, 0.15), point('k', 5, seed, 0.1))
    files = published(tmp_path)
    page = files['shop.md']
    assert '| alpha | 0 | **0.03** | 0.3 |' in page
    assert '| k | 5 | **10** | 20 |' in page
    assert [cells[1] for cells in rows_of(page, 'Recall@20')] == [
        *('0.2100 ± 0.0141', '0.2100 ± 0.0141')
    ]
    assert '(shop_sensitivity_1.svg)' in page
    figure = files['shop_sensitivity_1.svg']
    assert figure.count('validation Recall@20') >= 1
    assert '>alpha<' in figure
    assert '0.03' in figure
    assert '--k' not in page
    points = pages.points_of(publish.read(tmp_path / 'results')[0])
    assert points['alpha'] == {
        0.0: [pytest.approx(0.15)] * 2,
        0.03: [pytest.approx(0.2), pytest.approx(0.22)],
        0.3: [pytest.approx(0.1)] * 2,
    }
    assert 'test' not in page.split('### Sensitivity')[1]
    assert 'One seed.' not in page
    rows = [{'file': 'a', **point('alpha', 0.3, 0, 0.1)}]
    assert 'One seed.' in pages.sensitivity(rows, 'a.svg')[1]


def all_kinds(folder):
    add(folder / 'shop.jsonl', line('sea', 0, 0.3), line('mgcn', 0, 0.2))
    add(
        folder / 'tuning.jsonl',
        tuned('vbpr', 0.1, lambda_map=0.1, lambda_reg=1),
    )
    add(folder / 'controls_shop.jsonl', control('SEA', 0, 0.3))
    add(
        folder / 'sensitivity_shop.jsonl',
        *(point(None, None, 0, 0.2), point('alpha', 0.3, 0, 0.1)),
    )


def test_the_same_lines_give_the_same_bytes(tmp_path):
    all_kinds(tmp_path / 'results')
    files = published(tmp_path)
    assert set(files) == {
        *('index.md', 'shop.md', 'shop_sensitivity_1.svg', 'README.md')
    }
    assert published(tmp_path) == files
    for headline in ('Comparison', 'Tuning', 'Controls', 'Sensitivity'):
        assert files['shop.md'].count(f'### {headline}') == 1
        section = files['shop.md'].split(f'### {headline}')[1]
        assert '```sh\ndata="--data $PYG_SEA_DATA/shop' in section


def test_nothing_changes_outside_the_marks(tmp_path):
    all_kinds(tmp_path / 'results')
    text = published(tmp_path)['README.md']
    assert 'an old table' not in text
    assert text.startswith(README.partition(publish.START)[0])
    assert text.endswith(README.partition(publish.END)[2])
    assert text.count(publish.START) == text.count(publish.END) == 1

    for broken in (README.replace(publish.END, ''), 'none at all'):
        (tmp_path / 'README.md').write_text(broken)
        with pytest.raises(ValueError, match='needs the lines'):
            published(tmp_path)
        assert (tmp_path / 'README.md').read_text() == broken


def test_what_must_not_be_compared_says_so(tmp_path):
    path = tmp_path / 'results' / 'a.jsonl'
    derived = {**INPUTS, 'modalities': {'text': 'text_spectral128.npy'}}
    add(path, line('sea', 0, 0.1, 'baby', derived))
    add(path, line('sea', 0, 0.2, 'baby'), line('sea', 0, 0.3))
    silent = {**INPUTS, 'modalities': {'image': 'x', 'audio': 'y'}}
    add(path, line('sea', 0, 0.4, 'tiktok', silent))
    files = published(tmp_path)
    # Of the original files, another section says nothing of the kind.
    assert files['baby.md'].count("never with the paper's table") == 1
    assert files['README.md'].count("never with the paper's table") == 1
    assert 'baby: text: The split is another draw' in files['README.md']
    assert files['tiktok.md'].count('third published modality') == 1
    assert 'not comparable' not in files['shop.md']
    assert rows_of(files['README.md'], '`sea`') == [
        [f'{x:.4f}, {x:.4f}' for x in (0.1, 0.2, 0.3, 0.4)]
    ]


# --- commands


@pytest.fixture
def results(shop_options, tmp_path, monkeypatch):
    """Lines of all scripts, with settings that are hard to quote."""
    monkeypatch.setattr(run, 'environment', lambda: {'commit': COMMIT})
    folder = tmp_path / 'results'
    quick = ['--set', 'max_epochs=1', '--set', 'batch_size=256']
    quick += ['--work', str(tmp_path / 'work'), '--normalize', 'text=none']
    quick += ['--graph-weight', 'image=0.1', '--graph-weight', 'text=0.9']
    quick += shop_options
    grid = [{'lambda_reg': 0.1}, {'lambda_reg': 0.2}]
    monkeypatch.setitem(grids.GRIDS, 'bpr_mf', grid)
    odd = ['--set', 'club_kwargs={"negatives": "permute"}']
    odd += ['--set', 'ranking=bpr', '--set', 'num_anchors=null']
    out = ['--out', str(folder / 'shop.jsonl')]
    run.main([*quick, *odd, *out, '--model', 'sea', '--seeds', '2'])
    run.main([*shop_options, *out, '--model', 'content_knn', '--set', 'k=3'])
    tune.main([*quick, '--model', 'bpr_mf', '--out', str(folder / 't.jsonl')])
    out = ['--seeds', '1', '--out', str(folder / 'c.jsonl')]
    chosen = ['--variant', 'CLUB: mispaired', '--variant', 'text only']
    controls.main([*quick, *chosen, *out])
    out[-1] = str(folder / 's.jsonl')
    sensitivity.main([*quick, '--sweep', 'k', *out])
    return folder


def test_commands_make_their_lines_again(
    results, shop_options, monkeypatch, capsys
):
    rows, _ = publish.read(results)
    about = {'machine': 'a machine', 'torch': '2.13'}
    page = publish.page(
        'shop', [{**r, 'versions': about} for r in rows], {}, results, 10
    )
    before = {path: path.read_bytes() for path in results.glob('*.jsonl')}

    def fail(*args, **kwargs):
        raise AssertionError('it was there already')

    monkeypatch.setattr(run, 'train', fail)
    data = Path(shop_options[1]).parent
    monkeypatch.setitem(os.environ, 'PYG_SEA_DATA', str(data))
    scripts = {'run': run, 'tune': tune, 'controls': controls}
    scripts['sensitivity'] = sensitivity
    capsys.readouterr()
    called = []
    for block in re.findall(r'```sh\n(.*?)```', page, re.S):
        text = block.replace('\\\n', '')
        options, *lines = text.strip().split('\n')
        options = options.removeprefix('data="').removesuffix('"')
        options = os.path.expandvars(options).split()
        for command in lines:
            python, script, *args = shlex.split(command)
            assert python == 'python'
            assert (FOLDER.parents[1] / script).is_file()
            args = [
                a for x in args for a in (options if x == '$data' else [x])
            ]
            at = args.index('--out') + 1
            assert args[at].startswith(commands.RESULTS)
            args[at] = str(results / Path(args[at]).name)
            called.append(Path(script).stem)
            scripts[called[-1]].main(args)
    assert sorted(called) == ['controls', 'run', 'run', 'sensitivity', 'tune']
    # 2 of sea, 1 of content_knn, 2 of controls, 5 of sensitivity.
    assert capsys.readouterr().out.count('there already') == 10
    assert {path: path.read_bytes() for path in before} == before


def test_long_commands_are_broken_where_a_shell_reads_on():
    line = 'python a.py' + ' --set name=value' * 12
    text = commands.wrapped(line)
    assert max(len(row) for row in text.split('\n')) <= 79
    assert shlex.split(text.replace('\\\n', '')) == shlex.split(line)
    assert commands.wrapped('python a.py') == 'python a.py'


def test_options_of_the_data():
    row = line('sea', 0, 0.1)
    row['inputs'] = {
        **INPUTS,
        'k': 7,
        'normalize': {'image': 'l2', 'text': None},
        'graph_weights': {'text': 0.9},
        'neighbors': {'text': 'text.npz'},
    }
    text = commands.data_options(row).replace('$PYG_SEA_DATA', 'x')
    parser = catalogue.argparse.ArgumentParser()
    catalogue.add_arguments(parser)
    args = parser.parse_args(text.split())
    assert args.data == Path('x/shop')
    assert args.modality == ['image=image.npy', 'text=text.npy']
    assert args.normalize == ['image=l2', 'text=none']
    assert args.graph_weight == ['text=0.9']
    assert args.neighbors == ['text=text.npz']
    assert args.k == 7
