"""The commands in `docs/reproducing.md` say what the scripts understand."""

import json
import math
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip('lightning', reason='the benchmarks train')

ROOT = Path(__file__).parents[2]
FOLDERS = [str(ROOT / name) for name in ('benchmarks/quality', 'examples')]
sys.path[:0] = FOLDERS
import _main  # noqa: E402
import catalogue  # noqa: E402
import models  # noqa: E402
import report  # noqa: E402
import run  # noqa: E402
import tune  # noqa: E402

for folder in FOLDERS:
    sys.path.remove(folder)

QUALITY = 'benchmarks/quality'
SCRIPTS = {f'{QUALITY}/run.py': run, f'{QUALITY}/tune.py': tune}


class ReadError(Exception):
    """In place of reading a catalogue."""


def commands() -> list[list[str]]:
    """What the blocks of the page would start, as a shell understands it."""
    text = (ROOT / 'docs/reproducing.md').read_text(encoding='utf-8')
    blocks = re.findall(r'^ *```sh\n(.*?)^ *```$', text, re.M | re.S)
    stub = 'python() { printf "%q " "$@"; echo; }\n'
    out = subprocess.run(
        ['bash', '-euc', stub + ''.join(blocks)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert not out.stderr
    return [shlex.split(line) for line in out.stdout.splitlines()]


@pytest.mark.skipif(not shutil.which('bash'), reason='there is no bash')
def test_commands_are_understood(monkeypatch, capsys, tmp_path):
    def read(args, *_):
        raise ReadError(args)

    monkeypatch.setattr(catalogue, 'read', read)
    monkeypatch.setattr(_main, 'load', read)
    monkeypatch.chdir(tmp_path)
    seen = set()
    for script, *args in commands():
        seen.add(script)
        if script in SCRIPTS:
            with pytest.raises(ReadError) as info:
                SCRIPTS[script].main(args)
            [options] = info.value.args
            assert catalogue.pairs(options.graph_weight)['text'] == '0.9'
            given = run.parse_settings(options.set)
            if script.endswith('run.py'):
                models.resolve(options.model, given)
        elif script == f'{QUALITY}/report.py':
            with pytest.raises(SystemExit):
                report.main(args)
            assert 'no lines in runs/' in capsys.readouterr().err
        elif script.startswith('examples/'):
            monkeypatch.setattr(sys, 'argv', [script, *args])
            with pytest.raises(ReadError):
                exec((ROOT / script).read_text(), {'__name__': '__main__'})
        else:
            assert [script, *args] == [f'{QUALITY}/publish.py']
            assert (ROOT / script).exists()
    assert len(seen) >= 4


@pytest.mark.parametrize('name', ['Baby', 'Sports', 'Clothing'])
def test_times_are_those_measured(name):
    path = ROOT / f'benchmarks/results/speed_{name.lower()}.json'
    found = json.loads(path.read_text())
    batches = math.ceil(found['num_edges'] / found['batch_size'])
    text = (ROOT / 'docs/reproducing.md').read_text(encoding='utf-8')
    [row] = re.findall(rf'^\| {name} \| {batches} \|.*', text, re.M)
    assert [int(x) for x in re.findall(r'(\d+) s ', row)] == [
        round(found['steps'][model]['step'] * batches)
        for model in ('released', 'paper', 'sea')
    ]
