import argparse
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

pytest.importorskip('lightning', reason='the benchmarks train')
pytest.importorskip('sklearn', reason='fits ridge regressions')
pytest.importorskip('matplotlib', reason='draws')

FOLDER = Path(__file__).parents[2] / 'benchmarks' / 'quality'
sys.path.insert(0, str(FOLDER))
import catalogue  # noqa: E402
import cold_page  # noqa: E402
import cold_rank  # noqa: E402
import cold_split  # noqa: E402
import cold_start  # noqa: E402
import commands  # noqa: E402
import pages  # noqa: E402
import publish  # noqa: E402
import records  # noqa: E402
import run  # noqa: E402

sys.path.remove(str(FOLDER))

from pyg_sea import Recommender  # noqa: E402
from pyg_sea.evaluate import evaluate  # noqa: E402
from pyg_sea.nn import SEA, VBPR  # noqa: E402
from pyg_sea.nn.modality import modality_key  # noqa: E402
from pyg_sea.transforms import model_inputs  # noqa: E402

pytestmark = pytest.mark.filterwarnings('ignore')
QUICK = ['--set', 'max_epochs=1', '--set', 'batch_size=256']


@pytest.fixture(autouse=True)
def _no_git(monkeypatch):
    monkeypatch.setattr(
        cold_start, 'environment', lambda: {'commit': 'f' * 40}
    )


@pytest.fixture
def source(shop_options):
    return read(shop_options)


def read(options):
    parser = argparse.ArgumentParser()
    catalogue.add_arguments(parser)
    return cold_split.read(parser.parse_args(options))


def edges_of(data):
    store = data['user', 'buys', 'item']
    names = ('edge_index', 'val_edge_index', 'test_edge_index')
    return {name: store[name] for name in names}


def pairs(edges, items):
    return {(int(u), int(items[i])) for u, i in edges.t()}


# --- what is held out


def test_nothing_of_cold_items_is_left(source):
    draw = cold_split.draw(source, 3)
    every = edges_of(source.data)
    assert draw.cold.items.numel() == 12
    both = torch.cat([draw.warm, draw.cold.items])
    assert both.sort().values.tolist() == list(range(60))
    known = set(draw.warm.tolist())
    for name, edges in edges_of(draw.shop.data).items():
        kept = {
            (int(u), int(i)) for u, i in every[name].t() if int(i) in known
        }
        assert pairs(edges, draw.warm) == kept
    kept = {
        (int(u), int(i))
        for edges in every.values()
        for u, i in edges.t()
        if int(i) not in known
    }
    assert pairs(draw.cold.edge_index, draw.cold.items) == kept
    assert draw.shop.data['item'].num_nodes == 48
    assert int(draw.shop.data['item', 'similar', 'item'].edge_index.max()) < 48


def test_seeds_decide_and_halves_do_not_mix(source):
    tested, selected = (
        [
            set(cold_split.draw(source, s, select=x).cold.items.tolist())
            for s in range(8)
        ]
        for x in (False, True)
    )
    assert tested[0] != tested[1]
    again = cold_split.draw(source, 0).cold.items.tolist()
    assert tested[0] == set(again)
    assert not set.union(*tested) & set.union(*selected)
    assert cold_split.draw(source, 0, 0.5).cold.items.numel() == 30
    for share in (0.0, 0.51):
        with pytest.raises(ValueError, match="'share' needs"):
            cold_split.draw(source, 0, share)


@pytest.mark.parametrize('how', ['standard', 'l2', None])
def test_features_are_prepared_by_warm_items(how):
    generator = torch.Generator().manual_seed(0)
    x = 3 + torch.randn(20, 4, generator=generator)
    x[2] = x[15] = 0
    warm = torch.arange(12)
    out = cold_split.prepare(x, warm, how)
    there = x[warm][x[warm].any(dim=1)]
    if how == 'standard':
        wanted = (x - there.mean(0)) / there.std(0, correction=0) / 2
    else:
        wanted = F.normalize(x) if how else x
    wanted[2] = wanted[15] = 0
    torch.testing.assert_close(out, wanted)
    x[16:] += 100
    other = cold_split.prepare(x, warm, how)
    assert torch.equal(other[:16], out[:16])


