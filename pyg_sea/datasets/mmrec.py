from collections.abc import Callable, Mapping
from pathlib import Path

from torch_geometric.data import HeteroData, InMemoryDataset

from pyg_sea.datasets._build import warn_isolated
from pyg_sea.datasets._features import NormalizeArg
from pyg_sea.datasets._folder import read_folder
from pyg_sea.datasets._npy import cache_dir_of

Transform = Callable[[HeteroData], HeteroData]

MODALITIES = {'image': 'image_feat.npy', 'text': 'text_feat.npy'}


class MMRecDataset(InMemoryDataset):
    r"""Any catalogue in the format of the `MMRec toolbox
    <https://github.com/enoche/MMRec>`_: a folder with `NAME.inter` and one
    feature file per modality.

    `NAME.inter` is a tab-separated table with a header; ids count from 0 and
    `x_label` says 0 (train), 1 (validation) or 2 (test). Row `i` of every
    feature file (`.npy`, any float type) belongs to item `i`, so the number
    of rows is the number of items, with or without interactions. If the
    folder holds MMRec's `u_id_mapping.csv` or `i_id_mapping.csv`, the
    external ids become `data['user'].external_id` and
    `data['item'].external_id`.

    A row of NaN or of zeros says that the item lacks this modality. It becomes
    a row of zeros, before normalisation and after it.

    The folder is only ever read. Features are kept in memory, and nothing is
    cached on disk, unless `mmap` is set: then they may be larger than memory.
    Files that hold what is wanted, C-ordered float32 or float16 to be left as
    it is, without NaN, are mapped themselves; of others, or with `normalize`,
    a cleaned copy is written once, and again when the file has changed or the
    copy is damaged. A file that was rewritten with the same size and
    modification time is not seen to have changed: remove its copy then.

    Args:
        root: The folder that holds `NAME.inter`, or the one above with
            `NAME/NAME.inter` in it.
        name: The name of the catalogue (default: that of the only `.inter`
            file in `root`).
        modalities: Modality names and their files, in the order they are to
            have; paths are relative to the folder of `NAME.inter`
            (default: `{'image': 'image_feat.npy', 'text': 'text_feat.npy'}`).
        normalize: `'l2'` scales every item's features to unit length;
            `'standard'` gives each column mean 0 and standard deviation
            `1 / sqrt(width)`, constant columns becoming 0; `None` leaves the
            values as they are. A dictionary sets it per modality. Rows of
            items without that modality do not count (default: `None`).
        user: The column of user ids (default: `'userID'`).
        item: The column of item ids (default: `'itemID'`).
        label: The column of split labels (default: `'x_label'`).
        weight: The column of interaction weights, such as ratings, that
            become the `edge_weight` of train edges (default: `None`).
        mmap: Whether features are memory-mapped. They are equal to those in
            memory, but for float16, which stays float16 (default: `False`).
        cache_dir: The folder of cleaned copies if `mmap` is set. Any of them
            may be removed (default: `None`, `pyg_sea` in PyG's home,
            `~/.cache/pyg`).
        transform: Applied on every access (default: `None`).
        pre_transform: Applied once, on loading (default: `None`).

    Shapes:
        - `data['user'].num_nodes`, `data['item'].num_nodes`: U and I
        - `data['item']['x_<modality>']`: `[I, width]`, float32; with `mmap`,
          what was float16 stays so
        - `data['user', 'buys', 'item'].edge_index`: `[2, E]`, the train
          edges, with `edge_weight` `[E]` if asked for
        - `data['user', 'buys', 'item'].val_edge_index` and
          `.test_edge_index`: `[2, *]`

    Raises a `FileNotFoundError` for files that are not there, and a
    `ValueError` or `TypeError` that names file and line (or row) for missing
    columns, ids that are no integers, negative or beyond the features' rows,
    gaps in the user ids, repeated pairs, unknown labels, empty splits, and
    features that are cut short, pickled, no matrix, no floats, or in part not
    finite. Raises an `OSError` if a cleaned copy cannot be written. Warns with
    counts of items that lack a modality, and of users and items without a
    train edge.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> import numpy as np
        >>> from pyg_sea.datasets import MMRecDataset
        >>> rows = ['userID\titemID\tx_label', '0\t0\t0', '0\t1\t1',
        ...         '1\t1\t0', '1\t0\t2']
        >>> with tempfile.TemporaryDirectory() as root:
        ...     _ = Path(root, 'shop.inter').write_text('\n'.join(rows))
        ...     np.save(Path(root, 'titles.npy'), np.ones((2, 8), np.float16))
        ...     dataset = MMRecDataset(root, 'shop', {'text': 'titles.npy'})
        >>> dataset
        MMRecDataset(shop)
        >>> data = dataset[0]
        >>> data['user', 'buys', 'item'].edge_index.tolist()
        [[0, 1], [0, 1]]
        >>> data['item'].x_text.dtype
        torch.float32
    """

    def __init__(
        self,
        root: str | Path,
        name: str | None = None,
        modalities: Mapping[str, str] | None = None,
        normalize: NormalizeArg = None,
        user: str = 'userID',
        item: str = 'itemID',
        label: str = 'x_label',
        weight: str | None = None,
        transform: Transform | None = None,
        pre_transform: Transform | None = None,
        *,
        mmap: bool = False,
        cache_dir: str | Path | None = None,
    ) -> None:
        folder, self.name = _find(Path(root).expanduser(), name)
        super().__init__(str(root), transform, pre_transform)
        data = read_folder(
            folder,
            self.name,
            MODALITIES if modalities is None else modalities,
            normalize,
            user,
            item,
            label,
            weight,
            cache_dir_of(cache_dir) if mmap else None,
        )
        warn_isolated(data)
        self.data = data if pre_transform is None else pre_transform(data)

    def __repr__(self) -> str:
        return f'{type(self).__name__}({self.name})'


def _find(root: Path, name: str | None) -> tuple[Path, str]:
    there = sorted(path.stem for path in root.glob('*.inter'))
    if name is None:
        if len(there) != 1:
            raise FileNotFoundError(
                f"'{root}' needs to hold one .inter file (got {there}); give "
                "its name with 'name'"
            )
        return root, there[0]
    for folder in (root, root / name):
        if (folder / f'{name}.inter').is_file():
            return folder, name
    raise FileNotFoundError(
        f"neither '{root / f'{name}.inter'}' nor "
        f"'{root / name / f'{name}.inter'}' exists (.inter files in '{root}': "
        f'{there})'
    )
