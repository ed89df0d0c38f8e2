"""Do the losses do what the paper says, and does that help ranking? Trains
`SEA` with one thing changed at a time, and measures its parts.

python benchmarks/quality/controls.py --data "$PYG_SEA_DATA/lfm2k" \\
    --modality image=vggish.npy --modality text=all-MiniLM-L6-v2.npy \\
    --normalize text=none --seeds 5 \\
    --out benchmarks/quality/results/controls_lfm2k.jsonl

Adds lines as `run.py` does, with the name of the variant and `dependence`:
what `pyg_sea.dependence` measures on the parts of all items at the best epoch.
What is there is skipped, what was broken off goes on. `--set` applies to all
variants but `SEA.paper` and `ReleasedSEA`.
"""

import argparse
from collections.abc import Mapping
from itertools import combinations
from typing import Any, NamedTuple

import catalogue
import torch
from catalogue import Catalogue
from models.defaults import default, times
from run import fill, parse_settings, parser_of

from pyg_sea.dependence import dependence
from pyg_sea.nn import SEA, SeparateLearning
from pyg_sea.transforms import model_inputs


class Variant(NamedTuple):
    """One row of the table.

    Args:
        settings: What differs from the defaults of the model.
        model: Its name.
        modalities: Those that are used, in the order of the command line.
        preset: Whether the model has settings of its own.
    """

    settings: Mapping[str, Any]
    model: str = 'sea'
    modalities: tuple[str, ...] = ()
    preset: bool = False


def variants(
    modalities: list[str], common: Mapping[str, Any]
) -> dict[str, Variant]:
    """All variants, by name; the first one is `SEA` as it comes.

    Args:
        modalities: The modalities.
        common: Settings that differ from the defaults in all of them.
    """
    weight = {}
    for name in ('alpha', 'beta'):
        weight[name] = common.get(name, default(name, SEA))
        # A loss that is off by default has something to show as well.
        weight[name] = weight[name] or default(name, SeparateLearning)

    def losses(alpha: float, beta: float, **kwargs: Any) -> Variant:
        weights = {
            'alpha': times(weight['alpha'], alpha),
            'beta': times(weight['beta'], beta),
        }
        return Variant({**weights, **kwargs})

    def club(**kwargs: Any) -> Variant:
        return losses(1, 1, club_kwargs=kwargs)

    everything = {
        'SEA': Variant({}),
        'neither loss': losses(0, 0),
        'alignment only': losses(1, 0),
        'distance only': losses(0, 1),
        'alignment x 10': losses(10, 1),
        'distance x 10': losses(1, 10),
        'both x 10': losses(10, 10),
        'CLUB: linear, permuted': club(negatives='permute'),
        'CLUB: mlp, all pairs': club(estimator='mlp'),
        'CLUB: mlp, permuted': club(estimator='mlp', negatives='permute'),
        'CLUB: mispaired': losses(1, 1)._replace(model='sea_mispaired'),
        'negative L2': losses(1, 1, distance='negative_l2'),
        'negative L2 x 10': losses(1, 10, distance='negative_l2'),
        'negative L2 x 100': losses(1, 100, distance='negative_l2'),
        # Half of either direction, so that the weight is the same.
        'symmetric alignment': losses(0.5, 1, symmetric=True),
        'split by linear maps': losses(1, 1, mode='linear'),
        'split before the graph': losses(1, 1)._replace(
            model='sea_split_before'
        ),
        'no vectors of items': losses(1, 1, id_channels=0),
        'no biases of items': losses(1, 1, item_bias=False),
        'BPR': losses(1, 1, ranking='bpr'),
        'SEA.paper': Variant({}, 'sea_paper', preset=True),
        'ReleasedSEA': Variant({}, 'released_sea', preset=True),
    }
    if len(modalities) != 2:
        everything.pop('ReleasedSEA')
    for size in range(1, len(modalities)):
        for chosen in combinations(modalities, size):
            name = ' + '.join(chosen) + ' only'
            everything[name] = Variant({}, modalities=chosen)
    if len(modalities) == 1:
        everything.pop('CLUB: mispaired')
    return everything


def subset(
    args: argparse.Namespace, modalities: tuple[str, ...]
) -> argparse.Namespace:
    """The options of `catalogue.py` for some of the modalities. Their weights
    in the item-item graph keep their ratio and add up to 1.
    """
    out = argparse.Namespace(**vars(args))
    for option in ('modality', 'neighbors', 'graph_weight'):
        values = catalogue.pairs(getattr(args, option))
        values = {m: v for m, v in values.items() if m in modalities}
        setattr(out, option, [f'{m}={v}' for m, v in values.items()])
    out.normalize = [
        value
        for value in args.normalize
        if '=' not in value or value.split('=', 1)[0] in modalities
    ]
    weights = catalogue.pairs(out.graph_weight)
    total = sum(float(weight) for weight in weights.values())
    out.graph_weight = [
        f'{m}={float(weight) / total}'
        for m, weight in weights.items()
        if total
    ]
    return out


@torch.no_grad()
def measure(model: Any, shop: Catalogue) -> dict[str, dict[str, float]]:
    """What `pyg_sea.dependence` measures on a trained model."""
    inputs = model_inputs(shop.data)
    names = [
        n for n in ('modal_x', 'edge_index', 'edge_weight') if n in inputs
    ]
    parts = model.eval().get_parts(**{name: inputs[name] for name in names})
    return {'dependence': dependence(parts)}


def main(argv: list[str] | None = None) -> None:
    parser = parser_of(__doc__, 'a setting of all variants but presets')
    add = parser.add_argument
    add(
        '--variant',
        action='append',
        metavar='NAME',
        help='one of those that a wrong name lists; may be repeated (default: '
        'all)',
    )
    add('--seeds', type=int, default=5, help='from 0 (default: 5)')
    args = parser.parse_args(argv)

    common = parse_settings(args.set)
    modalities = [*catalogue.pairs(args.modality)]
    known = variants(modalities, common)
    for name in args.variant or known:
        if name not in known:
            parser.error(f'no variant {name!r} (there are: {[*known]})')
    shops = {(): catalogue.read(args)}
    for name in args.variant or known:
        variant = known[name]
        if variant.modalities not in shops:
            options = subset(args, variant.modalities)
            shops[variant.modalities] = catalogue.read(options)
        fill(
            args.out,
            shops[variant.modalities],
            variant.model,
            variant.settings if variant.preset else common | variant.settings,
            range(args.seeds),
            args.work,
            label={
                'variant': name,
                'of': shops[()].inputs,
                'common': common,
            },
            also=measure,
        )


if __name__ == '__main__':
    main()
