import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode
from torch_geometric import seed_everything

from pyg_sea.loader import BPRLoader
from pyg_sea.nn import SEA
from pyg_sea.recommend import top_k_items

FOLDER = Path(__file__).parents[2] / 'benchmarks' / 'speed'
sys.path.insert(0, str(FOLDER))
import bound  # noqa: E402
import gpu  # noqa: E402
import precision  # noqa: E402
from catalogues import Size, catalogue  # noqa: E402

sys.path.remove(str(FOLDER))

needs_cuda = pytest.mark.skipif(
    not torch.cuda.is_available(), reason='needs cuda, a GPU'
)
SIZE = Size(60, 150, 600, {'image': 24, 'text': 16, 'audio': 8})
BATCH = 128


def setup(**kwargs):
    seed_everything(0)
    data = catalogue(SIZE)
    model = SEA(60, 150, SIZE.channels, hidden_channels=12, **kwargs)
    loader = BPRLoader(data['train'], 60, 150, BATCH, seed=0)
    return data, model, loader


def run(*args):
    command = [sys.executable, str(FOLDER / 'gpu.py'), *args]
    return subprocess.run(command, capture_output=True, text=True)


# --- the bound


@pytest.mark.parametrize(
    'kwargs',
    [
        {},
        {
            'generic_channels': 5,
            'encoder_channels': 0,
            'num_anchors': 40,
            'ranking_kwargs': {'num_negatives': 32},
        },
        {'ranking_kwargs': {'num_negatives': None}, 'num_anchors': None},
        {'id_channels': 0},
        {'ranking_kwargs': {'reverse': 0.0}},
    ],
)
def test_operations_are_those_that_torch_counts(kwargs):
    # Torch would count a sparse product as if it were dense.
    data, model, loader = setup(num_layers=0, **kwargs)
    inputs = {name: data['inputs'][name] for name in ('modal_x', 'edge_index')}
    counter = FlopCounterMode(display=False)
    with counter:
        loss, _ = model.loss(**inputs, triplets=next(iter(loader)))
        loss.backward()
    parts = bound.parts(model, 600, 0, BATCH, 'fp32')
    assert sum(p.flops for p in parts.values()) == counter.get_total_flops()


def test_bound_in_closed_form():
    data, model, loader = setup()
    parts = bound.parts(model, 600, 3_000, BATCH, 'tf32')
    # 60 + 150 nodes of 164 channels, 2 hops there and back, 1,200 entries.
    assert parts['propagate'].flops == 4 * 2 * 1_200 * 164
    moved = 3 * 210 * 164 * 4 + 1_200 * (4 + 4) + 210 * 4
    assert parts['propagate'].bytes == 4 * moved
    assert parts['similar items'].flops == 2 * 2 * 3_000 * 164
    # All users of a batch against all.
    assert parts['rank users'].flops == 3 * 2 * BATCH * 164 * BATCH
    # Two passes over the features, the layer and what it returns.
    moved = 150 * 24 + 24 * 48 + 150 * 48
    assert parts['encode/image/0'] == (
        2 * 2 * 150 * 24 * 48,
        2 * 4 * moved,
        'tf32',
    )
    half = bound.parts(model, 600, 3_000, BATCH, 'bf16')
    assert half['encode/image/0'].bytes == parts['encode/image/0'].bytes / 2
    weights = sum(p.numel() for p in model.parameters())
    assert parts['optimizer'].bytes == 28 * weights

    assert bound.Part(989e12, 0, 'bf16').seconds() == 1.0
    assert bound.Part(67e12, 3 * 4.8e12).seconds() == 3.0
    out = bound.bound(model, data, loader, 'tf32')
    assert out['step'] == pytest.approx(
        sum(part['seconds'] for part in out['parts'].values())
    )
    assert out['epoch'] == pytest.approx(out['step'] * 600 / BATCH)
    users = data['held_out'][0].unique().numel()
    scores = (users * 164 + 164 * 150 + 2 * users * 150) * 4
    assert out['evaluation'] > scores / bound.BANDWIDTH
    assert out['evaluation'] < out['step']


# --- waiting

