"""Which planes of a picture are read: red, green and blue joined, one channel, one focal plane, or the sharpest."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from umedfeat.contract import Json
from umedfeat.errors import UnsupportedInput

__all__ = ["MEASURE", "Chosen", "Component", "PlanesNotChosen", "choose_planes", "reference_plane"]

#: What the sharpest plane is told by (``focus.sharpness``).
MEASURE = "variance of the Laplacian of the mean of the channels"

_UNNAMED = re.compile(r"(?i)^\s*(channel|ch|c)?[ :_#-]*\d*(:\d+)?\s*$")
_RGB = ("red", "green", "blue")
_SHORT = {"r": "red", "g": "green", "b": "blue"}


class PlanesNotChosen(UnsupportedInput):
    """A scanner's slide of several focal planes of which one must be chosen."""


class Component(NamedTuple):
    """A plane of a picture, and one sample of its pixels (None: all of them, as colours)."""

    plane: int
    sample: int | None = None


class Chosen(NamedTuple):
    """What is read.

    Attributes:
        focal: for each focal plane that is read the components of its pixels: one, or red, green and blue.
        told: facts for the plan.
        unused: options that were given and chose nothing.
    """

    focal: tuple[tuple[Component, ...], ...]
    told: dict[str, Json]
    unused: tuple[str, ...]


class Planes(NamedTuple):
    """What there is to choose from.

    Attributes:
        axes: (letter, length), outermost first; C are channels, others are depth, time or unknown.
        samples: values of a pixel that are channels of their own; 1 where they are one colour.
        channels: names, "" where there is none.
        emitted: the file says that the channels are emitted light: never red, green and blue.
    """

    axes: tuple[tuple[str, int], ...]
    samples: int = 1
    channels: tuple[str, ...] = ()
    emitted: bool = False


def choose_planes(planes: Planes, name: str, *, channel: str, focus: str) -> Chosen:
    """Components of every focal plane that is to be read.

    Args:
        channel: "" or the name or number (from 1) of a channel, or "rgb": the first three are red, green and blue.
        focus: "" or the number (from 1) of a plane, "middle" or "sharpest".

    Raises:
        UnsupportedInput: there is a choice, and none was made, or one that is not there.
    """
    axes = dict(planes.axes)
    unknown = axes.get("I", 1)
    if unknown > 1 and channel and not focus:  # planes that the file does not explain: the user does
        axes["C"] = axes.pop("I")
        planes = planes._replace(axes=tuple(("C" if axis == "I" else axis, n) for axis, n in planes.axes))
    deep = [(axis, n) for axis, n in planes.axes if axis != "C" and n > 1]
    told: dict[str, Json] = {}
    unused = []
    count = max(axes.get("C", 1), planes.samples)
    picked = _channels(planes, count, name, channel, told) if count > 1 else (0,)
    if count == 1 and channel:
        unused.append("--channel")
    depths = _depths(deep, name, focus, told)
    if not deep and focus:
        unused.append("--focus")
    focal = tuple(tuple(_component(planes, index, depth) for index in picked) for depth in depths)
    return Chosen(focal, told, tuple(unused))


def _component(planes: Planes, channel: int, depth: int) -> Component:
    """Where a channel at a depth lies among the pages."""
    plane, sample = 0, None
    if planes.samples > 1:
        sample = channel
    for axis, n in planes.axes:
        plane = plane * n + (channel if axis == "C" and sample is None else depth if axis != "C" and n > 1 else 0)
    return Component(plane, sample)


def _channels(planes: Planes, count: int, name: str, wanted: str, told: dict[str, Json]) -> tuple[int, ...]:
    names = [*planes.channels, *[""] * count][:count]
    if (wanted.lower() == "rgb" and count >= 3) or (not wanted and count == 3 and _is_rgb(names, planes.emitted)):
        order = _order_of_rgb(names)
        told["channels"] = f"{count} planes, read as red, green and blue"
        return order
    if not wanted:
        message = f"{name}: {count} channels ({_listed(names)}), which are no colours"
        raise UnsupportedInput(message, remedy="choose one with --channel NAME or NUMBER, or --channel rgb")
    number = _number_of(names, wanted)
    if number is None:
        raise UnsupportedInput(f"{name}: no channel {wanted!r} among {_listed(names)}", remedy="name or number from 1")
    told["channels"] = f"channel {number + 1} of {count}"
    return (number,)


def _number_of(names: Sequence[str], wanted: str) -> int | None:
    by_name = [k for k, name in enumerate(names) if name.lower() == wanted.lower()]
    if by_name:
        return by_name[0]
    return int(wanted) - 1 if wanted.isascii() and wanted.isdecimal() and 1 <= int(wanted) <= len(names) else None


def _listed(names: Sequence[str]) -> str:
    return ", ".join(name or str(number) for number, name in enumerate(names[:8], start=1)) + " …" * (len(names) > 8)


def _colour(name: str) -> str:
    lowered = name.strip().lower()
    return _SHORT.get(lowered, lowered)


def _is_rgb(names: Sequence[str], emitted: bool) -> bool:
    """Three planes called red, green and blue, or without names of their own."""
    if sorted(map(_colour, names)) == sorted(_RGB):
        return True
    return not emitted and all(_UNNAMED.match(name) for name in names)


def _order_of_rgb(names: Sequence[str]) -> tuple[int, ...]:
    colours = [_colour(name) for name in names]
    return tuple(colours.index(colour) for colour in _RGB) if set(_RGB) <= set(colours) else (0, 1, 2)


_AXIS = {"Z": "focal planes", "T": "moments", "I": "planes of one size"}


def _depths(deep: Sequence[tuple[str, int]], name: str, focus: str, told: dict[str, Json]) -> tuple[int, ...]:
    if not deep:
        return (0,)
    listed = " × ".join(f"{n} {_AXIS.get(axis, f'planes ({axis})')}" for axis, n in deep)
    if len(deep) > 1:
        raise UnsupportedInput(f"{name}: {listed}", remedy="save one moment, or one plane, as a file of its own")
    (axis, count), *_ = deep
    if not focus:
        remedy = "choose with --focus K, middle or sharpest" + (" or --channel" if axis == "I" else "")
        raise UnsupportedInput(f"{name}: {listed}, and none was chosen", remedy=remedy)
    if focus == "sharpest":
        told["focus"] = f"the sharpest of {count} planes, tile by tile"
        told["sharpness"] = MEASURE
        return tuple(range(count))
    number = (count + 1) // 2 if focus == "middle" else int(focus)
    if not 1 <= number <= count:
        raise UnsupportedInput(f"{name}: --focus {focus}, but there are {listed}", remedy=f"a number from 1 to {count}")
    told["focus"] = f"plane {number} of {count}"
    return (number - 1,)


def reference_plane(count: int, name: str, focus: str) -> dict[str, Json]:
    """Facts for the plan of a slide of whose focal planes only the scanner's own choice can be read here.

    Raises:
        PlanesNotChosen: there are several, and none or another one was chosen.
    """
    if count <= 1:
        return {}
    if focus != "middle":
        message = f"{name}: {count} focal planes, of which only the one that the scanner calls its own is read here"
        raise PlanesNotChosen(message, remedy="read it with --focus middle, or export the planes as OME-TIFF")
    return {"focus": f"the scanner's own of {count} planes"}
