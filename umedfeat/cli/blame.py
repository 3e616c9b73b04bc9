"""Which file an illegal value stands in: the command line shows what was typed, ``--config`` does not."""

from __future__ import annotations

import click
from click.core import ParameterSource

__all__ = ["blamed", "note_file"]

_FILE = "umedfeat.config"


def note_file(ctx: click.Context, name: str) -> None:
    """The defaults of this command line come from this file."""
    ctx.meta[_FILE] = name


def blamed(error: click.ClickException) -> click.ClickException:
    """An error about a value, with the name of the file where the value stands."""
    if isinstance(error, click.BadParameter) and error.ctx and error.param and error.param.name:
        file = error.ctx.meta.get(_FILE)
        if file and error.ctx.get_parameter_source(error.param.name) is ParameterSource.DEFAULT_MAP:
            return click.BadParameter(f"{error.message} (in {file})", error.ctx, error.param, error.param_hint)
    return error
