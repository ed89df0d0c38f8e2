"""What every result file names: machine, versions, commit."""

import json
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import torch
import torch_geometric

import pyg_sea


def environment() -> dict[str, Any]:
    commit = subprocess.run(
        ['git', 'describe', '--always', '--dirty', '--abbrev=40'],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    return {
        'machine': f'{processor()}, {os.cpu_count()} cores',
        'python': platform.python_version(),
        'torch': torch.__version__,
        'torch_geometric': torch_geometric.__version__,
        'pyg_sea': pyg_sea.__version__,
        'commit': commit,
    }


def processor() -> str:
    info = Path('/proc/cpuinfo')
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith('model name'):
                return line.split(':', 1)[1].strip()
    return platform.machine()


def write_json(path: Path, content: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix('.partial')
    partial.write_text(json.dumps(content, indent=1) + '\n')
    partial.replace(path)
