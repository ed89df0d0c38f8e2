import argparse
import json
import sys
from pathlib import Path

import pytest
import torch

from pyg_sea.nn import (
    FREEDOM,
    SEA,
    VBPR,
    CLUBLoss,
    ModalParts,
    SeparateLearning,
)
from pyg_sea.transforms import model_inputs

pytest.importorskip('lightning', reason='the benchmarks train')
pytest.importorskip('sklearn', reason='fits ridge regressions')

FOLDER = Path(__file__).parents[2] / 'benchmarks' / 'quality'
sys.path.insert(0, str(FOLDER))
import catalogue  # noqa: E402
import controls  # noqa: E402
import models  # noqa: E402
import records  # noqa: E402
import run  # noqa: E402
import sensitivity  # noqa: E402
from models.defaults import default, times  # noqa: E402

sys.path.remove(str(FOLDER))

pytestmark = pytest.mark.filterwarnings('ignore')
TRIPLETS = torch.tensor([[0, 5, 9], [3, 3, 50], [7, 8, 9]])
QUICK = ('--set', 'batch_size=256', '--set', 'max_epochs=1')


@pytest.fixture(autouse=True)
def _no_git(monkeypatch):
    monkeypatch.setattr(run, 'environment', lambda: {'commit': 'f' * 40})


@pytest.fixture
def shop(shop_options):
    return catalogue.read(parse(shop_options))


def parse(options):
    parser = argparse.ArgumentParser()
    catalogue.add_arguments(parser)
    return parser.parse_args(options)


def make(shop, name, seed=0, **settings):
    own = models.resolve(name, settings)['model']
    torch.manual_seed(seed)
    return models.build(name, own, shop.data, shop.item_graphs)


def loss_of(model, shop):
    torch.manual_seed(1)  # Anchors, negatives, thinned graphs.
    return model.loss(triplets=TRIPLETS, **model_inputs(shop.data))


# --- defaults


def test_defaults_are_those_of_the_first_that_has_one():
    assert default('alpha', SEA) == SEA(3, 3, {'a': 2}).separate.alpha
    assert default('temperature', SEA, SeparateLearning) == 0.2
    with pytest.raises(ValueError, match="no argument 'alhpa'"):
        default('alhpa', SEA)
    assert times(0.0003, 10) == 0.003


# --- plug-ins


@pytest.mark.parametrize('name', ['vbpr', 'freedom'])
def test_parts_stand_in_place_of_features(shop, name):
    weights = {'alpha': 0.7, 'beta': 0.2}
    model = make(shop, f'{name}_separate', part_channels=5, **weights)
    make_base = {'vbpr': VBPR, 'freedom': FREEDOM}[name]
    base = make_base(80, 60, {'image': 10, 'text': 10})
    base.load_state_dict(model.model.state_dict())

    inputs = model_inputs(shop.data)
    parts = model.separate.split(inputs['modal_x'])
    assert parts['text'].generic.shape == parts['text'].unique.shape == (60, 5)
    x = {m: torch.cat(pair, 1) for m, pair in parts.items()}
    torch.manual_seed(1)
    rank, terms = base.loss(triplets=TRIPLETS, **inputs | {'modal_x': x})
    extra, more = model.separate.loss(parts)
    loss, found = loss_of(model, shop)
    torch.testing.assert_close(found, terms | more)
    torch.testing.assert_close(loss, rank + extra)
    align = more['align/text-image']
    distance = more['distance/image'] + more['distance/text']
    torch.testing.assert_close(extra, 0.7 * align + 0.2 * distance)

    loss.backward()
    assert all(p.grad.abs().sum() > 0 for p in model.separate.parameters())
    model.eval(), base.eval()
    torch.testing.assert_close(
        model.get_embedding(**inputs),
        base.get_embedding(**inputs | {'modal_x': x}),
    )
    got = model.get_parts(inputs['modal_x'], inputs['edge_index'])
    assert torch.equal(got['image'].unique, parts['image'].unique)


