"""The templates of the pages: everything that comes from data is escaped, a missing name is an error."""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files

from jinja2 import BaseLoader, Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup, escape

from umedfeat._version import __version__
from umedfeat.naming import printable

_KEPT = re.compile(r"\[[^][<&]{,40}\]|(?<![\w-])--[a-z][a-z-]*")

__all__ = ["page_environment", "render"]


def render(name: str, **content: object) -> str:
    """The page of one template."""
    return _own_templates().get_template(name).render(version=__version__, **content)


@cache
def _own_templates() -> Environment:
    """Kept, because compiling a template costs as much as filling it."""
    return page_environment(FunctionLoader(_source))


def page_environment(loader: BaseLoader | None = None) -> Environment:
    """Jinja's environment of every page; besides markup, controls and marks that turn the text are made visible."""
    environment = Environment(
        loader=loader,
        autoescape=True,
        finalize=_visible,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["unbroken"] = _unbroken
    return environment


def _unbroken(line: str) -> Markup:
    """A sentence whose intervals in brackets and options of the command are not broken between lines."""
    text = str(escape(printable(line, keep="\n\t")))
    return Markup(_KEPT.sub(lambda found: f'<span class="kept">{found[0]}</span>', text))  # escaped just above


def _visible(value: object) -> object:
    return printable(value, keep="\n\t") if type(value) is str else value  # not of Markup: it is ours


def _source(name: str) -> str:
    return files("umedfeat.report").joinpath("templates").joinpath(name).read_text(encoding="utf-8")
