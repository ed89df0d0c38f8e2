import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import pyg_sea
from pyg_sea.cli import _app, main
from pyg_sea.runs import _tables

PAGE = Path(__file__).parents[2] / 'docs' / 'tutorials' / 'your_catalogue.md'


def test_help_needs_no_torch():
    code = (
        'import sys; from pyg_sea.cli import main;'
        'from pyg_sea.cli._app import COMMANDS;'
        '[main([*name, "--help"]) for name in ([], *zip(COMMANDS))];'
        'print([m for m in ("torch", "numpy", "pandas") if m in sys.modules])'
    )
    done = subprocess.run(
        [sys.executable, '-c', code],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == '[]'
    for name in _app.COMMANDS:
        assert f'Usage: pyg-sea {name} ' in done.stdout


def test_version_and_help(capsys):
    assert main(['--version']) == 0
    out = capsys.readouterr().out
    assert out == f'pyg-sea, version {pyg_sea.__version__}\n'
    assert main([]) == 0
    assert capsys.readouterr().out.startswith('Usage: pyg-sea [OPTIONS]')
    for option in ('--help', '-h'):
        assert main(['train', option]) == 0
        out = capsys.readouterr().out
        assert 'pyg-sea train data/shop --out runs/shop' in out


def test_wrong_usage_is_one_line(capsys):
    assert main(['trian']) == 2
    err = capsys.readouterr().err
    assert "No such command 'trian'" in err
    assert err.endswith("See 'pyg-sea --help'\n")
    assert main(['train', '--epoch', '3']) == 2
    err = capsys.readouterr().err
    assert len(err.splitlines()) == 1
    assert '--epoch' in err
    assert err.endswith("See 'pyg-sea train --help'\n")


@pytest.mark.parametrize(
    ('module', 'args'),
    [
        ('click', '--help'),
        ('lightning', 'train demo --out runs/none'),
        ('safetensors.torch', 'recommend runs/shop --all'),
        ('matplotlib.figure', 'explain runs/shop 0007 sku-01 --plot x.png'),
        ('pyarrow', 'recommend runs/shop --all --out x.parquet'),
    ],
)
def test_missing_package_names_the_extra(
    trained, call, monkeypatch, module, args
):
    def find(name):
        return None if name == module else find_spec(name)

    find_spec = _tables.find_spec
    monkeypatch.setattr(_tables, 'find_spec', find)
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.delitem(sys.modules, 'pyg_sea.training', raising=False)
    _, err = call(*args.split(), code=1)
    [line] = err.splitlines()
    assert module.split('.')[0] in line
    assert re.search(r'pip install "pyg_sea\[\w+\]"', line)


def test_where_an_error_arose_is_shown_on_request(capsys, tmp_path):
    args = ['evaluate', str(tmp_path / 'none')]
    assert main(args) == 1
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert main(['--traceback', *args]) == 1
    assert 'Traceback' in capsys.readouterr().err


def test_mistakes_of_ours_are_not_hidden(monkeypatch):
    def fails(*args, **kwargs):
        raise RuntimeError(message)

    monkeypatch.setattr(_app.app, 'main', fails)
    message = 'CUDA out of memory. Tried to allocate 20 GiB'
    assert main([]) == 1
    message = 'no such thing'
    with pytest.raises(RuntimeError, match='no such thing'):
        main([])


def test_ctrl_c_is_130(monkeypatch, capsys):
    def fails(*args, **kwargs):
        raise _app.click.Abort

    monkeypatch.setattr(_app.app, 'main', fails)
    assert main([]) == 130
    assert capsys.readouterr().err == 'Error: interrupted\n'


def test_page_works_as_it_stands(shop, call, models, tmp_path, monkeypatch):
    for name in ('orders.csv', 'items.csv', 'new.csv'):
        shutil.copy(shop / name, tmp_path)
    for name in ('photos', 'models'):
        shutil.copytree(shop / name, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r'```bash\n(.*?)```', PAGE.read_text(), re.DOTALL)
    lines = '\n'.join(blocks).replace('\\\n', ' ').splitlines()
    commands = [line.split() for line in lines if line.startswith('pyg-sea ')]
    assert {words[1] for words in commands} >= set(_app.COMMANDS)
    for _, *args in commands:
        if args[0] == 'prepare':
            args += models  # Not those of the hub.
        if args[0] in ('train', 'compare'):
            args += ['--epochs', '2']
        out, err = call(*args)
        assert out, args
        # Advice to those who call it, not to the owner of a small shop.
        assert 'CLUBLoss' not in err
