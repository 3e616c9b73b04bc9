"""Discovery: paths, folders and manifests become Sources; what is not an input is listed, never dropped silently.

A path is a file, a folder (searched recursively) or a CSV manifest with a ``path`` column. Content decides the format.
Every file ends in exactly one list: it belongs to a source, it is skipped with a reason, or it failed with a reason.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from umedfeat.contract import Collected, Failure, Found, Skipped, Source
from umedfeat.discovery.manifest import is_manifest, read_manifest, with_manifest_rows
from umedfeat.discovery.walk import sniff_all, walk
from umedfeat.errors import SetupError
from umedfeat.naming import Pseudonyms
from umedfeat.policy import Policy
from umedfeat.readers import READERS, reader_format

__all__ = ["Discovery", "discover"]


@dataclass(frozen=True)
class Discovery:
    """What was found. ``sources`` are sorted by id; every file under the inputs is in one of the three."""

    sources: tuple[Source, ...]
    skipped: tuple[Skipped, ...]
    failures: tuple[Failure, ...]


def discover(inputs: Sequence[Path], policy: Policy, pseudonyms: Pseudonyms) -> Discovery:
    """Find every input under the given paths.

    Raises:
        SetupError: a path does not exist, a manifest is malformed, or two inputs would get one id or one mask.
    """
    found: list[Found] = []
    skipped: list[Skipped] = []
    for path in inputs:
        files, left_out = _found_under(path)
        found += files
        skipped += left_out
    claims, unclaimed, failures = sniff_all(found)
    skipped += unclaimed
    sources: list[Source] = []
    folders: dict[str, str] = {}
    for name in READERS:
        collected = _collect(name, claims.get(name, []), policy, pseudonyms)
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
    if policy.limits.mask_dir:
        from umedfeat.readers.slides.annotations import refuse_shared_masks

        refuse_shared_masks((source for source in sources if source.format == "slide"), policy.limits.mask_dir)
    return Discovery(tuple(sources), tuple(sorted(skipped, key=lambda s: s.name)), tuple(failures))


def _moved(name: str, folders: Mapping[str, str]) -> str:
    """A relative name whose folder is told without identifiers."""
    folder = name.rpartition("/")[0]
    while folder and folder not in folders:
        folder = folder.rpartition("/")[0]
    return folders[folder] + name[len(folder) :] if folder else name


def _renamed(failure: Failure, folders: Mapping[str, str]) -> Failure:
    name = _moved(failure.source, folders)
    return replace(failure, source=name, message=failure.message.replace(failure.source, name))


def _found_under(path: Path) -> tuple[list[Found], list[Skipped]]:
    if not path.exists():
        raise SetupError(f"{path}: no such file or folder", remedy="--input takes a file, a folder or a CSV manifest")
    if path.is_dir():
        return walk(path, path, {})
    if is_manifest(path):
        return read_manifest(path)
    return [Found(path, path.name, {})], []


def _collect(name: str, files: Sequence[Found], policy: Policy, pseudonyms: Pseudonyms) -> Collected:
    if not files:
        return Collected([], [], [])
    return reader_format(name).collect(files, policy, pseudonyms)


def _refuse_collisions(sources: Sequence[Source]) -> None:
    by_id: dict[str, str] = {}
    for source in sources:
        if source.id in by_id:
            raise SetupError(
                f"two inputs would get the id {source.id!r}: {by_id[source.id]} and {source.name}",
                remedy="rename one, or give ids in a CSV manifest (columns path,id)",
            )
        by_id[source.id] = source.name