def test_ready_made_neighbours_are_refused(shop_options):
    with pytest.raises(ValueError, match='found with the items'):
        read([*shop_options, '--neighbors', 'text=knn.npz'])


@pytest.mark.parametrize('model', ['sea', 'vbpr'])
def test_training_sees_none_of_it(source, model, tmp_path):
    settings = {'max_epochs': 2, 'batch_size': 256}
    row = cold_start.key(source, 0.2, model, settings, 1, False)
    before = cold_start.run(source, row, tmp_path)
    cold = cold_split.draw(source, 1).cold
    changed = source.data.clone()
    for name in ('image', 'text'):
        x = changed['item'][f'x_{name}'].clone()
        x[cold.items] = 100 * torch.rand(12, x.size(1))
        changed['item'][f'x_{name}'] = x
    store = changed['user', 'buys', 'item']
    is_cold = torch.isin(store.edge_index[1], cold.items)
    # All of these go to one user.
    user, item = store.edge_index.clone()
    user[is_cold] = 0
    store.edge_index = torch.stack([user, item])
    after = cold_start.run(source._replace(data=changed), row, tmp_path)
    assert after['warm_validation'] == before['warm_validation']
    assert after['best_epoch'] == before['best_epoch']
    assert after['test'] != before['test']


# --- scores


def dense(draw, k, weights, centered):
    """The scores of content k-NN, pair by pair."""
    store = draw.shop.data['user', 'buys', 'item']
    warm = model_inputs(draw.shop.data)['modal_x']
    old, new = [], []
    for (name, x), weight in zip(warm.items(), weights):
        mean = x[x.any(1)].mean(0) if centered else 0
        for rows, out in ((x, old), (draw.cold.features[name], new)):
            unit = weight**0.5 * F.normalize(rows - mean)
            unit[rows.eq(0).all(1)] = 0
            out.append(unit)
    old = F.normalize(torch.cat(old, 1))
    every = torch.cat([old, F.normalize(torch.cat(new, 1))])
    out = torch.zeros(draw.shop.data['user'].num_nodes, len(every))
    for i, row in enumerate(every):
        cosine = old @ row
        near = [j for j in cosine.argsort(descending=True).tolist() if j != i]
        near = set(near[:k] if k else near)
        for user, j in store.edge_index.t().tolist():
            if j in near:
                out[user, i] += cosine[j]
    return out


@pytest.mark.parametrize('k', [0, 5])
@pytest.mark.parametrize(
    ('weighted', 'centered'), [(False, False), (True, True)]
)
def test_content_knn_by_hand(shop_options, k, weighted, centered):
    more = ['--graph-weight', 'image=0.2', '--graph-weight', 'text=0.8']
    draw = cold_split.draw(read([*shop_options, *more]), 0)
    # Some lack a modality.
    draw.shop.data['item'].x_image[::7] += 3
    draw.shop.data['item'].x_image[1::7] = 0
    draw.cold.features['image'][::3] = 0
    scorer = cold_rank.content_knn(draw, k, weighted, centered)
    found = scorer(torch.arange(80))
    weights = (0.2, 0.8) if weighted else (1, 1)
    wanted = dense(draw, k, weights, centered)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)


def test_vbpr_has_features_only(source):
    draw = cold_split.draw(source, 0)
    inputs = model_inputs(draw.shop.data)
    widths = {n: x.size(1) for n, x in inputs['modal_x'].items()}
    model = VBPR(80, 48, widths, hidden_channels=8)
    with torch.no_grad():
        model.item_bias.normal_()
    scores = cold_rank.scorer('vbpr', model, {}, draw)(torch.arange(80))
    embedding = model.get_embedding(**inputs)
    wanted = embedding[:80] @ embedding[80:].t()
    torch.testing.assert_close(scores[:, :48], wanted)
    joined = sum(
        model.linears[modality_key(name)](x)
        for name, x in draw.cold.features.items()
    )
    wanted = model.user_embedding[:, 8:] @ joined[:, :8].t() + joined[:, 8]
    torch.testing.assert_close(scores[:, 48:], wanted)