def test_lightgcn_adds_parts_to_items(shop):
    # Two modalities: four parts of 3 columns, and one is left over.
    model = make(shop, 'lightgcn_separate', hidden_channels=13, lambda_reg=0.5)
    inputs = model_inputs(shop.data)
    parts = model.separate.split(inputs['modal_x'])
    out = model.get_embedding(**inputs)
    gcn = model.model.get_embedding(**inputs)
    assert torch.equal(out[:80], gcn[:80])
    assert torch.equal(out[80:, 12], gcn[80:, 12])
    text = out[80:, 9:12] - gcn[80:, 9:12]
    torch.testing.assert_close(text, parts['text'].unique)

    loss, terms = loss_of(model, shop)
    user, item, other = out[TRIPLETS + torch.tensor([[0], [80], [80]])]
    margin = (user * (item - other)).sum(1)
    bpr = torch.nn.functional.softplus(-margin).mean()
    torch.testing.assert_close(terms['bpr'], bpr)
    extra, _ = model.separate.loss(parts)
    torch.testing.assert_close(loss, bpr + 0.5 * terms['reg'] + extra)
    base = make(shop, 'lightgcn', hidden_channels=13)
    base.load_state_dict(model.model.state_dict())
    torch.testing.assert_close(terms['reg'], loss_of(base, shop)[1]['reg'])


def test_weight_of_all_maps(shop):
    model = make(shop, 'vbpr_separate', part_channels=5, lambda_map=0.3)
    loss, terms = loss_of(model, shop)
    maps = [model.model.linears[f'x_{m}'].weight for m in ('image', 'text')]
    for split in model.separate.splits.values():
        maps += [split.generic.weight, split.unique.weight]
    squares = sum(weight.square().sum() for weight in maps) / 2
    torch.testing.assert_close(terms['map'], squares)
    model.model.lambda_map = 0
    plain, _ = loss_of(model, shop)
    torch.testing.assert_close(loss, plain + 0.3 * squares)


# --- what `SEA` cannot do by arguments


@pytest.mark.parametrize('mode', ['slice', 'linear'])
def test_split_before_the_graph(shop, mode):
    weights = {'alpha': 0.5, 'beta': 0.01, 'mode': mode}
    model = make(shop, 'sea_split_before', **weights)
    sea = make(shop, 'sea', **weights)
    inputs = model_inputs(shop.data)
    out = model.eval().get_embedding(**inputs)
    torch.testing.assert_close(out, sea.eval().get_embedding(**inputs))
    model.train(), sea.train()

    before = model.encoder.encode_items(inputs['modal_x'])
    _, extra, more = model.before(before)
    loss, terms = loss_of(model, shop)
    expected, others = loss_of(make(shop, 'sea', mode=mode, alpha=0), shop)
    assert set(terms) == {'softmax', *more}
    torch.testing.assert_close(terms['softmax'], others['softmax'])
    torch.testing.assert_close(
        loss, others['softmax'] + extra, rtol=1e-5, atol=1e-6
    )
    # Not what the losses say after the graph.
    after = loss_of(sea, shop)[1]
    assert terms['align/text-image'] != after['align/text-image']
    assert expected != loss
    if mode == 'slice':
        rows = before['text']
        assert torch.equal(
            model.before.split(before)['text'].generic, rows[:, :32]
        )


def test_mispaired_estimator(shop):
    weights = {'alpha': 0.5, 'beta': 0.3, 'hidden_channels': 8}
    model = make(shop, 'sea_mispaired', **weights)
    sea = make(shop, 'sea', **weights)
    loss, terms = loss_of(model, shop)
    own, others = loss_of(sea, shop)
    assert set(terms) == set(others)
    for name in ('softmax', 'align/text-image'):
        torch.testing.assert_close(terms[name], others[name])

    names = ('modal_x', 'edge_index')
    inputs = model_inputs(shop.data)
    parts = sea.get_parts(**{name: inputs[name] for name in names})
    club = CLUBLoss(4, 4)
    club.fit(torch.cat(parts['text']), torch.cat(parts['image']))
    total = terms['softmax'] + 0.5 * terms['align/text-image']
    for name, pair in parts.items():
        bound = club.bound(*pair).clamp(min=0)
        torch.testing.assert_close(terms[f'distance/{name}'], bound)
        total = total + 0.3 * bound
    torch.testing.assert_close(loss, total)
    assert loss != own

    # With the later generic part as the earlier unique one, what is fitted is
    # wrong, and the value would be negative.
    generic = torch.randn(60, 4)
    parts = {
        'image': ModalParts(-generic, generic),
        'text': ModalParts(generic, -generic),
    }
    _, terms = model.separate.loss(parts)
    assert model.separate.club.bound(*parts['text']) >= 0
    parts['text'] = ModalParts(generic, generic)
    model.separate.eval()
    _, terms = model.separate.loss(parts)
    assert model.separate.club.bound(*parts['text']) < 0
    assert terms['distance/text'] == 0

    off = make(shop, 'sea_mispaired', beta=0)
    assert list(loss_of(off, shop)[1]) == ['softmax', 'align/text-image']


