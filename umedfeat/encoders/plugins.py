"""Encoders of other packages: what they register in the entry-point group ``umedfeat.encoders``.

In a package's ``pyproject.toml``::

    [project.entry-points."umedfeat.encoders"]
    my-encoder = "my_package.module:load"

``load`` takes an ``EncoderChoice`` (one device, a settled precision) and returns an Encoder (``umedfeat.contract``);
``umedfeat.encoders.baseline.as_encoder`` makes one of a torch network. Nothing is imported before it is asked for.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Collection, Iterator
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from operator import attrgetter
from typing import Any

from umedfeat.encoders.choice import EncoderChoice
from umedfeat.errors import SetupError, UmedfeatError

__all__ = ["GROUP", "described", "loaded", "plugins"]

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


def loaded(loader: str, name: str, about: str, choice: EncoderChoice) -> Any:
    """What the loader of another package gives, imported on the way.

    Args:
        loader: "module:function". name, about: what was asked for and whose it is, for the message.
        choice: given to the function.

    Raises:
        SetupError: it is not there, or it fails, in whatever way.
    """
    module, _, function = loader.partition(":")
    with _blamed(f"{name}: {loader} ({about}) cannot be imported", "upgrade or remove that package"):
        load = attrgetter(function)(import_module(module))
    with _blamed(f"{name}: {loader} ({about}) failed", "ask the authors of that package; --debug shows where"):
        return load(choice)


@contextlib.contextmanager
def _blamed(message: str, remedy: str) -> Iterator[None]:
    """Another package may raise anything, and may even end the process: neither is a fault of this one."""
    try:
        yield
    except (UmedfeatError, MemoryError):
        raise
    except (Exception, SystemExit) as error:
        reason = next(iter(str(error).splitlines()), "")[:200]
        raise SetupError(f"{message} ({type(error).__name__}: {reason})", remedy=remedy) from error


def described(point: EntryPoint) -> str:
    """The package that an encoder comes from, with its version."""
    return "a package" if point.dist is None else f"{point.dist.name} {point.dist.version}"