def test_sea_is_served(source):
    draw = cold_split.draw(source, 0)
    inputs = model_inputs(draw.shop.data)
    widths = {n: x.size(1) for n, x in inputs['modal_x'].items()}
    model = SEA(80, 48, widths)
    scores = cold_rank.scorer('sea', model, {}, draw)(torch.arange(80))
    embedding = model.eval().get_embedding(**inputs)
    wanted = embedding[:80] @ embedding[80:].t()
    torch.testing.assert_close(scores[:, :48], wanted)
    served = Recommender.from_model(model, draw.shop.data, graph=draw.graph)
    served = served.add_items(draw.cold.features, range(100, 112))
    wanted = served.score([7] * 12, range(100, 112))
    np.testing.assert_allclose(scores[7, 48:], wanted, rtol=1e-5)


# --- metrics


def test_equal_scores_rank_at_random():
    scores = torch.zeros(4000, 10)
    scores[:, 3] = 1.0
    candidates = torch.ones(10, dtype=torch.bool)
    candidates[0] = False
    shuffled = cold_rank.Shuffled(scores.__getitem__, candidates, 0)
    users = torch.arange(4000)
    places = shuffled(users)
    assert (places[:, 0] == float('-inf')).all()
    assert (places[:, 3] == 0).all()
    assert (places[:, 1:].sort(dim=1).values == torch.arange(-8.0, 1)).all()
    # Two places are left to eight items.
    held_out = torch.stack([users, torch.full((4000,), 9)])
    recall = evaluate(shuffled, held_out, k=3)['recall@3']
    assert recall == pytest.approx(0.25, abs=0.03)


def test_metrics_are_those_of_full_rankings(source):
    draw = cold_split.draw(source, 0)
    generator = torch.Generator().manual_seed(0)
    scores = torch.rand(80, 60, generator=generator)
    scorer = scores.__getitem__
    out = cold_rank.measure(scorer, draw, 'test', 0)
    store = draw.shop.data['user', 'buys', 'item']
    train, test = store.edge_index, store.test_edge_index
    user, item = draw.cold.edge_index
    cold = torch.stack([user, item + 48])
    alone = scores[:, 48:].__getitem__
    assert out['cold'] == pytest.approx(evaluate(alone, draw.cold.edge_index))
    for name, held_out in (
        ('all', torch.cat([test, cold], dim=1)),
        ('warm', test),
        ('cold', cold),
    ):
        wanted = evaluate(scorer, held_out, train)
        assert out['overall'][name] == pytest.approx(wanted)
        assert out['counts']['targets'][name] == held_out.size(1)
    assert out['counts']['items'] == {'warm': 48, 'cold': 12}
    val = cold_rank.measure(scorer, draw, 'val', 0)
    wanted = evaluate(scorer, store.val_edge_index, train)
    assert val['overall']['warm'] == pytest.approx(wanted)
    assert val['cold'] == out['cold']


def test_users_without_history_do_not_count(source):
    draw = cold_split.draw(source, 0)
    user = int(draw.cold.edge_index[0, 0])
    store = draw.shop.data['user', 'buys', 'item']
    store.edge_index = store.edge_index[:, store.edge_index[0] != user]
    out = cold_rank.measure(torch.zeros(80, 60).__getitem__, draw, 'test', 0)
    users = draw.cold.edge_index[0].unique().numel()
    assert out['counts']['users']['cold'] == users - 1


# --- lines


def run_quick(shop_options, tmp_path, out, *more):
    cold_start.main(
        [
            *(*shop_options, '--out', str(tmp_path / out)),
            *('--work', str(tmp_path / 'work'), *more),
        ]
    )
    return records.read(tmp_path / out)


