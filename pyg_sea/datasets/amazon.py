import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from torch_geometric.data import HeteroData, InMemoryDataset

from pyg_sea.datasets._build import EDGE_TYPE, warn_isolated
from pyg_sea.datasets._download import (
    DownloadError,
    download_from_drive,
    verify_sha256,
)
from pyg_sea.datasets._features import NormalizeArg, normalize_of
from pyg_sea.datasets._folder import ID_MAPS, read_folder
from pyg_sea.datasets.mmrec import MODALITIES

Transform = Callable[[HeteroData], HeteroData]


class Published(NamedTuple):
    """What the published files of one catalogue hold."""

    stem: str
    num_users: int
    num_items: int
    num_interactions: int
    num_train: int | None = None
    num_valid: int | None = None
    num_test: int | None = None


class AmazonMultimodal(InMemoryDataset):
    r"""The Amazon review catalogues with 4096-d image and 384-d text features
    that the `MMRec toolbox <https://github.com/enoche/MMRec>`_ publishes and
    the field compares on.

    =========== ======= ======= ========= ========== ======
    name        users   items   train     validation test
    =========== ======= ======= ========= ========== ======
    Baby        19,445  7,050   118,551   20,559     21,682
    Sports      35,598  18,357  218,409   37,899     40,029
    Clothing    39,387  23,033  197,338   40,150     41,189
    Electronics 192,403 63,001  1,689,188 (in all)
    =========== ======= ======= ========= ========== ======

    The raw files (`baby.inter`, `image_feat.npy`, `text_feat.npy`) are looked
    for in `root/baby/raw`, and if they are not there downloaded from the
    toolbox's folder on Google Drive through `gdown`
    (`pip install "pyg_sea[download]"`). After a download their SHA-256 sums
    are kept in `raw/SHA256SUMS`. The processed data lie in
    `root/baby/processed`, in one file that can be memory-mapped.

    Args:
        root: The folder in which the catalogues are kept.
        name: `'Baby'`, `'Sports'`, `'Clothing'` or `'Electronics'`
            (default: `'Baby'`).
        normalize: As in :class:`~pyg_sea.datasets.MMRecDataset`
            (default: `None`, as published).
        weight: The column of interaction weights (`'rating'`) that become the
            `edge_weight` of train edges (default: `None`).
        sha256: SHA-256 sums by file name that raw files need to have; nobody
            has published any (default: `None`).
        transform: Applied on every access (default: `None`).
        pre_transform: Applied once, before saving (default: `None`).
        force_reload: Whether to process the raw files again
            (default: `False`).
        mmap: Whether to memory-map the processed data, and to process them
            without holding features in memory, which may then be larger. The
            data are the same (default: `False`).

    Shapes:
        - `data['item'].x_image`: `[I, 4096]`; `data['item'].x_text`:
          `[I, 384]`; the rest as in
          :class:`~pyg_sea.datasets.MMRecDataset`

    Raises a `FileNotFoundError` that says which files to put where if they
    cannot be downloaded, and a `ValueError` if counts, widths or sums are not
    the published ones. Counts and widths are checked on every loading, of
    processed data too, as they were before `pre_transform`.

    Example:
        >>> from pyg_sea.datasets import AmazonMultimodal
        >>> AmazonMultimodal.published['Baby'].num_items
        7050
        >>> dataset = AmazonMultimodal('data', 'Baby')  # doctest: +SKIP
        >>> data = dataset[0]  # doctest: +SKIP
    """

    folder_id = '13cBy1EA_saTUuXxVllKgtfci2A09jyaG'

    published: ClassVar[dict[str, Published]] = {
        'Baby': Published('baby', 19445, 7050, 160792, 118551, 20559, 21682),
        'Sports': Published(
            'sports', 35598, 18357, 296337, 218409, 37899, 40029
        ),
        'Clothing': Published(
            'clothing', 39387, 23033, 278677, 197338, 40150, 41189
        ),
        'Electronics': Published('elec', 192403, 63001, 1689188),
    }
    widths: ClassVar[dict[str, int]] = {'image': 4096, 'text': 384}

    def __init__(
        self,
        root: str | Path,
        name: Literal['Baby', 'Sports', 'Clothing', 'Electronics'] = 'Baby',
        normalize: NormalizeArg = None,
        weight: str | None = None,
        sha256: Mapping[str, str] | None = None,
        transform: Transform | None = None,
        pre_transform: Transform | None = None,
        force_reload: bool = False,
        *,
        mmap: bool = False,
    ) -> None:
        if name not in self.published:
            raise ValueError(
                f"'name' needs to be one of {list(self.published)} (got "
                f'{name!r})'
            )
        self.name = name
        self.normalize = normalize
        self.weight = weight
        self.sha256 = dict(sha256 or {})
        self.mmap = mmap
        super().__init__(
            str(root), transform, pre_transform, force_reload=force_reload
        )
        self.data = self._load(self.processed_paths[0])

    @property
    def raw_dir(self) -> str:
        """The folder that the published files belong in."""
        return os.path.join(self.root, self.published[self.name].stem, 'raw')

    @property
    def processed_dir(self) -> str:
        """The folder that processed data are written to."""
        return os.path.join(os.path.dirname(self.raw_dir), 'processed')

    @property
    def raw_file_names(self) -> list[str]:
        """The published files that are needed."""
        stem = self.published[self.name].stem
        return [f'{stem}.inter', *MODALITIES.values()]

    @property
    def processed_file_names(self) -> str:
        """One file per way of processing, so that none is mixed up."""
        how = [
            f'{name}-{normalize_of(name, self.normalize) or "raw"}'
            for name in MODALITIES
        ]
        return '_'.join(['data', *how, self.weight or 'unweighted']) + '.pt'

    def download(self) -> None:
        """Fetch the published files, or say where to put them."""
        try:
            download_from_drive(
                self.folder_id,
                Path(self.raw_dir),
                self.raw_file_names,
                tuple(ID_MAPS.values()),
                self.sha256,
            )
        except DownloadError as error:
            raise FileNotFoundError(
                f"the files of '{self.name}' are not in '{self.raw_dir}', and "
                f'could not be downloaded ({error}). Put '
                f'{", ".join(self.raw_file_names)} there, from '
                f'https://drive.google.com/drive/folders/{self.folder_id}'
            ) from error

    def process(self) -> None:
        """Read, check and save the published files."""
        for file_name, expected in self.sha256.items():
            verify_sha256(Path(self.raw_dir, file_name), expected)
        # Cleaned copies are needed until they are in the processed file.
        with tempfile.TemporaryDirectory(
            dir=self.processed_dir, ignore_cleanup_errors=True
        ) as folder:
            self._read_and_save(Path(folder) if self.mmap else None)

    def _read_and_save(self, cache_dir: Path | None) -> None:
        data = read_folder(
            Path(self.raw_dir),
            self.published[self.name].stem,
            MODALITIES,
            self.normalize,
            weight=self.weight,
            cache_dir=cache_dir,
            half=False,
        )
        sizes = _sizes_of(data)
        self._check_published(
            sizes,
            f"the files in '{self.raw_dir}'",
            'Replace them, or read them with pyg_sea.datasets.MMRecDataset',
        )
        warn_isolated(data)
        saved: dict[str, Any] = {}
        if self.pre_transform is not None:
            data = self.pre_transform(data)
            saved['sizes'] = sizes
        saved['data'] = data.to_dict()
        path = Path(self.processed_paths[0])
        scratch = path.with_suffix(f'.{os.getpid()}.tmp')
        torch.save(saved, scratch)
        os.replace(scratch, path)

    def _load(self, path: str) -> HeteroData:
        # `InMemoryDataset.load` falls back to unpickling; this never does.
        saved = torch.load(path, weights_only=True, mmap=self.mmap)
        advice = 'Process the raw files again with force_reload=True'
        try:
            data = HeteroData.from_dict(saved['data'])
            sizes = saved.get('sizes') or _sizes_of(data)
        except (AttributeError, IndexError, KeyError, TypeError) as error:
            raise ValueError(
                f"'{path}' holds no processed data of this version. {advice}"
            ) from error
        self._check_published(sizes, f"the data in '{path}'", advice)
        return data

    def _check_published(
        self, sizes: dict[str, int], source: str, advice: str
    ) -> None:
        wanted = self.published[self.name]._asdict()
        del wanted['stem']
        for name, width in self.widths.items():
            wanted[f'{name} features'] = width
        wrong = [
            f'{key}: {value:,} expected, {sizes[key]:,} found'
            for key, value in wanted.items()
            if value is not None and value != sizes[key]
        ]
        if wrong:
            raise ValueError(
                f"{source} are not the published '{self.name}' "
                f'({"; ".join(wrong)}). {advice}'
            )

    def __repr__(self) -> str:
        return f'{type(self).__name__}({self.name})'


def _sizes_of(data: HeteroData) -> dict[str, int]:
    store = data[EDGE_TYPE]
    train, valid, test = (
        store[key].size(1)
        for key in ('edge_index', 'val_edge_index', 'test_edge_index')
    )
    widths = {
        f'{name} features': data['item'][f'x_{name}'].size(1)
        for name in MODALITIES
    }
    return {
        'num_users': data['user'].num_nodes,
        'num_items': data['item'].num_nodes,
        'num_interactions': train + valid + test,
        'num_train': train,
        'num_valid': valid,
        'num_test': test,
        **widths,
    }
