"""Slide encoders: all tiles of a slide to one vector. Other packages bring them, in an entry-point group of its own.

In a package's ``pyproject.toml``::

    [project.entry-points."umedfeat.slide_encoders"]
    my-slide-encoder = "my_package.module:load"

``load`` takes an ``EncoderChoice`` (one device, a settled precision) and returns a ``SlideEncoder``. Nothing is
imported before it is asked for.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from umedfeat.contract import SlideTiles
from umedfeat.encoders.choice import EncoderChoice, device_names
from umedfeat.encoders.plugins import described, loaded, plugins
from umedfeat.encoders.runtimes.choosing import choose_device, choose_precision
from umedfeat.errors import NotFinite, SetupError

__all__ = ["SLIDE_GROUP", "SlideEncoder", "SlideEncoderEntry", "list_slide_encoders", "load_slide_encoder"]

SLIDE_GROUP = "umedfeat.slide_encoders"
_PAGE = "docs/encoders.md, Slide encoders"


@dataclass(frozen=True)
class SlideEncoder:
    """A frozen slide encoder, as a package gives it.

    Attributes:
        function: the tiles of one slide → (dim,) floating point, on the CPU; the same tiles, the same vector.
        dim: length of the vector.
        weights_sha256: of its weights file; "" where it has none.
        expects: what the tiles must have been made with, by the names that ``umedfeat info --json`` shows:
            ``{"encoder.name": "conch", "policy.slide.mpp": 0.5, "policy.slide.tile_size": 448}``; also
            "encoder.weights_sha256", or "fingerprint" for all settings at once. {}: tiles of any encoder.
        settings: JSON-able; whatever else decides the numbers.
        name, package: as it was asked for, and whose it is; filled in by ``load_slide_encoder``.
    """

    function: Callable[[SlideTiles], npt.ArrayLike]
    dim: int
    weights_sha256: str
    expects: Mapping[str, Any]
    settings: Mapping[str, Any] = field(default_factory=dict)
    name: str = ""
    package: str = ""

    @property
    def described(self) -> dict[str, Any]:
        """Everything that decides its numbers, JSON-able; part of the fingerprint of what is made with it."""
        own = {"name": self.name, "package": self.package, "weights_sha256": self.weights_sha256}
        return {**self.settings, **own}

    def __call__(self, tiles: SlideTiles) -> npt.NDArray[np.float32]:
        """(dim,) of one slide.

        Raises:
            NotFinite: NaN or infinity came out. SetupError: a vector of another length, or none.
        """
        vector = np.asarray(self.function(tiles), dtype=np.float32)
        if vector.shape != (self.dim,):
            message = f"{self.name} ({self.package}): gave values of shape {vector.shape}, not ({self.dim},)"
            raise SetupError(message, remedy=f"a fault of that package; see {_PAGE}")
        if not np.isfinite(vector).all():
            raise NotFinite(f"{self.name}: NaN or infinity", remedy="ask the authors of that package")
        return vector


@dataclass(frozen=True)
class SlideEncoderEntry:
    """A slide encoder that can be asked for by name.

    ``about``: the package and its version; ``loader``: as registered.
    """

    name: str
    about: str
    loader: str


def list_slide_encoders() -> tuple[SlideEncoderEntry, ...]:
    """Every slide encoder that ``load_slide_encoder`` and ``umedfeat aggregate`` take; all are of other packages."""
    points = plugins((), SLIDE_GROUP).values()
    return tuple(SlideEncoderEntry(point.name, described(point), point.value) for point in points)


def load_slide_encoder(
    name: str, *, weights: Path | str | None = None, device: str = "auto", precision: str = "auto"
) -> SlideEncoder:
    """Load a slide encoder of an installed package.

    Args:
        name: one of ``umedfeat.list_slide_encoders()``.
        weights: a file, for encoders that take one.
        device: "auto", "cpu", "cuda" or "cuda:N". precision: "auto", "fp32", "bf16" or "fp16".

    Raises:
        SetupError: unknown name, device or precision; the package is broken.
    """
    entry = _entry_of(name)
    where = choose_device(device_names(device)[0])
    path = None if weights is None else Path(weights)
    choice = EncoderChoice(name, path, where, precision=choose_precision(precision, where))
    encoder = loaded(entry.loader, name, entry.about, choice)
    if not isinstance(encoder, SlideEncoder):
        message = f"{name}: {entry.loader} ({entry.about}) gives {type(encoder).__name__}, not a SlideEncoder"
        raise SetupError(message, remedy=f"a fault of that package; see {_PAGE}")
    return replace(encoder, name=name, package=entry.about)


def _entry_of(name: str) -> SlideEncoderEntry:
    known = {entry.name: entry for entry in list_slide_encoders()}
    if name in known:
        return known[name]
    near = difflib.get_close_matches(name, known, n=2)
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    there = f"installed: {', '.join(known)}" if known else f"none is installed; how to write one: {_PAGE}"
    raise SetupError(f"unknown slide encoder {name!r}", remedy=hint + there)
