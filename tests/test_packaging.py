import importlib
import inspect
import os
import pkgutil
import re
import shutil
import subprocess
import sys
import zipfile
from importlib.metadata import requires, version
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import pyg_sea

ROOT = Path(__file__).parents[1]
MODULES = [
    info.name
    for info in pkgutil.iter_modules(pyg_sea.__path__)
    if not info.name.startswith('_')
]


def run_python(*args, **kwargs):
    done = subprocess.run(
        [sys.executable, *args],
        capture_output=True,
        text=True,
        check=False,
        **kwargs,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_version_stands_in_one_place():
    assert version('pyg_sea') == pyg_sea.__version__
    sources = [*ROOT.glob('*.toml'), *ROOT.glob('*.cfg'), *ROOT.glob('*.cff')]
    sources += [ROOT / 'docs' / 'conf.py', *(ROOT / 'pyg_sea').rglob('*.py')]
    literal = re.compile(rf'\b{re.escape(pyg_sea.__version__)}\b')
    found = [path for path in sources if literal.search(path.read_text())]
    assert found == [ROOT / 'pyg_sea' / '__init__.py']
    changelog = (ROOT / 'CHANGELOG.md').read_text()
    assert f'## [{pyg_sea.__version__}]' in changelog


def test_import_has_no_side_effects():
    code = (
        'import sys, pyg_sea; '
        'print([name for name in ("torch", "numpy") if name in sys.modules])'
    )
    assert run_python('-W', 'error', '-c', code).strip() == '[]'


@pytest.fixture(scope='module')
def wheel(tmp_path_factory):
    # A copy, as setuptools builds inside the source tree.
    source = tmp_path_factory.mktemp('source')
    out = tmp_path_factory.mktemp('wheel')
    for name in ('setup.cfg', 'pyproject.toml', 'README.md', 'LICENSE'):
        shutil.copy(ROOT / name, source)
    for name in ('pyg_sea', 'tests', 'examples'):
        shutil.copytree(ROOT / name, source / name)
    run_python(
        *('-m', 'pip', 'wheel', '--quiet', '--no-deps'),
        *('--no-build-isolation', '--no-index', '-w', str(out), str(source)),
    )
    [path] = out.iterdir()
    return path


def test_wheel_is_pure_and_whole(wheel):
    assert wheel.name.endswith('-py3-none-any.whl')
    with zipfile.ZipFile(wheel) as file:
        names = {name for name in file.namelist() if '.dist-info/' not in name}
    expected = {
        path.relative_to(ROOT).as_posix()
        for pattern in ('*.py', 'templates/*')
        for path in (ROOT / 'pyg_sea').rglob(pattern)
    }
    assert names == expected | {'pyg_sea/py.typed'}


def test_wheel_works_elsewhere(wheel, tmp_path):
    with zipfile.ZipFile(wheel) as file:
        file.extractall(tmp_path / 'site')
    code = '; '.join(
        ['import pyg_sea']
        + [f'import pyg_sea.{name}' for name in MODULES]
        + ['print(pyg_sea.nn.__file__)']
    )
    out = run_python(
        *('-c', f'import sys; sys.path.insert(0, "site"); {code}'),
        cwd=tmp_path,
    )
    assert Path(out.strip()).resolve().is_relative_to(tmp_path.resolve())


def test_full_is_every_extra_that_leaves_torch_alone():
    extras = {}
    for line in requires('pyg_sea'):
        requirement = Requirement(line)
        if requirement.marker is not None:
            extra = re.search(r'extra == "([\w-]+)"', str(requirement.marker))
            extras.setdefault(extra[1], []).append(requirement)
    [full] = extras.pop('full')
    assert full.name == 'pyg_sea'
    # What needs the torch that is there, and what is a part of the others.
    apart = {'scatter', 'timm', 'open-clip', 'demo'}
    assert full.extras == set(extras) - apart
    [demo] = extras['demo']
    assert demo.extras < full.extras


def takes_or_gives_tensors(value):
    functions = [value]
    if inspect.isclass(value):
        names = ('__init__', '__call__', 'forward')
        functions = [
            vars(value)[name] for name in names if name in vars(value)
        ]
    signatures = [str(inspect.signature(function)) for function in functions]
    return bool(re.search(r'\b(Tensor|Adj|HeteroData)\b', str(signatures)))


@pytest.mark.parametrize('name', MODULES)
def test_exported_is_documented(name):
    module = importlib.import_module(f'pyg_sea.{name}')
    assert module.classes is module.__all__
    page = (ROOT / 'docs' / 'api' / f'{name}.rst').read_text()
    assert f"exported('pyg_sea.{name}')" in page
    for attribute in module.__all__:
        value = getattr(module, attribute)
        if inspect.isclass(value) or inspect.isfunction(value):
            assert '    Example:\n' in value.__doc__, attribute
            assert '>>>' in value.__doc__, attribute
            if takes_or_gives_tensors(value):
                assert '    Shapes:\n' in value.__doc__, attribute


@pytest.mark.skipif(shutil.which('make') is None, reason='needs make')
@pytest.mark.parametrize(
    ('args', 'holds'),
    [('', True), ('-rs', True), ('-q -rs', True), ('tests/nn -k club', False)],
)
def test_coverage_is_only_asked_of_the_whole_suite(args, holds):
    # What `make test` was called with reaches tests through MAKEFLAGS.
    env = {k: v for k, v in os.environ.items() if not k.startswith('MAKE')}
    out = subprocess.run(
        ['make', '--dry-run', 'test', f'ARGS={args}'],
        capture_output=True,
        check=True,
        cwd=ROOT,
        env=env,
        text=True,
    ).stdout
    assert args in out
    assert ('--cov-fail-under=95' in out) == holds
