import re
import warnings
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    str(path.relative_to(ROOT))
    for path in [ROOT / 'README.md', *(ROOT / 'docs').glob('**/*.md')]
    if '_build' not in path.parts
)


def python_blocks(page: str) -> list[str]:
    text = (ROOT / page).read_text(encoding='utf-8')
    return re.findall(r'^```python\n(.*?)^```$', text, re.M | re.S)


@pytest.mark.parametrize(
    'page', [page for page in PAGES if python_blocks(page)]
)
def test_blocks_run_in_order(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    namespace = {'__name__': '__main__'}
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', DeprecationWarning)
        for i, block in enumerate(python_blocks(page)):
            exec(compile(block, f'{page}, block {i}', 'exec'), namespace)


def test_plain_loop_is_short():
    [loop] = [
        block
        for block in python_blocks('README.md')
        if 'for triplets in' in block
    ]
    assert len([line for line in loop.splitlines() if line.strip()]) < 25


@pytest.mark.parametrize('page', PAGES)
def test_links_lead_somewhere(page):
    text = (ROOT / page).read_text(encoding='utf-8')
    for target in re.findall(r'\]\(([^)#\s]+)\)', text):
        if '://' not in target:
            assert (ROOT / page).parent.joinpath(target).exists(), target