aten = torch.ops.aten
WAITING = {
    *(aten._local_scalar_dense, aten.is_nonzero, aten.equal, aten.lift_fresh),
    *(aten.nonzero, aten.masked_select, aten.bincount, aten.isin),
    *(aten._unique2, aten.unique_dim, aten.unique_consecutive),
}


class Waits(TorchDispatchMode):
    """Collects calls whose result, or its size, the host would wait for if
    tensors were on a GPU, and of numbers that would be copied to it.
    """

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        packet, kwargs = func.overloadpacket, kwargs or {}
        waits = packet in WAITING
        if packet == aten.repeat_interleave:
            waits = kwargs.get('output_size') is None
        if packet in (aten.index, aten.index_put_, aten.index_put):
            waits = any(
                index is not None and index.dtype == torch.bool
                for index in args[1]
            )
        if waits:
            self.found.append(str(func))
        return func(*args, **kwargs)


@pytest.mark.parametrize(
    'call',
    [
        lambda x: x.max().item(),
        lambda x: bool(x.any()),
        lambda x: x[x > 1],
        lambda x: x.unique(),
        lambda x: x.repeat_interleave(x),
        lambda x: x + torch.tensor(1),
        lambda x: x.bincount(),
    ],
)
def test_waits_are_found(call):
    with Waits() as waits:
        call(torch.arange(3))
    assert len(waits.found) == 1


@pytest.mark.parametrize(
    ('make', 'bf16'),
    [
        (SEA, False),
        (SEA, True),
        (lambda *a: SEA(*a, num_anchors=40), False),
        (lambda *a: SEA(*a, ranking_kwargs={'num_negatives': 32}), False),
        (lambda *a: SEA.paper(*a, club_kwargs={'num_steps': 2}), False),
        (lambda *a: SEA.paper(*a, distance='negative_l2'), False),
    ],
)
def test_an_epoch_waits_for_nothing(make, bf16):
    data, _, loader = setup()
    model = make(60, 150, SIZE.channels)
    step = gpu.Step(model, data['inputs'], ['bf16'] if bf16 else [])
    step(next(iter(loader)))  # Converts the graphs.
    with Waits() as waits:
        total, marks = gpu.epoch(step, loader, 'cpu')
    assert len(marks) == len(loader) + 1
    assert total.isfinite()
    assert waits.found == []


def test_a_ranking_waits_a_few_times():
    data, _, _ = setup()
    user, item = torch.randn(60, 8), torch.randn(150, 8)
    with Waits() as waits:
        top_k_items(user, item, exclude=data['train'])
    # Are ids sorted, what is the largest, are scores finite? Lists of numbers
    # are waited for as well, which torch shows on a GPU only.
    assert waits.found == ['aten._local_scalar_dense.default'] * 3


# --- the script


@pytest.fixture(scope='module')
def result(tmp_path_factory):
    out = tmp_path_factory.mktemp('gpu') / 'results' / 'gpu.json'
    args = ['--size', 'small', '--device', 'cpu', '--rounds', '2']
    done = run(*args, '--out', str(out))
    assert done.returncode == 0, done.stderr
    return json.loads(out.read_text())


def test_result_file(result):
    assert result['size'] == 'small'
    assert result['num_users'] == 300
    assert result['device'] == 'cpu'
    assert {'machine', 'torch', 'commit', 'peak', 'goal'} <= set(result)
    assert list(result['variants']) == ['fp32', 'bf16']
    for name, row in result['variants'].items():
        assert row['epoch waits at'] is None
        assert row['evaluation waits at'] == {}
        # An epoch is two steps; the second one is smaller.
        assert 0 < row['step'] < row['epoch']
        assert row['evaluation'] > 0
        assert 0.1 < row['peak memory'] < 10
        least = row['bound']
        assert least['parts']['encode/text/0']['precision'] == name
        for key in ('step', 'epoch', 'evaluation'):
            ratio = row[key] / least[key]
            assert row['times the bound'][key] == pytest.approx(ratio)


def test_precisions_reach_one_loss(result):
    fp32, bf16 = result['variants'].values()
    assert bf16['loss'] == pytest.approx(fp32['loss'], rel=0.01)
    assert bf16['loss'] != fp32['loss']
    assert bf16['bound']['step'] < fp32['bound']['step']


