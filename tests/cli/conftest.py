import contextlib
import functools
import io
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pyg_sea.cli import main
from pyg_sea.runs import Run

from . import interrupts
from .made import make_shop

# Long enough to be interrupted, short enough to wait for.
TRAIN = ['train', 'data/shop', '--epochs', '30', '--patience', '30']
TRAIN += ['--batch-size', '64', '--seed', '7', '--device', 'cpu']
TRAIN += ['--set', 'hidden_channels=8', '--set', 'id_channels=8']


@pytest.fixture(scope='session')
def shop(tmp_path_factory) -> Path:
    """The owner's folder, where all commands are called."""
    return make_shop(tmp_path_factory.mktemp('cli') / 'shop')


@pytest.fixture(scope='session', autouse=True)
def _home(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('PYG_HOME', str(tmp_path_factory.mktemp('home')))
        yield


@pytest.fixture(scope='session')
def process(shop):
    """Run `python -m pyg_sea.cli` in the owner's folder."""

    def run(*args, code=0, program=(sys.executable, '-m', 'pyg_sea.cli')):
        done = subprocess.run(
            [*program, *args],
            cwd=shop,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == code, done.stderr
        assert 'Traceback' not in done.stderr
        return done.stdout, done.stderr

    return run


@pytest.fixture
def call(shop, monkeypatch, capsys):
    """The same in this process, which need not import all that again."""
    monkeypatch.chdir(shop)

    def run(*args, code=0):
        capsys.readouterr()
        found = main([str(arg) for arg in args])
        out, err = capsys.readouterr()
        assert found == code, err
        return out, err

    return run


@pytest.fixture
def interrupted(shop):
    """Press Ctrl-C in a process when `where` has returned so many times."""

    def run(where, number, *args):
        script = str(Path(interrupts.__file__))
        child = subprocess.Popen(
            [sys.executable, script, where, str(number), *map(str, args)],
            cwd=shop,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        said = []
        for line in child.stdout:
            if line == 'here\n':
                child.send_signal(signal.SIGINT)
                break
            said.append(line)
        rest, err = child.communicate(timeout=120)
        assert child.returncode == 130, err
        assert 'Traceback' not in err
        return ''.join(said) + rest, err

    return run


@pytest.fixture
def call_interrupted(call):
    """The same in this process."""

    def run(where, number, *args):
        owner, name = interrupts.find(where)
        press = functools.partial(signal.raise_signal, signal.SIGINT)
        with pytest.MonkeyPatch.context() as patch:
            function = getattr(owner, name)
            patch.setattr(
                owner, name, interrupts.after(function, number, press)
            )
            return call(*args, code=130)

    return run


@pytest.fixture
def refuses(call, shop):
    """See that a command fails, why, and that it leaves nothing in `x`."""

    def run(command, args, code, message):
        _, err = call(command, *args.split(), code=code)
        last = err.splitlines()[-1]
        assert last.startswith('Error: ')
        assert message in last
        assert not (shop / 'x').exists()

    return run


@pytest.fixture(scope='session')
def models() -> list[str]:
    """Which models `prepare` is to take."""
    return ['--text-model', 'models/text', '--image-model', 'models/image']


@pytest.fixture(scope='session')
def prepared(shop, process, models) -> str:
    """What `prepare` said; it wrote `data/shop`."""
    tables = ['--interactions', 'orders.csv', '--items', 'items.csv']
    modalities = ['--text', 'text=title', '--images', 'image=photos']
    args = [*tables, *modalities, *models, '--out', 'data/shop']
    out, err = process('prepare', *args)
    assert '%' not in err  # No bars in a file.
    return out


@pytest.fixture(scope='session')
def trained(prepared, shop) -> str:
    """What `train` said; it wrote `runs/shop`."""
    assert os.sep not in prepared.split()[0]
    out, err = io.StringIO(), io.StringIO()
    with (
        pytest.MonkeyPatch.context() as patch,
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        patch.chdir(shop)
        assert main([*TRAIN, '--out', 'runs/shop']) == 0, err.getvalue()
    return out.getvalue()


@pytest.fixture(scope='session')
def run(shop, trained) -> Run:
    """What `train` wrote."""
    return Run.open(shop / 'runs' / 'shop')


@pytest.fixture(scope='session')
def added(run, process) -> str:
    """What `add-items` said; it wrote `runs/more`."""
    args = ['--items', 'new.csv', '--out', 'runs/more']
    return process('add-items', 'runs/shop', *args)[0]
