"""What the last release promised is still there, or says what has taken its place: deprecations last one minor release.

``python tests/test_surface.py > tests/surface.json`` at a release writes down what it promises.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest

import umedfeat
from umedfeat.cli import COMMANDS, root

SURFACE = Path(__file__).with_name("surface.json")


def _commands() -> Iterator[tuple[str, click.Command]]:
    context = click.Context(root)
    for name in COMMANDS:
        command = root.get_command(context, name)
        assert command is not None
        parts = command.commands if isinstance(command, click.Group) else {}
        yield from ((f"{name} {part}", each) for part, each in parts.items())
        yield name, command


def surface() -> dict[str, Any]:
    """Public names of Python, and the options of every command."""
    options = {
        name: sorted({flag for option in command.params if isinstance(option, click.Option) for flag in option.opts})
        for name, command in sorted(_commands())
    }
    return {"version": umedfeat.__version__, "names": sorted(umedfeat.__all__), "options": options}


def test_public_names_of_the_last_release_are_there() -> None:
    promised = json.loads(SURFACE.read_text(encoding="utf-8"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        missing = [name for name in promised["names"] if not hasattr(umedfeat, name)]
    assert missing == [], "keep the name in umedfeat._RENAMED for one minor release"


def test_options_of_the_last_release_are_there() -> None:
    promised, now = json.loads(SURFACE.read_text(encoding="utf-8")), surface()
    for command, flags in promised["options"].items():
        missing = set(flags) - set(now["options"].get(command, ()))
        assert not missing, f"{command}: keep {missing} with click's deprecated= for one minor release"


def test_the_record_is_of_this_release_or_the_last() -> None:
    recorded = json.loads(SURFACE.read_text(encoding="utf-8"))["version"]
    minor, now = (tuple(map(int, version.split(".")[:2])) for version in (recorded, umedfeat.__version__))
    assert now[0] == minor[0] and 0 <= now[1] - minor[1] <= 1


def test_a_renamed_function_works_and_warns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(umedfeat._RENAMED, "embed", "extract")
    with pytest.warns(DeprecationWarning, match=r"umedfeat\.embed is called umedfeat\.extract now") as caught:
        former = getattr(umedfeat, "embed")  # noqa: B009 - no name that type checkers know
    assert former is umedfeat.extract and Path(caught[0].filename).samefile(__file__)
    assert not hasattr(umedfeat, "never")


if __name__ == "__main__":
    print(json.dumps(surface(), indent=1))  # noqa: T201 - the output of this script
