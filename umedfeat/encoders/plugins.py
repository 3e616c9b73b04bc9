"""Encoders of other packages: what they register in the entry-point group ``umedfeat.encoders``.

In a package's ``pyproject.toml``::

    [project.entry-points."umedfeat.encoders"]
    my-encoder = "my_package.module:load"

``load`` takes an ``EncoderChoice`` (one device, a settled precision) and returns an Encoder (``umedfeat.contract``);
``umedfeat.encoders.baseline.as_encoder`` makes one of a torch network. Nothing is imported before it is asked for.
"""

from __future__ import annotations

import logging
from collections.abc import Collection
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from operator import attrgetter
from typing import Any

from umedfeat.errors import SetupError

__all__ = ["GROUP", "described", "imported", "plugins"]

log = logging.getLogger("umedfeat")

GROUP = "umedfeat.encoders"


def plugins(taken: Collection[str], group: str = GROUP) -> dict[str, EntryPoint]:
    """What is registered in a group by name, in alphabetical order. A name that is ``taken`` is not given away."""
    found: dict[str, EntryPoint] = {}
    for point in sorted(entry_points(group=group), key=lambda point: (point.name, point.value)):
        if point.name in taken or point.name in found:
            _tell_taken(point.name, described(point))
        else:
            found[point.name] = point
    return found


@cache
def _tell_taken(name: str, package: str) -> None:
    log.warning("%s registers an encoder %r, which is the name of another one: left out", package, name)


def imported(loader: str, name: str, about: str) -> Any:
    """What another package registers, imported.

    Args:
        loader: "module:function". name, about: what was asked for and whose it is, for the message.

    Raises:
        SetupError: it is not there.
    """
    module, _, function = loader.partition(":")
    try:
        return attrgetter(function)(import_module(module))
    except (ImportError, AttributeError) as error:
        message = f"{name}: {loader} ({about}) cannot be imported ({error})"
        raise SetupError(message, remedy="upgrade or remove that package") from error


def described(point: EntryPoint) -> str:
    """The package that an encoder comes from, with its version."""
    return "a package" if point.dist is None else f"{point.dist.name} {point.dist.version}"
