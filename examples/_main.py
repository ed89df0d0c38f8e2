"""The main job: load a catalogue, train, evaluate, leave the results."""

import argparse
import json
import math
import platform
import subprocess
import time
from pathlib import Path
from typing import Any, NamedTuple

import _plots
import torch
import torch_geometric
from torch_geometric.data import HeteroData

import pyg_sea
from pyg_sea.baselines import ContentKNN, Popularity
from pyg_sea.datasets import AmazonMultimodal, FakeMultimodal, MMRecDataset
from pyg_sea.evaluate import evaluate
from pyg_sea.nn import SEA, Recommender, ReleasedSEA
from pyg_sea.training import train
from pyg_sea.transforms import ModalKNNGraph, model_inputs, read_knn_graph


class Published(NamedTuple):
    """Settings of one catalogue for the presets, as the released code reads
    them: beside a ranking loss to base 2.
    """

    alpha: float
    ureg: float
    weights: dict[str, float]  # Of the modalities in the item-item graph.

    def of(self, model: str) -> dict[str, float]:
        if model == 'ReleasedSEA':
            return {'alpha': self.alpha, 'beta': self.ureg}
        # Beside the natural logarithm; `ureg` weighs the mean over two
        # modalities of halved bounds.
        log2 = math.log(2)
        return {'alpha': self.alpha * log2, 'beta': self.ureg / 4 * log2}


# `SEA` as it comes trains at our learning rate, the presets at the paper's.
MODELS = {
    'SEA': (SEA, 1e-3),
    'SEA.paper': (SEA.paper, 1e-4),
    'ReleasedSEA': (ReleasedSEA, 1e-4),
}


def main(dataset: str, published: Published) -> None:
    args = parse_args(dataset)
    torch_geometric.seed_everything(args.seed)
    out = Path(args.out or f'runs/{Path(args.dataset).name.lower()}')
    out.mkdir(parents=True, exist_ok=True)

    start = time.perf_counter()
    data = load(args, published)
    inputs = model_inputs(data)
    describe(data, inputs, time.perf_counter() - start)

    model, lr = build(args, data, inputs, published)
    print(
        f'{model}, {sum(p.numel() for p in model.parameters()):,} parameters'
    )
    parts = {'before': parts_of(model, inputs)}
    result = train(
        model,
        data,
        out,
        max_epochs=args.epochs,
        batch_size=args.batch_size,
        lr=args.lr or lr,
        patience=args.patience,
        seed=args.seed,
        resume=args.resume,
    )
    parts['after'] = parts_of(model, inputs)

    rows = baselines(data, inputs) | {args.model: result.test}
    r2 = _plots.cross_validated_r2(parts)
    _plots.curves(result.history, out / 'curves.png')
    _plots.parts(parts, r2, out / 'parts.png')
    write_json(
        out / 'metrics.json',
        {
            'arguments': vars(args),
            'model': repr(model),
            'best_epoch': result.best_epoch,
            'epochs': result.num_epochs,
            'seconds': round(result.seconds, 1),
            'validation': result.val,
            'test': rows,
            'r2_unique_from_generic': r2,
            'versions': versions(),
            'commit': commit(),
        },
    )
    report(rows, result, out)


