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
from importlib.metadata import EntryPoint, entry_points

__all__ = ["GROUP", "described", "plugins"]

log = logging.getLogger("umedfeat")

GROUP = "umedfeat.encoders"


def plugins(taken: Collection[str]) -> dict[str, EntryPoint]:
    """The registered encoders by name, in alphabetical order. A name that is ``taken`` is not given away."""
    found: dict[str, EntryPoint] = {}
    for point in sorted(entry_points(group=GROUP), key=lambda point: (point.name, point.value)):
        if point.name in taken or point.name in found:
            _tell_taken(point.name, described(point))
        else:
            found[point.name] = point
    return found


@cache
def _tell_taken(name: str, package: str) -> None:
    log.warning("%s registers an encoder %r, which is the name of another one: left out", package, name)


def described(point: EntryPoint) -> str:
    """The package that an encoder comes from, with its version."""
    return "a package" if point.dist is None else f"{point.dist.name} {point.dist.version}"
