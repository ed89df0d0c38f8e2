import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyg_sea.serving import _export, _hub, _storage
from pyg_sea.serving._base import Base

if TYPE_CHECKING:
    from typing_extensions import Self


class Stored(Base):
    """Folders, the hub, and tables."""

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes a folder that appears when it is complete, and replaces one
        that was saved before: a manifest in JSON and tensors, no pickles.
        Needs the extra `hub`.

        Args:
            path: The folder.

        Raises a `FileExistsError` if there is something else in its place, a
        `TypeError` for ids that are neither integers nor strings, and an
        `ImportError` without the extra.
        """
        _storage.save(self.state, path)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> 'Self':
        """Reads what :meth:`save` wrote, and checks all of it.

        Args:
            path: The folder.

        Raises a `FileNotFoundError` if the folder is none or lacks a file,
        a `ValueError` if a file is cut short, was changed, is of another
        kind, or was written by a version that this one cannot read, and an
        `ImportError` without the extra `hub`.
        """
        return cls(_storage.load(path))

    def push_to_hub(
        self, repo_id: str, *, private: bool | None = None, **kwargs: Any
    ) -> str:
        """Uploads the folder to the Hugging Face hub, and returns where.

        Args:
            repo_id: The name there, `'owner/name'`.
            private: Whether only its owner sees it (default: `None`, as the
                owner has set).
            **kwargs: `token`, and arguments of `HfApi.upload_folder`, e.g.
                `commit_message`, `revision`.

        Raises what :meth:`save` raises, and what `huggingface_hub` does.
        """
        return _hub.push(self.state, repo_id, private, **kwargs)

    @classmethod
    def from_pretrained(cls, name: str, **kwargs: Any) -> 'Self':
        """Loads a folder, or what :meth:`push_to_hub` uploaded.

        Args:
            name: The folder, or the name on the Hugging Face hub.
            **kwargs: Arguments of `snapshot_download`, e.g. `revision`,
                `token`.

        Raises what :meth:`load` raises, and what `huggingface_hub` does.
        """
        return cls(_hub.pull(name, **kwargs))

    def export(self, path: str | os.PathLike[str]) -> list[Path]:
        """Writes `users.parquet` and `items.parquet`, for a vector database:
        `id` and `vector`, float32, whose inner products are the scores. Needs
        the extra `export`, and returns the two paths.

        Args:
            path: The folder.

        Raises an `ImportError` without the extra.
        """
        return _export.export(self.state, path)