@pytest.mark.parametrize(
    ('variant', 'message'),
    [
        ('bf16+graph', "'bf16+graph' needs --device cuda"),
        ('int8', "(got 'int8')"),
    ],
)
def test_arguments(monkeypatch, capsys, variant, message):
    args = ['gpu.py', 'small', '--device', 'cpu', '--variants', variant]
    monkeypatch.setattr(sys, 'argv', args)
    with pytest.raises(SystemExit):
        gpu.arguments()
    assert message in capsys.readouterr().err


def test_failures_are_recorded(monkeypatch, tmp_path):
    out = tmp_path / 'gpu.json'
    monkeypatch.setattr(gpu, '__file__', str(tmp_path / 'missing.py'))
    args = ['gpu.py', 'small', '--device', 'cpu', '--variants', 'fp32']
    monkeypatch.setattr(sys, 'argv', [*args, '--out', str(out)])
    with pytest.raises(SystemExit) as caught:
        gpu.main()
    assert caught.value.code == 1
    row = json.loads(out.read_text())['variants']['fp32']
    assert 'missing.py' in row['failed'][-1]


def test_recall_by_precision(monkeypatch, tmp_path):
    pytest.importorskip('lightning', reason='trains')
    datasets = pytest.importorskip('pyg_sea.datasets')
    shop = datasets.FakeMultimodal(num_users=300, num_items=60)
    monkeypatch.setattr(datasets, 'MMRecDataset', lambda *a, **kw: shop)
    args = ['gpu.py', '--device', 'cpu', '--recall', str(tmp_path / 'shop')]
    args += ['--seeds', '2', '--epochs', '2', '--variants']
    monkeypatch.setattr(sys, 'argv', args)
    out = precision.recall(gpu.arguments())
    assert out['data'] == 'shop'
    fp32, bf16 = out['precisions'].values()
    assert len(fp32['values']) == 2
    assert fp32['values'][0] != fp32['values'][1]
    assert fp32['minus fp32'] == {'mean': 0.0, 'std': 0.0}
    assert fp32['mean'] == pytest.approx(sum(fp32['values']) / 2)
    assert bf16['minus fp32']['mean'] == pytest.approx(
        bf16['mean'] - fp32['mean']
    )
    assert 'test' not in json.dumps(out)


# --- on a GPU


@needs_cuda
def test_on_a_gpu(tmp_path):
    out = tmp_path / 'gpu.json'
    variants = ['fp32', 'tf32', 'bf16', 'graph', 'tf32+graph', 'bf16+graph']
    args = ['small', '--rounds', '2', '--out', str(out), '--variants']
    done = run(*args, *variants)
    rows = json.loads(out.read_text())['variants']
    assert done.returncode == 0, rows
    for name, row in rows.items():
        assert row['epoch waits at'] is None, name
        assert 0 < row['step'] < row['epoch']
        assert row['loss'] == pytest.approx(rows['fp32']['loss'], rel=0.05)
        calls = row['runtime calls of an epoch']
        assert ('cudaGraphLaunch' in calls) == ('graph' in name)


@needs_cuda
def test_waits_have_a_line():
    def run():
        return torch.ones(2, device='cuda').sum().item()

    assert 'sum().item()' in gpu.first_wait(run, 'cuda')
    [[line, count]] = gpu.all_waits(run, 'cuda').items()
    assert line.startswith('benchmarks/test_gpu.py:')
    assert count == 1
    assert gpu.first_wait(lambda: torch.ones(2, device='cuda'), 'cuda') is None


@needs_cuda
def test_graph_takes_the_steps_that_eager_code_takes():
    states = []
    for flags in ([], ['graph']):
        seed_everything(0)
        data = catalogue(SIZE, device='cuda')
        # All items compete, all are anchors: nothing is drawn.
        model = SEA(60, 150, SIZE.channels, beta=0.0).cuda()
        step = gpu.Step(model, data['inputs'], flags)
        triplets = torch.stack([*data['train'], data['train'][1]])
        whole, rest = triplets[:, :500], triplets[:, 500:]
        if flags:
            step = gpu.GraphStep(step, whole)  # Takes three steps.
        else:
            for _ in range(3):
                step(whole)
        for batch in (whole, rest, whole):
            loss = step(batch)
        states.append([loss, *model.parameters()])
    torch.testing.assert_close(*states, rtol=1e-3, atol=1e-4)