def parse_args(dataset: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    add = parser.add_argument
    add('--root', default='data', help='folder of the Amazon files')
    add(
        '--dataset',
        default=dataset,
        help="'Baby', 'Sports', 'Clothing' or 'Electronics', the path of a "
        "folder in the MMRec format, or 'demo' (generated)",
    )
    add(
        '--modality',
        action='append',
        default=[],
        metavar='NAME=FILE',
        help='a feature file of an MMRec folder; may be repeated',
    )
    add(
        '--neighbors',
        action='append',
        default=[],
        metavar='NAME=FILE',
        help='a ready-made item-item graph of a modality (.npz); may be '
        'repeated',
    )
    add(
        '--normalize',
        choices=['l2', 'standard', 'none'],
        help="how features are scaled, else 'standard' for SEA and 'none' "
        'for the presets',
    )
    add(
        '--graph-weight',
        action='append',
        default=[],
        metavar='NAME=WEIGHT',
        help='the weight of a modality in the item-item graph; may be '
        'repeated; else the published ones for Amazon and the presets, equal '
        'ones for other data',
    )
    add('--model', choices=list(MODELS), default='SEA')
    add(
        '--alpha', type=float, help="weight of the alignment, else the model's"
    )
    add('--beta', type=float, help="weight of the distance, else the model's")
    add('--lr', type=float, help="learning rate, else the model's")
    add('--batch-size', type=int, default=2048)
    add('--epochs', type=int, default=1000, help='at most')
    add('--patience', type=int, default=20, help='epochs without gain')
    add('--seed', type=int, default=999)
    add('--resume', action='store_true', help='go on from --out')
    add('--out', help='folder of the results, else runs/<dataset>')
    return parser.parse_args()


def load(args: argparse.Namespace, published: Published) -> HeteroData:
    normalize = args.normalize
    if normalize is None:
        normalize = 'standard' if args.model == 'SEA' else 'none'
    normalize = None if normalize == 'none' else normalize
    neighbors = {
        name: read_knn_graph(Path(args.dataset) / file)
        for name, file in pairs(args.neighbors).items()
    }
    if args.dataset == 'demo':
        data = FakeMultimodal(seed=0)[0]
    elif args.dataset in AmazonMultimodal.published:
        data = AmazonMultimodal(args.root, args.dataset, normalize)[0]
    else:
        data = MMRecDataset(
            args.dataset,
            modalities=pairs(args.modality) or None,
            normalize=normalize,
        )[0]
    weights = graph_weights(args, published)
    return ModalKNNGraph(10, weights, neighbors=neighbors)(data)


def graph_weights(
    args: argparse.Namespace, published: Published
) -> dict[str, float] | None:
    if args.graph_weight:
        return {
            name: float(weight)
            for name, weight in pairs(args.graph_weight).items()
        }
    is_published = args.dataset in AmazonMultimodal.published
    if is_published or args.model != 'SEA':
        return published.weights
    return None


def pairs(values: list[str]) -> dict[str, str]:
    return dict(value.split('=', 1) for value in values)


def build(
    args: argparse.Namespace,
    data: HeteroData,
    inputs: dict[str, Any],
    published: Published,
) -> tuple[Recommender, float]:
    make, lr = MODELS[args.model]
    settings = {}
    if args.model != 'SEA':
        settings = published.of(args.model)
    for name in ('alpha', 'beta'):
        if getattr(args, name) is not None:
            settings[name] = getattr(args, name)
    model = make(
        data['user'].num_nodes,
        data['item'].num_nodes,
        {name: x.size(1) for name, x in inputs['modal_x'].items()},
        **settings,
    )
    return model, lr


def describe(data: HeteroData, inputs: dict[str, Any], seconds: float) -> None:
    store = data['user', 'buys', 'item']
    sizes = [
        store[name].size(1)
        for name in ('edge_index', 'val_edge_index', 'test_edge_index')
    ]
    print(
        f'{data["user"].num_nodes:,} users, {data["item"].num_nodes:,} items, '
        '{:,} train, {:,} validation, {:,} test'.format(*sizes)
        + f' interactions, loaded in {seconds:.1f} s'
    )
    for name, x in inputs['modal_x'].items():
        print(f'  {name}: {x.size(1)} features')


@torch.no_grad()
def parts_of(model: Recommender, inputs: dict[str, Any]) -> dict[str, Any]:
    names = ('modal_x', 'edge_index', 'edge_weight')
    return {
        name: [part.cpu().numpy() for part in parts]
        for name, parts in model.get_parts(
            **{name: inputs[name] for name in names}
        ).items()
    }


def baselines(
    data: HeteroData, inputs: dict[str, Any]
) -> dict[str, dict[str, float]]:
    store = data['user', 'buys', 'item']
    num_users, num_items = data['user'].num_nodes, data['item'].num_nodes
    scorers = {
        'popularity': Popularity(store.edge_index, num_items),
        'content k-NN': ContentKNN.from_features(
            store.edge_index, inputs['modal_x'], num_users
        ),
    }
    return {
        name: evaluate(scorer, store.test_edge_index, store.edge_index)
        for name, scorer in scorers.items()
    }


def report(rows: dict[str, dict[str, float]], result: Any, out: Path) -> None:
    names = list(next(iter(rows.values())))
    print(f'\n{"test":14}' + ''.join(f'{name:>12}' for name in names))
    for name, metrics in rows.items():
        print(f'{name:14}' + ''.join(f'{metrics[n]:12.4f}' for n in names))
    print(
        f'\nbest epoch {result.best_epoch} of {result.num_epochs}, '
        f'{result.seconds:.0f} s; results in {out}'
    )


def versions() -> dict[str, str]:
    return {
        'pyg_sea': pyg_sea.__version__,
        'torch': torch.__version__,
        'torch_geometric': torch_geometric.__version__,
        'python': platform.python_version(),
        'machine': f'{platform.machine()}, {torch.get_num_threads()} threads',
    }


def commit() -> str | None:
    try:
        done = subprocess.run(
            ['git', 'rev-parse', 'HEAD'],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def write_json(path: Path, content: dict[str, Any]) -> None:
    partial = path.with_suffix('.partial')
    partial.write_text(json.dumps(content, indent=2) + '\n')
    partial.replace(path)
