"""What every process of `test_distributed.py` trains."""

import itertools
import json
import os
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace

import torch
import torch.distributed as dist

from pyg_sea.datasets import FakeMultimodal
from pyg_sea.nn import FREEDOM, SEA, ReleasedSEA
from pyg_sea.nn.distributed import rank, world_size
from pyg_sea.training import checkpoints, train
from pyg_sea.transforms import ModalKNNGraph, model_inputs


def make(kind, data, **kwargs):
    torch.manual_seed(0)
    modal_x = model_inputs(data)['modal_x']
    widths = {name: x.size(1) for name, x in modal_x.items()}
    sizes = data['user'].num_nodes, data['item'].num_nodes
    return kind(*sizes, widths, hidden_channels=8, **kwargs)


def poison(model):
    """Makes the loss of the last process NaN in the fourth step."""
    healthy, steps = model.loss, []

    def loss(**kwargs):
        total, terms = healthy(**kwargs)
        steps.append(0)
        if len(steps) == 4 and rank() == world_size() - 1:
            terms['align/text-image'] *= torch.nan
        return total, terms

    model.loss = loss
    return model


def run(folder, devices):
    """Some runs of `train`, and what they return."""
    data = ModalKNNGraph(k=5)(FakeMultimodal(80, 61, seed=1)[0])
    num_edges = data['user', 'buys', 'item'].edge_index.size(1)
    # In the last batch there is one triplet, and none for a second process.
    batch_size = next(b for b in range(80, 200) if num_edges % b == 1)

    def fit(model, out, precision='64-true', **kwargs):
        result = train(
            model,
            data,
            out,
            seed=3,
            lr=1e-2,
            batch_size=batch_size,
            gradient_clip_val=1.0,
            progress=False,
            precision=precision,
            accelerator='cpu',
            devices=devices,
            strategy='ddp' if devices > 1 else 'auto',
            **kwargs,
        )
        return {
            'best_epoch': result.best_epoch,
            'num_epochs': result.num_epochs,
            'val': result.val,
            'test': result.test,
            'history': [
                {name: x for name, x in row.items() if name != 'seconds'}
                for row in result.history
            ],
        }

    found = {}
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        model = make(SEA, data, num_anchors=None)
        out = folder / f'own_{os.environ.get("RANK", 0)}'
        found['synced'] = fit(model, out, max_epochs=3)
        found['weights'] = {
            name: weight.tolist() for name, weight in model.named_parameters()
        }
        found['files'] = sorted(path.name for path in out.iterdir())

        model = make(ReleasedSEA, data, num_steps=2)
        found['not synced'] = fit(model, None, patience=1, max_epochs=4)

        model = make(FREEDOM, data, dropout=0.5)
        seed = int(os.environ.get('RANK', 0))  # That of the first counts.
        model.set_extra_state(torch.tensor([seed, 0]))
        found['thinned'] = fit(model, None, max_epochs=4)

        for name, epochs in [('straight', 3), ('resumed', 2), ('resumed', 3)]:
            found[name] = fit(
                make(SEA, data, num_anchors=20),
                folder / name,
                '32-true',
                max_epochs=epochs,
                resume=True,
            )
        try:
            fit(poison(make(SEA, data)), None, max_epochs=2)
        except FloatingPointError as error:
            found['error'] = str(error)
    return found


if __name__ == '__main__':
    folder = Path(sys.argv[1])
    # Clocks that disagree on when to write a checkpoint.
    clock = itertools.count(step=1 - int(os.environ['RANK']))
    checkpoints.time = SimpleNamespace(perf_counter=lambda: next(clock))
    found = run(folder, devices=2)
    (folder / f'{rank()}.json').write_text(json.dumps(found))
    dist.barrier()
    dist.destroy_process_group()
