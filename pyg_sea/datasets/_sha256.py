import hashlib
from pathlib import Path


def sha256_of(path: Path) -> bytes:
    """Return the SHA-256 sum of a file."""
    # `hashlib.file_digest` needs Python 3.11.
    digest = hashlib.sha256()
    with path.open('rb') as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.digest()
