"""The templates of the pages: everything that comes from data is escaped, a missing name is an error."""

from __future__ import annotations

from importlib.resources import files

from jinja2 import Environment, FunctionLoader, StrictUndefined

from umedfeat._version import __version__

__all__ = ["render"]


def render(name: str, **content: object) -> str:
    """The page of one template."""
    environment = Environment(
        loader=FunctionLoader(_source), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template(name).render(version=__version__, **content)


def _source(name: str) -> str:
    return files("umedfeat.report").joinpath("templates").joinpath(name).read_text(encoding="utf-8")