@pytest.mark.parametrize(
    'settings',
    [{'generic_channels': 20}, {'distance': 'negative_l2'}],
)
def test_mispaired_needs_equal_parts(shop, settings):
    with pytest.raises(ValueError, match='two modalities'):
        make(shop, 'sea_mispaired', **settings)


def test_one_estimator_for_all_modalities():
    model = models.MODELS['sea_mispaired'](5, 40, {'a': 3, 'b': 3, 'c': 3})
    parts = model.separate.split({m: torch.randn(40, 64) for m in 'abc'})
    x, y = models.controls.mispaired(parts)
    assert x.shape == y.shape == (3 * 80, 32)
    assert torch.equal(x[:40], parts['b'].generic)
    assert torch.equal(y[:40], parts['a'].generic)
    assert torch.equal(x[-40:], parts['c'].unique)
    assert torch.equal(y[-40:], parts['b'].unique)


@pytest.mark.parametrize('name', ['sea_split_before', 'sea_mispaired'])
def test_controls_have_the_settings_of_sea(name):
    settings = {'alpha': 0.5, 'distance': 'club'}
    resolved = models.resolve(name, settings)
    assert resolved == models.resolve('sea', settings)
    model = models.MODELS[name](5, 40, {'a': 3, 'b': 3})
    before = [p.clone() for p in model.parameters()]
    model.reset_parameters()
    assert any(not torch.equal(*p) for p in zip(before, model.parameters()))


# --- variants


def test_every_variant_takes_a_step(shop):
    known = controls.variants(['image', 'text'], {})
    assert {v.model for v in known.values()} - {'sea'} == {
        *models.CONTROLS,
        'sea_paper',
        'released_sea',
    }
    losses = {}
    for name, variant in known.items():
        if not variant.modalities:
            # A small start would leave differences to later steps.
            start = (
                {}
                if variant.model == 'released_sea'
                else {'encoder_scale': 1.0, 'initial_norm': None}
            )
            settings = dict(variant.settings) | start
            model = make(shop, variant.model, **settings)
            with torch.no_grad():  # As biases would, which start at zero.
                for key, x in model.named_parameters():
                    if key == 'ranking.item_bias':
                        x.copy_(torch.linspace(-1, 1, x.numel()))
            loss, _ = loss_of(model, shop)
            loss.backward()
            losses[name] = loss.item()
    # Each of them does something else.
    assert len({f'{x:.6f}' for x in losses.values()}) == len(losses)


def test_variants_are_around_the_defaults():
    known = controls.variants(['a', 'b', 'c'], {'beta': 0.002, 'lr': 1})
    alpha = default('alpha', SEA)
    assert next(iter(known)) == 'SEA'
    assert known['SEA'].settings == {}
    assert known['neither loss'].settings == {'alpha': 0, 'beta': 0}
    assert known['alignment only'].settings == {'alpha': alpha, 'beta': 0}
    strong = {'alpha': times(alpha, 10), 'beta': 0.02}
    assert known['both x 10'].settings == strong
    assert 'ReleasedSEA' not in known
    subsets = [v.modalities for v in known.values() if v.modalities]
    assert subsets == [
        *[('a',), ('b',), ('c',), ('a', 'b'), ('a', 'c'), ('b', 'c')]
    ]
    off = controls.variants(['a'], {'alpha': 0})
    assert off['alignment only'].settings['alpha'] > 0
    assert 'CLUB: mispaired' not in off
    assert not any(v.modalities for v in off.values())


def test_options_of_a_subset(shop_options):
    args = parse(
        [
            *('--data', 'x', '--modality', 'a=a.npy', '--modality', 'b=b.npy'),
            *('--modality', 'c=c.npy', '--normalize', 'l2'),
            *('--normalize', 'b=none', '--neighbors', 'a=a.npz'),
            *('--graph-weight', 'a=0.1', '--graph-weight', 'b=0.3'),
        ]
    )
    out = controls.subset(args, ('a', 'b'))
    assert out.modality == ['a=a.npy', 'b=b.npy']
    assert out.graph_weight == ['a=0.25', 'b=0.7499999999999999']
    assert out.normalize == ['l2', 'b=none']
    out = controls.subset(args, ('b',))
    assert out.graph_weight == ['b=1.0']
    assert out.neighbors == []
    out = controls.subset(args, ('a', 'c'))
    assert out.normalize == ['l2']
    assert out.neighbors == ['a=a.npz']
    assert controls.subset(args, ('c',)).graph_weight == []
    assert args.modality[-1] == 'c=c.npy'

    image = controls.subset(parse(shop_options), ('image',))
    shop = catalogue.read(image)
    assert list(model_inputs(shop.data)['modal_x']) == ['image']


