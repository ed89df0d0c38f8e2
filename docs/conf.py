"""Builds with `make docs`; a warning is an error."""

import importlib
import inspect
from typing import Any

from sphinx.application import Sphinx

import pyg_sea

project = 'pyg_sea'
author = 'The pyg_sea authors'
copyright = author
version = release = pyg_sea.__version__

extensions = [
    'myst_parser',
    'sphinx.ext.autodoc',
    'sphinx.ext.autosummary',
    'sphinx.ext.mathjax',
    'sphinx.ext.napoleon',
    'sphinx.ext.viewcode',
]
exclude_patterns = ['_build']
html_theme = 'furo'
html_title = f'pyg_sea {version}'

# `x` in a docstring is code, as it is in Markdown.
default_role = 'literal'
myst_enable_extensions = ['amsmath', 'attrs_inline', 'dollarmath']
myst_heading_anchors = 3

autosummary_generate = False  # Objects stand on their module's page.
autodoc_member_order = 'bysource'
autodoc_inherit_docstrings = False
autodoc_typehints_format = 'short'
python_maximum_signature_line_length = 79
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_custom_sections = ['Shapes']


def exported(module: str) -> dict[str, str]:
    """All that a module exports, and the directive to show it with."""
    found = importlib.import_module(module)
    directives = {}
    for name in found.__all__:
        value = getattr(found, name)
        directives[name] = (
            'autoclass'
            if inspect.isclass(value)
            else 'autofunction'
            if inspect.isfunction(value)
            else 'autodata'
        )
    return directives


def render_api_page(app: Sphinx, docname: str, source: list[str]) -> None:
    if docname.startswith('api/'):
        template = app.builder.templates.environment.from_string(source[0])
        source[0] = template.render(exported=exported)


def skip_tuple_fields(
    app: Sphinx, what: str, name: str, value: Any, skip: bool, options: Any
) -> bool | None:
    # "Alias for field number 0" says nothing.
    return True if type(value).__name__ == '_tuplegetter' else None


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect('source-read', render_api_page)
    app.connect('autodoc-skip-member', skip_tuple_fields)
    return {'parallel_read_safe': True}
