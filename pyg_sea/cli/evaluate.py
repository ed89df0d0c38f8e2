"""`pyg-sea evaluate`."""

from pathlib import Path

import click

from pyg_sea.cli._options import METRICS, positive
from pyg_sea.cli._print import metrics_table, show


@click.command('evaluate', short_help='Measure a trained model.')
@click.argument('run', type=click.Path(path_type=Path))
@positive(
    '--k',
    'cutoffs',
    multiple=True,
    default=(10, 20),
    help='The length of the lists; may be repeated.',
)
@click.option(
    '--metric',
    'metrics',
    type=click.Choice(METRICS),
    multiple=True,
    default=('recall', 'ndcg'),
    show_default=True,
    help='May be repeated.',
)
@click.option(
    '--split',
    type=click.Choice(['test', 'val']),
    default='test',
    show_default=True,
    help='Which held-out interactions to find.',
)
def command(
    run: Path, cutoffs: tuple[int, ...], metrics: tuple[str, ...], split: str
) -> None:
    """Rank all items for all users and compare with what was held out.

    RUN is what 'pyg-sea train' wrote. Beside the model stands what it has to
    beat: the most popular items, and those most similar to what a user had.

    \b
      pyg-sea evaluate runs/shop --k 5 --metric hit_ratio
    """
    import torch

    from pyg_sea.evaluate import evaluate
    from pyg_sea.recommend import EmbeddingScorer
    from pyg_sea.runs import Run
    from pyg_sea.runs.train import evaluate_baselines
    from pyg_sea.transforms.model_inputs import model_inputs

    opened = Run.open(run)
    data = opened.data()
    model = opened.model(data)
    sizes = [data['user'].num_nodes, data['item'].num_nodes]
    with torch.no_grad():
        rows = model.get_embedding(**model_inputs(data))
    store = data['user', 'buys', 'item']
    found = evaluate(
        EmbeddingScorer(*rows.split(sizes)),
        store[f'{split}_edge_index'],
        store.edge_index,
        cutoffs,
        metrics,
    )
    baselines = evaluate_baselines(data, split, k=cutoffs, metrics=metrics)
    name = opened.settings['model']['name']
    show(metrics_table(split, {**baselines, name: found}))