def fails_at_the_fourth(monkeypatch):
    """The fourth training does not even start. Returns the seeds so far."""
    train, calls = run.train, []

    def stop(*args, **kwargs):
        calls.append(kwargs['seed'])
        if len(calls) == 4:
            raise RuntimeError('power cut')
        return train(*args, **kwargs)

    monkeypatch.setattr(run, 'train', stop)
    return calls


def test_controls_are_skipped_and_resumed(shop_options, tmp_path, monkeypatch):
    out = tmp_path / 'controls_shop.jsonl'
    chosen = ['SEA', 'negative L2', 'text only']
    args = [*shop_options, *QUICK, '--seeds', '2', '--out', str(out)]
    args += ['--work', str(tmp_path / 'work')]
    args += [a for name in chosen for a in ('--variant', name)]
    calls = fails_at_the_fourth(monkeypatch)
    with pytest.raises(RuntimeError, match='power cut'):
        controls.main(args)
    assert len(records.read(out)) == 3
    controls.main(args)
    assert calls == [0, 1, 0, 1, 1, 0, 1]
    controls.main(args)
    assert len(calls) == 7

    rows = records.read(out)
    names = [row['variant'] for row in rows]
    assert names == [name for name in chosen for _ in range(2)]
    assert [row['seed'] for row in rows] == [0, 1] * 3
    for row in rows:
        assert row['common'] == {'batch_size': 256, 'max_epochs': 1}
        assert list(row['of']['modalities']) == ['image', 'text']
        assert records.users_path(out, row).exists()
        assert set(row['test']) == set(row['validation'])
    assert list(rows[0]['dependence']) == [
        *('r2/image', 'r2/text', 'retrieval/text-image'),
        *('hsic/image', 'hsic/text'),
    ]
    assert list(rows[-1]['dependence']) == ['r2/text', 'hsic/text']
    assert rows[0]['dependence'] != rows[1]['dependence']
    assert list(rows[-1]['inputs']['modalities']) == ['text']

    # The key is that of run.py: the same run has the same figures.
    shop = catalogue.read(parse(shop_options))
    row, _ = run.run(shop, 'sea', rows[0]['common'], 0, tmp_path / 'other')
    assert records.key_of(row) == records.key_of(rows[0])
    assert row['test'] == rows[0]['test']
    assert 'dependence' not in row


def test_what_was_trained_is_kept_until_it_is_measured(shop, tmp_path):
    settings = {'batch_size': 256, 'max_epochs': 2}
    saved = []

    def stop(model, shop):
        [folder] = tmp_path.iterdir()
        saved.append((folder / 'last.ckpt').stat().st_mtime_ns)
        if len(saved) == 1:
            raise RuntimeError('power cut')
        return {}

    with pytest.raises(RuntimeError, match='power cut'):
        run.run(shop, 'sea', settings, 0, tmp_path, stop)
    row, _ = run.run(shop, 'sea', settings, 0, tmp_path, stop)
    assert row['epochs'] == 2
    assert saved[0] == saved[1]
    assert not any(tmp_path.iterdir())


def test_measured_on_the_parts_of_the_best_epoch(shop):
    model = make(shop, 'sea')
    seen = controls.measure(model, shop)['dependence']
    inputs = model_inputs(shop.data)
    names = ('modal_x', 'edge_index')
    with torch.no_grad():
        parts = model.get_parts(**{name: inputs[name] for name in names})
    assert seen == controls.dependence(parts)
    assert not model.training


def test_unknown_variants_are_refused(shop_options, capsys):
    with pytest.raises(SystemExit):
        controls.main([*shop_options, '--variant', 'x', '--out', 'y'])
    assert "'neither loss'" in capsys.readouterr().err


# --- sensitivity


