"""URLs among the inputs: mirrored as stubs when the first one is met, and told from local files when all is found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from umedfeat.contract import Failure, Found, Source
from umedfeat.discovery.archives import Scratch
from umedfeat.discovery.walk import Walked, walk
from umedfeat.naming import printable
from umedfeat.remote.mirror import Mirror

__all__ = ["Remote"]


class Remote:
    """The URLs of one discovery.

    Args:
        parent: folder for the stubs, and for the objects while they are read; None: the one for temporary files.
    """

    def __init__(self, parent: Path | None) -> None:
        self._parent = parent
        self.scratch: tuple[Scratch, ...] = ()
        self._mirror: Mirror | None = None

    @property
    def mirror(self) -> Mirror:
        """Made on first use."""
        if self._mirror is None:
            self.scratch = (Scratch(self._parent),)
            self._mirror = Mirror(self.scratch[0].folder)
        return self._mirror

    def under(self, url: Path) -> Walked:
        """What an input at a URL holds: one object, or all below it.

        Raises:
            SetupError: it cannot be listed.
        """
        self.mirror.add(url)
        place = self.mirror.place_of(url)
        return self.walked(place, place if self._is_folder(place) else place.parent, {})

    def walked(self, place: Path, root: Path, row: Mapping[str, str]) -> Walked:
        """The stubs at or below a place, named relative to ``root``; what has none has failed."""
        walked = walk(place, root, row, seconds=60.0) if self._is_folder(place) else Walked([], [], [])
        seen = {file.path for file in walked.found}
        unseen = [path for path in self.mirror.files if path not in seen and (path == place or place in path.parents)]
        named = [Found(path, printable(path.relative_to(root).as_posix()), row) for path in unseen]
        found = [*walked.found, *named]  # no walk finds what no disk takes
        faults = {file.path: why for file in found if (why := self._fault(file)) is not None}
        walked.failures.extend(faults.values())
        return walked._replace(found=[file for file in found if file.path not in faults])

    def _is_folder(self, place: Path) -> bool:
        """Of an object the disk is not asked: its name may be too long for one."""
        return place not in self.mirror.files and place.is_dir()

    def attached(self, sources: Sequence[Source]) -> tuple[Source, ...]:
        """The sources, those at URLs with what is needed to fetch them."""
        return tuple(map(self._attached, sources)) if self._mirror is not None else tuple(sources)

    def close(self) -> None:
        """Remove the stubs."""
        for scratch in self.scratch:
            scratch.close()

    def _attached(self, source: Source) -> Source:
        files = tuple(self.mirror.files[path] for path in source.content if path in self.mirror.files)
        return replace(source, remote=files, holds=(*source.holds, *self.scratch)) if files else source

    def _fault(self, file: Found) -> Failure | None:
        fault = self.mirror.faults.get(file.path)
        if fault is not None:
            return Failure(file.name, "discover", type(fault).__name__, fault.message, fault.remedy)
        if file.path.suffix.lower() == ".zip":
            message = f"{file.name}: an archive at a URL is not read"
            return Failure(file.name, "discover", "UnsupportedInput", message, "unpack it there, or copy it first")
        return None
