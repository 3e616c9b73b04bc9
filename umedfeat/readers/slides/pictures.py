"""One input for every picture of tissue in a file; what is no tissue is listed."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from umedfeat.contract import Found, Skipped, Source
from umedfeat.naming import stem_of

__all__ = ["picture_sources", "skipped_pictures"]


def picture_sources(file: Found, files: tuple[Path, ...], pictures: int) -> Iterator[Source]:
    """A source for every picture; of several each is called by its number."""
    stem = stem_of(file.name)
    for number in range(pictures):
        alone = pictures == 1
        selector = "" if alone else json.dumps({"picture": number})
        identity = stem if alone else f"{stem}-series{number + 1}"
        yield Source(identity, "slide", file.path, files, file.name, selector=selector)


def skipped_pictures(file: Found, kinds: Sequence[str]) -> Iterator[Skipped]:
    """Labels, macros and thumbnails."""
    for kind in kinds:
        yield Skipped(f"{file.name} [{kind}]", f"slide {kind}, not the tissue")