def test_values_of_sweeps():
    middle = sensitivity.center({'alpha': 0.2}, k=7)
    assert middle == {
        'alpha': 0.2,
        'beta': default('beta', SEA),
        'temperature': 0.2,
        'ranking temperature': 0.2,
        'k': 7,
    }
    assert sensitivity.values_of('alpha', 0.2) == [0, 0.02, 0.06, 0.6, 2]
    assert sensitivity.values_of('k', 7) == [1, 4, 14, 28]
    unit = default('beta', SeparateLearning)
    zero = sensitivity.values_of('beta', 0)
    assert zero == sorted(times(unit, f) for f in (0.1, 0.3, 1, 3, 10))
    ranking = {'ranking_kwargs': {'num_negatives': 5, 'temperature': 0.1}}
    assert sensitivity.center(ranking, 7)['ranking temperature'] == 0.1
    assert sensitivity.settings_of('ranking temperature', 0.3, ranking) == {
        'ranking_kwargs': {'num_negatives': 5, 'temperature': 0.3}
    }
    assert sensitivity.settings_of('beta', 1, {'lr': 2}) == {
        'lr': 2,
        'beta': 1,
    }
    assert sensitivity.settings_of('k', 3, {'lr': 2}) == {'lr': 2}


@pytest.mark.parametrize('sweep', [s for s in sensitivity.FACTORS if s != 'k'])
def test_every_point_is_another_model(shop, sweep):
    middle = sensitivity.center({}, 4)[sweep]
    losses = []
    for value in [middle, *sensitivity.values_of(sweep, middle)]:
        settings = sensitivity.settings_of(sweep, value, {})
        losses.append(loss_of(make(shop, 'sea', **settings), shop)[0].item())
    assert len(set(losses)) == len(losses)


def test_sensitivity_keeps_validation_only(shop_options, tmp_path, capsys):
    out = tmp_path / 'sensitivity_shop.jsonl'
    args = [*shop_options, *QUICK, '--sweep', 'k', '--seeds', '1']
    args += ['--out', str(out), '--work', str(tmp_path / 'work')]
    sensitivity.main(args)
    rows = records.read(out)
    assert [(row['sweep'], row['value']) for row in rows] == [
        *[(None, None), ('k', 1), ('k', 2), ('k', 8), ('k', 16)]
    ]
    assert [row['inputs']['k'] for row in rows] == [4, 1, 2, 8, 16]
    assert {json.dumps(row['of']) for row in rows} == {
        json.dumps(rows[0]['inputs'])
    }
    assert not any('test' in row for row in rows)
    assert not (tmp_path / 'users').exists()
    capsys.readouterr()
    sensitivity.main(args)
    assert capsys.readouterr().out.count('there already') == 5
    assert len(records.read(out)) == 5


def test_sensitivity_goes_on(shop_options, tmp_path, monkeypatch):
    out = tmp_path / 'sensitivity_shop.jsonl'
    args = [*shop_options, *QUICK, '--sweep', 'k', '--seeds', '2']
    args += ['--out', str(out), '--work', str(tmp_path / 'work')]
    calls = fails_at_the_fourth(monkeypatch)
    with pytest.raises(RuntimeError, match='power cut'):
        sensitivity.main(args)
    assert len(records.read(out)) == 3
    sensitivity.main(args)
    assert len(calls) == 11
    rows = records.read(out)
    assert [row['seed'] for row in rows] == [0, 1] * 5
    assert len({records.key_of(row) for row in rows}) == 10


def test_bpr_has_no_temperature(shop_options, tmp_path, capsys, monkeypatch):
    args = [*shop_options, '--set', 'ranking=bpr', '--seeds', '1']
    args += ['--out', str(tmp_path / 'a')]
    with pytest.raises(SystemExit):
        sensitivity.main([*args, '--sweep', 'ranking temperature'])
    assert 'a ranking loss that has one' in capsys.readouterr().err
    sweeps = []
    monkeypatch.setattr(
        sensitivity, 'fill', lambda *a, label, **k: sweeps.append(label)
    )
    sensitivity.main(args)
    assert {label['sweep'] for label in sweeps} == {
        *(None, 'alpha', 'beta', 'temperature', 'k')
    }


def test_ready_made_neighbours_have_no_k(shop_options, capsys):
    args = [*shop_options, '--neighbors', 'text=x.npz', '--out', 'x']
    with pytest.raises(SystemExit):
        sensitivity.main([*args, '--sweep', 'k'])
    assert 'not ready-made' in capsys.readouterr().err
