"""Discovery: paths, folders and manifests become Sources; what is not an input is listed, never dropped silently.

A path is a file, a folder (searched recursively) or a CSV manifest with a ``path`` column. Content decides the format.
Every file ends in exactly one list: it belongs to a source, it is skipped with a reason, or it failed with a reason.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from umedfeat.contract import Collected, Failure, Found, Skipped, Source
from umedfeat.discovery.archives import Scratch, unpacked
from umedfeat.discovery.manifest import is_manifest, once, read_manifest, with_manifest_rows
from umedfeat.discovery.patience import Overdue, each_in_time, in_time
from umedfeat.discovery.remote import Remote
from umedfeat.discovery.walk import Walked, sniff_all, unanswered, walk
from umedfeat.disk.regular import kind_of
from umedfeat.errors import SetupError, UnreadableInput
from umedfeat.naming import Pseudonyms, printable
from umedfeat.policy import Policy
from umedfeat.readers import READERS, reader_format
from umedfeat.remote.address import is_url

__all__ = ["Discovery", "discover", "discover_files", "mixed_folders"]

log = logging.getLogger("umedfeat")

#: What grouping the files of a format may take, besides the limit of one file that hangs.
_SECONDS_A_FILE = 0.5


@dataclass(frozen=True)
class Discovery:
    """What was found. ``sources`` are sorted by id; every file under the inputs is in one of the three.

    ``scratch``: where archives were unpacked to, and where what lies at URLs is put. It is removed by ``close``, or
    with the last source that lies there.
    """

    sources: tuple[Source, ...]
    skipped: tuple[Skipped, ...]
    failures: tuple[Failure, ...]
    scratch: tuple[Scratch, ...] = field(default=(), repr=False, compare=False)

    def close(self) -> None:
        """Remove what was unpacked; the sources there can be read no more."""
        for one in self.scratch:
            one.close()


def discover(
    inputs: Sequence[Path],
    policy: Policy,
    pseudonyms: Pseudonyms,
    *,
    seconds: float = 600.0,
    scratch: Path | None = None,
) -> Discovery:
    """Find every input under the given paths, which may be URLs.

    Args:
        seconds: what one file or folder may take; a disk that hangs at one of them costs that one.
        scratch: folder for what lies at URLs (default: the one for temporary files).

    Raises:
        SetupError: a path does not exist or hangs, a URL cannot be listed, a manifest is malformed, or two inputs would
            get one id or one mask.
    """
    walked, remote = Walked([], [], []), Remote(scratch)
    try:
        for path in inputs:
            walked.extend(_found_under(path, seconds, remote))
        found = discover_files(walked, policy, pseudonyms, seconds=seconds)
    except BaseException:
        remote.close()
        raise
    return replace(found, sources=remote.attached(found.sources), scratch=(*found.scratch, *remote.scratch))


def discover_files(walked: Walked, policy: Policy, pseudonyms: Pseudonyms, *, seconds: float = 600.0) -> Discovery:
    """The same for files that are listed already.

    Raises:
        SetupError: two inputs would get one id or one mask.
    """
    found, unread_members, broken, scratch = unpacked(walked.found, policy.limits)
    skipped = [*walked.skipped, *unread_members]
    failures = [*walked.failures, *broken]
    claims, unclaimed, unread = sniff_all(once(found), seconds)
    skipped += unclaimed
    failures += unread
    sources: list[Source] = []
    folders: dict[str, str] = {}
    for name in READERS:
        collected = _collect(name, claims.get(name, []), policy, pseudonyms, seconds)
        sources += collected.sources
        skipped += collected.skipped
        failures += collected.failures
        folders |= collected.folders
    if folders:
        sources = [replace(s, id=_moved(s.id, folders), name=_moved(s.name, folders)) for s in sources]
        skipped = [replace(s, name=_moved(s.name, folders)) for s in skipped]
        failures = [_renamed(failure, folders) for failure in failures]
    sources = sorted(with_manifest_rows(sources, found, pseudonyms), key=lambda source: source.id)
    _refuse_collisions(sources)
    sources = _holding(sources, scratch)
    for folder, slides, pictures in mixed_folders(sources):
        flat = f"as pictures, without a scale or smaller than a tile: {_some(pictures)}"
        log.warning("%s", f"{folder}: read as slides: {_some(slides)}; {flat}")
    if policy.limits.mask_dir:
        from umedfeat.readers.slides.annotations import refuse_shared_masks

        refuse_shared_masks((source for source in sources if source.format == "slide"), policy.limits.mask_dir)
    return Discovery(tuple(sources), tuple(sorted(skipped, key=lambda s: s.name)), tuple(failures), scratch)


def _holding(sources: list[Source], scratch: Sequence[Scratch]) -> list[Source]:
    """Sources of archives keep what they lie in: they outlive the Discovery that found them."""
    rooms = {one.folder: one for one in scratch}
    if not rooms:
        return sources
    return [
        replace(s, holds=tuple(rooms[f] for f in {file.parent for file in s.files} & rooms.keys())) for s in sources
    ]


def mixed_folders(sources: Sequence[Source]) -> list[tuple[str, list[str], list[str]]]:
    """(folder, slides, pictures) where some TIFFs of a folder are slides and others, without a scale, flat."""
    folders: dict[str, tuple[list[str], list[str]]] = {}
    for source in sources:
        if source.path.suffix.lower() in {".tif", ".tiff"} and source.format in {"slide", "raster"}:
            kinds = folders.setdefault(source.name.rpartition("/")[0], ([], []))
            kinds[source.format == "raster"].append(source.name)
    return [(folder or ".", *kinds) for folder, kinds in folders.items() if all(kinds)]


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _moved(name: str, folders: Mapping[str, str]) -> str:
    """A relative name whose folder is told without identifiers."""
    folder = name.rpartition("/")[0]
    while folder and folder not in folders:
        folder = folder.rpartition("/")[0]
    return folders[folder] + name[len(folder) :] if folder else name


def _renamed(failure: Failure, folders: Mapping[str, str]) -> Failure:
    name = _moved(failure.source, folders)
    return replace(failure, source=name, message=failure.message.replace(failure.source, name))


def _found_under(path: Path, seconds: float, remote: Remote) -> Walked:
    if is_url(path):
        return remote.under(path)
    kind = in_time(kind_of, path, seconds)
    if isinstance(kind, Overdue):
        raise SetupError(f"{path}: no answer within {kind.seconds:.0f} s", remedy="check the disk")
    if kind == "folder":
        return walk(path, path, {}, seconds)
    if kind == "file":
        if is_manifest(path):
            return read_manifest(path, seconds, remote)
        walked = Walked([Found(path, printable(path.name), {})], [], [])
        if path.name.upper().startswith("DICOMDIR"):
            walked.extend(_listed_by(path))
        return walked
    fault = f"is a {kind}" if kind else "no such file or folder"
    raise SetupError(f"{path}: {fault}", remedy="--input takes a file, a folder or a CSV manifest")


def _listed_by(path: Path) -> Walked:
    """The files that a DICOMDIR lists, named relative to its folder."""
    from umedfeat.readers.dicom.dicomdir import indexed_files, is_dicomdir  # brings pydicom, which few inputs need

    walked = Walked([], [], [])
    if not is_dicomdir(path):
        return walked
    present, missing = indexed_files(path, path.name)
    for file in present:
        walked.found.append(Found(file, printable(file.relative_to(path.parent).as_posix()), {}))
    if missing:
        message = f"{path.name}: missing: {missing} of the {missing + len(present)} files that it lists"
        walked.failures.append(
            Failure(path.name, "discover", UnreadableInput.__name__, message, "copy the whole medium")
        )
    return walked


def _collect(name: str, files: Sequence[Found], policy: Policy, pseudonyms: Pseudonyms, seconds: float) -> Collected:
    """What a format makes of its files. Where that hangs, each file alone shows which ones it hangs at."""

    def collect(some: Sequence[Found]) -> Collected:
        return reader_format(name).collect(some, policy, pseudonyms)

    if not files:
        return Collected([], [], [])
    collected = in_time(collect, files, seconds + _SECONDS_A_FILE * len(files))
    if not isinstance(collected, Overdue):
        return collected
    alone = each_in_time(collect, [[file] for file in files], seconds)
    hanging = [unanswered(file.name, one) for file, one in zip(files, alone, strict=True) if isinstance(one, Overdue)]
    sound = [file for file, one in zip(files, alone, strict=True) if not isinstance(one, Overdue)]
    together = collect(sound)
    return together._replace(failures=[*together.failures, *hanging])


def _refuse_collisions(sources: Sequence[Source]) -> None:
    by_id: dict[str, Source] = {}
    for source in sources:
        other = by_id.setdefault(source.id, source)
        if other is not source:
            raise SetupError(
                f"two inputs would get the id {source.id!r}: {_told_apart(other, source)}",
                remedy="rename one, or give ids in a CSV manifest (columns path,id)",
            )


def _told_apart(one: Source, other: Source) -> str:
    """Names of two inputs; of inputs of one name in two places the folders too."""
    if one.path == other.path and one.selector == other.selector:
        return f"{one.name} is given twice"
    if one.name != other.name:
        return f"{one.name} and {other.name}"
    return " and ".join(f"{source.path.parent.name}/{source.path.name}" for source in (one, other))
