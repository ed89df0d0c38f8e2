"""What the tables of `report.py` are made with."""

import json
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parents[1] / 'results'


def read(name: str) -> dict[str, Any] | None:
    path = RESULTS / f'{name}.json'
    return json.loads(path.read_text()) if path.exists() else None


def source(result: dict[str, Any], name: str) -> str:
    threads = result.get('threads')
    return (
        f'{result["machine"]}'
        + ('' if threads is None else f', {threads} threads')
        + f'; Python {result["python"]}, torch {result["torch"]}, PyG '
        f'{result["torch_geometric"]}; commit `{result["commit"][:12]}`; '
        f'`benchmarks/results/{name}.json`'
    )


def table(head: list[str], rows: list[list[str]]) -> list[str]:
    lines = [head, ['---'] * len(head), *rows]
    return ['| ' + ' | '.join(line) + ' |' for line in lines]
