"""From the settings of a run to its data."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch_geometric.data import HeteroData

from pyg_sea.datasets.fake import FakeMultimodal
from pyg_sea.datasets.mmrec import MMRecDataset
from pyg_sea.runs._files import read_json
from pyg_sea.transforms.modal_knn_graph import ModalKNNGraph

DEMO = 'demo'
PREPARED = 'prepare.json'


def find_name(folder: Path, name: str | None) -> str:
    """Return the name of the catalogue in a folder of the MMRec format.

    Raises a `FileNotFoundError` if there is none, or not just one.
    """
    if not folder.is_dir():
        raise FileNotFoundError(
            f"there is no folder '{folder}': 'pyg-sea prepare' makes one "
            "from your tables, and 'demo' stands for generated data"
        )
    there = sorted(path.stem for path in folder.glob('*.inter'))
    if name is None and len(there) == 1:
        return there[0]
    if name is None or name not in there:
        raise FileNotFoundError(
            f"'{folder}' needs to hold "
            + ('one .inter file' if name is None else f"'{name}.inter'")
            + f' (got {there}): '
            + (
                "give its name with 'name'"
                if there
                else "'pyg-sea prepare' makes such a folder from your tables"
            )
        )
    return name


def prepared(folder: Path) -> dict[str, Any] | None:
    """Return how a folder was prepared, if `pyg-sea prepare` did it."""
    path = folder / PREPARED
    return read_json(path) if path.is_file() else None


def find_modalities(folder: Path) -> dict[str, str]:
    """Return the feature files of a folder, by modality: those that were
    prepared, else all `<modality>_feat.npy`.

    Raises a `FileNotFoundError` if there is none.
    """
    known = prepared(folder)
    if known is not None:
        return {name: f'{name}_feat.npy' for name in known['modalities']}
    files = sorted(path.name for path in folder.glob('*_feat.npy'))
    if not files:
        raise FileNotFoundError(
            f"'{folder}' holds no feature file '<modality>_feat.npy': name "
            "the files with 'modality', e.g. text=titles.npy"
        )
    return {file.removesuffix('_feat.npy'): file for file in files}


def load_data(settings: Mapping[str, Any]) -> HeteroData:
    """Load the data of a run, with the graph of similar items and ids.

    Args:
        settings: The entry `'data'` of the settings of a run.
    """
    folder = settings['folder']
    if folder == DEMO:
        data = FakeMultimodal(seed=0)[0]
    else:
        find_name(Path(folder), settings['name'])
        data = MMRecDataset(
            folder,
            settings['name'],
            settings['modalities'],
            settings['normalize'],
            weight=settings['weight'],
        )[0]
    for node_type in ('user', 'item'):
        store = data[node_type]
        if 'external_id' not in store:
            store.external_id = list(range(store.num_nodes))
    return ModalKNNGraph(settings['k'], settings['graph_weights'])(data)