def test_lines_are_not_made_twice(shop_options, tmp_path, monkeypatch, capsys):
    quick = [*QUICK, '--model', 'vbpr']
    rows = run_quick(shop_options, tmp_path, 'a', *quick, '--seeds', '2')
    assert [row['seed'] for row in rows] == [0, 1]
    assert rows[0]['test'] != rows[1]['test']
    assert not any(tmp_path.joinpath('work').iterdir())
    text = capsys.readouterr().out
    for row in rows:
        assert not {'validation', 'users'} & set(row)
        assert f'{row["test"]["recall@20"]:.4f}' not in text

    def fail(*args, **kwargs):
        raise AssertionError('it was there already')

    monkeypatch.setattr(run, 'train', fail)
    run_quick(shop_options, tmp_path, 'a', *quick, '--seeds', '2')
    for more in (['--seeds', '3'], ['--seeds', '1', '--share', '0.3']):
        with pytest.raises(AssertionError, match='already'):
            run_quick(shop_options, tmp_path, 'a', *quick, *more)


def test_what_was_trained_is_kept_until_it_is_measured(
    source, tmp_path, monkeypatch
):
    settings = {'max_epochs': 2, 'batch_size': 256}
    row = cold_start.key(source, 0.2, 'vbpr', settings, 0, False)
    wanted = cold_start.run(source, row, tmp_path)
    measure, saved = cold_rank.measure, []

    def stop(*args):
        [folder] = tmp_path.iterdir()
        saved.append((folder / 'last.ckpt').stat().st_mtime_ns)
        if len(saved) == 1:
            raise RuntimeError('power cut')
        return measure(*args)

    monkeypatch.setattr(cold_rank, 'measure', stop)
    with pytest.raises(RuntimeError, match='power cut'):
        cold_start.run(source, row, tmp_path)
    found = cold_start.run(source, row, tmp_path)
    assert saved[0] == saved[1]
    assert found['test'] == wanted['test']
    assert list(found) == list(wanted)
    assert not any(tmp_path.iterdir())


def test_tried_or_taken(shop_options, capsys):
    options = ['--model', 'vbpr', '--select', '--tuned', 'a', '--out', 'b']
    with pytest.raises(SystemExit):
        cold_start.main([*shop_options, *options])
    assert "'--select' tries" in capsys.readouterr().err


def test_settings_are_selected_on_other_items(
    shop_options, tmp_path, monkeypatch
):
    trials = [{'k': 1}, {'k': 0}]
    monkeypatch.setitem(cold_start.TRIALS, 'content_knn', trials)
    knn = ['--model', 'content_knn']
    knn += ['--share', '0.5']
    more = ['--select', '--seeds', '2', '--set', 'centered=true']
    rows = run_quick(shop_options, tmp_path, 'a', *knn, *more)
    assert [(row['set']['k'], row['seed']) for row in rows] == [
        *((1, 1000), (1, 1001), (0, 1000), (0, 1001))
    ]
    assert not any('test' in row for row in rows)
    mean = {
        k: np.mean(
            [r['validation']['recall@20'] for r in rows if r['set']['k'] == k]
        )
        for k in (1, 0)
    }
    assert mean[0] != mean[1]
    more = ['--tuned', str(tmp_path / 'a'), '--seeds', '1']
    [row] = run_quick(shop_options, tmp_path, 'b', *knn, *more)
    chosen = max(mean, key=lambda k: mean[k])
    assert row['settings']['model'] == {
        'k': chosen,
        'weighted': False,
        'centered': True,
    }
    with pytest.raises(ValueError, match=r"no settings \['n'\]"):
        run_quick(shop_options, tmp_path, 'c', *knn, '--set', 'n=3')


def test_popularity_is_chance_among_cold_items(source, tmp_path):
    recall = []
    for seed in range(6):
        row = cold_start.key(source, 0.5, 'popularity', {}, seed, False)
        row = cold_start.run(source, row, tmp_path)
        recall.append(row['test']['recall@10'])
    assert np.mean(recall) == pytest.approx(10 / 30, abs=0.05)


# --- the page


