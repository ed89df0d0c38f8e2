"""What precision does to the quality of `SEA`: part of gpu.py."""

import argparse
from typing import Any

import numpy as np
import torch
from torch_geometric import seed_everything

from pyg_sea.nn import SEA


def recall(args: argparse.Namespace) -> dict[str, Any]:
    """The best validation Recall@20 of every seed, by precision."""
    from pyg_sea.datasets import MMRecDataset
    from pyg_sea.training import train
    from pyg_sea.transforms import ModalKNNGraph, model_inputs

    modalities = dict(value.split('=', 1) for value in args.modality)
    dataset = MMRecDataset(
        args.recall, modalities=modalities or None, normalize='standard'
    )
    data = ModalKNNGraph(k=10)(dataset[0])
    modal_x = model_inputs(data)['modal_x']
    sizes = {name: x.size(1) for name, x in modal_x.items()}
    num_nodes = data['user'].num_nodes, data['item'].num_nodes
    values: dict[str, list[float]] = {}
    for kind in ['fp32', 'bf16', *(['tf32'] if args.device == 'cuda' else [])]:
        torch.set_float32_matmul_precision(
            'high' if kind == 'tf32' else 'highest'
        )
        values[kind] = []
        for seed in range(args.seeds):
            seed_everything(seed)
            result = train(
                SEA(*num_nodes, sizes),
                data,
                seed=seed,
                max_epochs=args.epochs,
                precision='bf16-mixed' if kind == 'bf16' else '32-true',
                progress=False,
                accelerator='gpu' if args.device == 'cuda' else 'cpu',
                devices=1,
            )
            values[kind].append(result.val['recall@20'])
            print('recall', kind, seed, values[kind][-1], flush=True)

    def summary(sample: np.ndarray) -> dict[str, float | None]:
        std = float(sample.std(ddof=1)) if sample.size > 1 else None
        return {'mean': float(sample.mean()), 'std': std}

    least = np.array(values['fp32'])
    return {
        'data': args.recall.name,
        'modalities': modalities,
        'max_epochs': args.epochs,
        'metric': 'validation recall@20 of the best epoch',
        'precisions': {
            kind: {
                'values': sample,
                **summary(np.array(sample)),
                'minus fp32': summary(np.array(sample) - least),
            }
            for kind, sample in values.items()
        },
    }
