import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch_geometric.data import HeteroData

from pyg_sea.evaluate import METRICS
from pyg_sea.recommend import EmbeddingScorer
from pyg_sea.report._chart import HEIGHT, WIDTH
from pyg_sea.report._curves import curves
from pyg_sea.report._facts import facts
from pyg_sea.report._groups import by_degree
from pyg_sea.report._lists import Split
from pyg_sea.report._parts import SIDE, parts
from pyg_sea.report._ranking import measure
from pyg_sea.report._users import Reader
from pyg_sea.runs._catalogue import TITLES, read_titles
from pyg_sea.runs._files import replacing
from pyg_sea.runs.run import CATALOGUE, Run
from pyg_sea.transforms.model_inputs import model_inputs

# Metrics that are computed again may differ so much from those of training,
# where sums are taken in another order.
_TOLERANCE = 1e-6


def write_report(
    run: Run,
    path: str | os.PathLike[str],
    *,
    num_users: int = 10,
    seed: int = 0,
) -> Path:
    """Writes all about a training run on one HTML page, which needs no other
    file and no network: the data, curves of every loss term, metrics by users
    and items, maps of the generic and unique parts and what ties them, and
    some users with their recommendations, explained. Items have the titles
    that the run knows. Needs the extra `plot`.

    Metrics are computed again from the saved weights, in chunks of users, and
    the page says whether they agree with those of the run. The file appears
    when it is complete.

    Args:
        run: The run.
        path: The file to write; its folder is created.
        num_users: The users to show (default: 10).
        seed: Decides which users and items are drawn (default: 0).

    Returns the path. Raises a `ValueError` if `num_users` is negative.

    Example:
        >>> import tempfile
        >>> from pyg_sea.report import write_report
        >>> from pyg_sea.runs import make_settings, train_run
        >>> settings = make_settings('demo', 'VBPR', max_epochs=1)
        >>> with tempfile.TemporaryDirectory() as root:
        ...     run = train_run(settings, f'{root}/run', progress=False)
        ...     page = write_report(run, f'{root}/report.html', num_users=2)
        ...     text = page.read_text(encoding='utf-8')
        >>> '<h1>VBPR on demo</h1>' in text
        True
    """
    if num_users < 0:
        raise ValueError(
            f"'num_users' needs to be at least 0 (got {num_users})"
        )
    page = _render(collect(run, num_users, seed))
    path = Path(path).expanduser().absolute()
    with replacing(path) as scratch:
        scratch.write_text(page, encoding='utf-8')
    return path


@torch.no_grad()
def collect(run: Run, num_users: int, seed: int) -> dict[str, Any]:
    """What the page shows. The arguments are those of :func:`write_report`."""
    data = run.data()
    model: Any = run.model(data)
    inputs, split = model_inputs(data), _split_of(data)
    embedding = model.get_embedding(**inputs).float()
    scorer = EmbeddingScorer(
        *embedding.split([split.num_users, split.num_items])
    )
    test = run.metrics['test']
    names = [name for name in test if name.partition('@')[0] in METRICS]
    ranking = measure(scorer, split, names)
    difference = max(abs(ranking.total[name] - test[name]) for name in names)
    titles = read_titles(run.path / CATALOGUE / TITLES)
    reader = Reader(run.recommender(), split, titles)
    users = [reader.read(user) for user in reader.choose(num_users, seed)]
    return {
        'title': f'{run.settings["model"]["name"]} on {_catalogue(run)}',
        'version': run.settings['pyg_sea'],
        'model': repr(model),
        'settings': list(_flat(run.settings)),
        'metrics': run.metrics,
        'facts': facts(data, split),
        'curves': curves(run.history, run.metrics['best_epoch']),
        'ranking': ranking,
        'difference': difference,
        'agrees': difference <= _TOLERANCE,
        'parts': parts(model, inputs, by_degree(split.item_degree), seed),
        'users': users,
        'explained': any(w.bars for user in users for w in user.recommended),
    }


def _split_of(data: HeteroData) -> Split:
    store: Any = data['user', 'item']
    # Sorted by user, as the exclusion of what users have takes them.
    order = store.edge_index[0].argsort(stable=True)
    return Split(
        store.edge_index[:, order],
        store.test_edge_index,
        data['user'].num_nodes,
        data['item'].num_nodes,
    )


def _catalogue(run: Run) -> str:
    data = run.settings['data']
    return str(data['name'] or data['folder'])


def _flat(settings: Mapping[str, Any], prefix: str = '') -> Iterator[Any]:
    for key, value in settings.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f'{prefix}{key}.')
        else:
            yield f'{prefix}{key}', json.dumps(value, ensure_ascii=False)


def _render(content: Mapping[str, Any]) -> str:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader('pyg_sea.report'),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    template = environment.get_template('page.html')
    return template.render(**content, width=WIDTH, height=HEIGHT, side=SIDE)