def line(model, seed, value, select=False, **settings):
    names = ('recall@10', 'recall@20', 'ndcg@10', 'ndcg@20')
    metrics = dict.fromkeys(names, value)
    inputs = {
        'modalities': {'text': 'text.npy'},
        'normalize': {'text': 'standard'},
        'graph_weights': None,
        'neighbors': {},
    }
    return {
        'file': 'cold_tuning.jsonl' if select else 'cold_shop.jsonl',
        'of': inputs,
        'data': 'shop',
        'model': model,
        'seed': seed,
        'set': settings,
        'settings': {'model': settings, 'train': {}},
        'inputs': {**inputs, 'cold_items': 0.2, 'select': select},
        'validation' if select else 'test': metrics,
        'overall': dict.fromkeys(('all', 'warm', 'cold'), metrics),
        'counts': {
            'items': {'warm': 200, 'cold': 50},
            'targets': {'warm': 10, 'cold': 20 + seed},
        },
        'commit': 'f' * 40,
        'versions': {'machine': 'a machine', 'torch': '2.13'},
    }


def test_page(tmp_path):
    rows = [line('sea', s, 0.3 + 0.1 * s) for s in (0, 1)]
    rows += [line('content_knn', s, 0.2 + 0.2 * s, k=40) for s in (0, 1)]
    rows += [
        line('content_knn', 1000, x, True, k=k)
        for k, x in ((10, 0.1), (40, 0.3))
    ]
    assert {pages.kind_of(row) for row in rows} == {'cold'}
    page = publish.page('shop', rows, {}, tmp_path, 10)
    assert page.count('### Cold start') == 1
    assert '### Comparison' not in page
    assert publish.main_table(rows) == ''
    table = [r.split('|') for r in page.splitlines() if r.startswith('| ')]
    cells = {row[1].strip(): [x.strip() for x in row[2:-1]] for row in table}
    # Half as much again, and as much.
    assert cells['sea'][2] == '+25.0 % ± 35.4'
    assert cells['sea'][:2] == ['0.3500 ± 0.0707'] * 2
    assert cells['sea'][-1] == '2'
    assert 'by chance Recall@20 is 0.4000' in page
    assert '10 warm targets' in page
    assert '20 cold ones' in page
    assert page.index('`{"k": 40}`') < page.index('`{"k": 10}`')
    page = page.replace(' \\\n   ', '')
    assert '--model content_knn --select --seeds 1' in page
    assert '--model content_knn --set k=40 --seeds 2' in page
    assert '--model sea --seeds 2' in page
    assert cold_page.cold_start(rows[-2:]) == []


def test_shares_have_sections_of_their_own():
    rows = [line('sea', s, 0.3) for s in (0, 1)]
    more = line('sea', 0, 0.1)
    more['inputs'] = {**more['inputs'], 'cold_items': 0.5}
    more['counts'] = {**more['counts'], 'items': {'warm': 125, 'cold': 125}}
    text = '\n\n'.join(cold_page.cold_start([*rows, more]))
    [first, second] = text.split('### Cold start')[1:]
    assert '20% of the items (50,' in first
    assert '| sea | 0.3000 ± 0.0000 |' in first
    assert '--share' not in first
    assert '50% of the items (125,' in second
    assert '| sea | 0.1000 |' in second
    assert '--share 0.5' in second


def test_commands_make_their_lines_again(shop_options, tmp_path, monkeypatch):
    more = ['--model', 'content_knn', '--set', 'k=3', '--share', '0.3']
    rows = run_quick(shop_options, tmp_path, 'a', *more, '--seeds', '2')
    row = [{'file': 'a', **row} for row in rows]
    command = commands.cold_command(row).split()
    argv = command[command.index('$data') + 1 :]
    argv[argv.index('--out') + 1] = str(tmp_path / 'a')

    def fail(*args, **kwargs):
        raise AssertionError('it was there already')

    monkeypatch.setattr(cold_start, 'run', fail)
    cold_start.main([*shop_options, *argv])
    assert records.read(tmp_path / 'a') == rows
