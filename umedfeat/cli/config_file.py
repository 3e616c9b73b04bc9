"""``--config study.toml``: options in a file, under their own names; what the command line says wins.

What a run wrote of itself, ``feats.h5.run.json``, is such a file too.
"""

from __future__ import annotations

import difflib
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from umedfeat.cli.blame import note_file
from umedfeat.errors import SetupError

__all__ = ["asked_options", "config_option", "defaults_of", "read_config", "refuse_missing_paths"]

_PATHS = "umedfeat.paths"

#: What cannot stand in a file: it decides how the command line itself is read.
_NOT_IN_FILES = {"config", "help"}
#: What a repeated run is asked anew: which part of the work, where it is done, and what is shown of it.
_OF_ONE_CALL = frozenset(
    {"out", "shard", "shard-out", "scratch", "overwrite", "prune", "dry-run"}
    | {"preview", "geojson", "json", "verbose", "quiet", "log-json", "progress"}
)


def config_option() -> click.Option:
    """The option, read before all others."""
    return click.Option(
        ["--config"],
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        is_eager=True,
        expose_value=False,
        callback=_use,
        help="TOML file of options, named as here (tile-size = 224), or a run's .run.json; the command line wins.",
    )


def _use(ctx: click.Context, param: click.Parameter, path: Path | None) -> None:
    if path is not None:
        content = read_config(path)
        if path.suffix == ".json":
            ctx.meta[_PATHS] = path.name, content["paths"]
            content = content["options"]
        given = defaults_of(content, ctx.command, path.name)
        ctx.default_map = {**(ctx.default_map or {}), **given}
        note_file(ctx, path.name)


def asked_options(ctx: click.Context) -> dict[str, Any]:
    """What a command was asked, for its ``.run.json``: "options" by their names, and which "paths" were given.

    Paths themselves are left out: they belong to one machine, and may hold names of patients.
    """
    said = {ParameterSource.COMMANDLINE, ParameterSource.DEFAULT_MAP}
    found: dict[str, Any] = {}
    paths = []
    for name, option in _options(ctx.command).items():
        if ctx.get_parameter_source(str(option.name)) not in said or name in _OF_ONE_CALL:
            continue
        value = ctx.params.get(str(option.name))
        value = list(value) if isinstance(value, tuple) else value
        if isinstance(option.type, click.Path):
            paths.append(name)
        elif _fits(option, value):
            found[name] = value
    return {"options": found, "paths": paths}


def refuse_missing_paths(ctx: click.Context) -> None:
    """A run is not repeated without the files that it was given, whose paths it did not write down.

    Raises:
        SetupError: ``--config`` is a run's own file, and one of them is not given again.
    """
    file, paths = ctx.meta.get(_PATHS, ("", []))
    options = _options(ctx.command)
    asked = [options[name] for name in paths if name in options]
    missing = [o for o in asked if ctx.get_parameter_source(str(o.name)) is ParameterSource.DEFAULT and not o.required]
    flags = ", ".join(max(option.opts, key=len) for option in missing)
    if flags:
        raise SetupError(f"{file}: that run was given {flags} too", remedy=f"give {flags} again: paths are not kept")


def read_config(path: Path) -> dict[str, Any]:
    """The content of a TOML file, or "options" and "paths" of what a run wrote of itself.

    Raises:
        SetupError: it is not TOML, or a JSON file without options.
    """
    if path.suffix == ".json":
        return _said_of(path)
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        found: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SetupError(f"{path.name} is not TOML: {error}", remedy='e.g. encoder = "umedpt"') from error
    return found


def _said_of(path: Path) -> dict[str, Any]:
    """What ``asked_options`` has left in a ``.run.json``."""
    try:
        run = json.loads(path.read_text(encoding="utf-8-sig"))
        options, paths = run["options"], run["paths"]
    except (ValueError, KeyError, TypeError) as error:
        message = f"{path.name} holds no options of a run"
        raise SetupError(message, remedy="give the .run.json of a run of this version, or a TOML file") from error
    if not isinstance(options, dict) or not isinstance(paths, list):
        raise SetupError(f"{path.name}: its options are no table", remedy="give the .run.json of a run")
    return {"options": options, "paths": [str(name) for name in paths]}


def defaults_of(content: Mapping[str, Any], command: click.Command, file: str) -> dict[str, Any]:
    """What a file says of one command, as click's defaults: parameter → value.

    Keys on top are the command's options, with or without dashes inside. Or every command has a table of its own name,
    of which only this command's is looked at.

    Raises:
        SetupError: a key is no option of the command (the nearest one is named), stands there twice or has a value of
            another kind, or a table is no command.
    """
    from umedfeat.cli import COMMANDS

    tables = {key: value for key, value in content.items() if isinstance(value, Mapping)}
    for key in tables:
        if key not in COMMANDS:
            raise _unknown(file, f"[{key}]", key, list(COMMANDS), "no command")
    plain = {key: value for key, value in content.items() if key not in tables}
    given = {**plain, **tables.get(str(command.name), {})}
    options = _options(command)
    found: dict[str, Any] = {}
    seen: dict[str, str] = {}
    for key, value in given.items():
        name = key.replace("_", "-")
        if name not in options:
            raise _unknown(file, key, name, list(options), f"no option of `umedfeat {command.name}`")
        if name in seen.values():
            twice = next(other for other, written in seen.items() if written == name)
            raise SetupError(f"{file}: {twice} and {key} are one option", remedy="leave out one of them")
        seen[key] = name
        if not _fits(options[name], value):
            told = f"{key} = {value if isinstance(value, bool) else repr(value)}".lower()
            raise SetupError(f"{file}: {told[:80]}: a value of another kind", remedy=f"{key}: {options[name].help}")
        found[str(options[name].name)] = _value(options[name], value)
    return found


def _fits(option: click.Option, value: Any) -> bool:
    """Texts and numbers, or lists of them; true and false where the option is a flag."""
    if isinstance(value, bool):
        return option.is_flag or option.count
    if isinstance(value, list):
        return not option.is_flag and all(isinstance(part, str | int | float) for part in value)
    return isinstance(value, str | int | float)


def _options(command: click.Command) -> dict[str, click.Option]:
    """Long names without dashes → options."""
    return {
        max(param.opts, key=len).lstrip("-"): param
        for param in command.params
        if isinstance(param, click.Option) and param.name not in _NOT_IN_FILES
    }


def _value(option: click.Option, value: Any) -> Any:
    """A value of TOML as click takes it: lists of what is given once are written with commas."""
    if option.multiple:
        return [str(part) for part in value] if isinstance(value, list) else [str(value)]
    if isinstance(value, list):
        return ",".join(map(str, value))
    as_it_is = isinstance(value, bool) or (isinstance(value, int) and not option.is_flag)
    return value if as_it_is else str(value)


def _unknown(file: str, shown: str, key: str, legal: list[str], what: str) -> SetupError:
    near = difflib.get_close_matches(key, legal, n=1)
    return SetupError(f"{file}: {shown} is {what}", remedy=f"did you mean {near[0]}?" if near else "see --help")
