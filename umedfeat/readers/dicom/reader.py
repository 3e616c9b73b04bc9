"""DICOM: series become volumes, radiographs and cines become images, everything else is listed with its reason."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from umedfeat.contract import Collected, Failure, Found, Reader, Skipped, Source
from umedfeat.errors import InputError, UnreadableInput
from umedfeat.naming import Pseudonyms, content_sha256, stem_of
from umedfeat.policy import Policy
from umedfeat.readers.dicom.frames import volume_count
from umedfeat.readers.dicom.header import (
    DicomHeader,
    has_preamble,
    looks_like_bare_dataset,
    read_header,
    without_identifiers,
    without_warnings,
)
from umedfeat.readers.dicom.names import folders_without, identifiers_in, without
from umedfeat.readers.dicom.repeats import by_number
from umedfeat.readers.dicom.series import SliceGroup, group_slices, not_an_image
from umedfeat.readers.dicom.stack import FramesStack, SeriesStack, parsing
from umedfeat.readers.stacks.volume import VolumeReader

__all__ = ["collect", "open", "sniff"]


def sniff(path: Path, head: bytes) -> bool:
    """A DICOM file, with or without its preamble."""
    return has_preamble(head) or looks_like_bare_dataset(head)


def collect(found: Sequence[Found], policy: Policy, pseudonyms: Pseudonyms) -> Collected:
    """Group files into series; every file ends as part of a source, skipped, or failed."""
    collected = Collected([], [], [])
    headers: list[DicomHeader] = []
    identifiers: defaultdict[str, set[str]] = defaultdict(set)
    failed: list[tuple[Found, InputError]] = []
    with without_warnings(), ThreadPoolExecutor(max_workers=8) as threads:
        outcomes = list(threads.map(lambda file: _header_and_reason(file, policy), found))
    for file, outcome in zip(found, outcomes, strict=True):
        folder = identifiers[file.name.rpartition("/")[0]]
        if isinstance(outcome, InputError):
            folder.update(identifiers_in(file.path))
            failed.append((file, outcome))
            continue
        header, reason = outcome
        folder.update(header.identifiers)
        if reason is None:
            headers.append(header)
        else:
            collected.skipped.append(Skipped(without_identifiers(file.name, header, pseudonyms), reason))
    groups, left_out = group_slices(headers)
    for header, reason in left_out:
        collected.skipped.append(Skipped(without_identifiers(header.found.name, header, pseudonyms), reason))
    for source in _sources(groups, pseudonyms):
        collected.sources.extend(_volumes(source, policy))
    for file, error in failed:  # a damaged header may have lost what its neighbours still tell
        collected.failures.append(_failure(file, error, identifiers[file.name.rpartition("/")[0]], pseudonyms))
    return collected._replace(folders=folders_without(identifiers, pseudonyms))


def _failure(file: Found, error: InputError, identifiers: Iterable[str], pseudonyms: Pseudonyms) -> Failure:
    name = without(file.name, identifiers, pseudonyms)
    message = error.message.replace(file.name, name)
    return Failure(name, "discover", type(error).__name__, message, error.remedy)


def open(source: Source, policy: Policy, prepared: Mapping[str, Any] | None = None) -> Reader:
    """Open a series or a single file.

    Raises:
        InputError: damaged, or no installed codec decodes it.
    """
    limit, modality = policy.limits.max_pixels, source.modality.upper()  # a manifest may spell it otherwise
    carry = dict((prepared or {}).get("stack") or {})
    with parsing(source.name):
        kind, _, volume = source.selector.partition(":")
        if kind == "series":
            stack: Any = SeriesStack(source.files, source.name, modality, carry, volume, limit)
            return VolumeReader(stack, policy, prepared)
        stack = FramesStack(source.path, source.name, modality, volume or policy.volume.volume_index, limit)
        if volume:
            digest = hashlib.sha256(f"{content_sha256(source.files)} {volume}".encode()).hexdigest()
            stack.facts = replace(stack.facts, content_sha256=digest)
        return VolumeReader(stack, policy, prepared)


def _header_and_reason(file: Found, policy: Policy) -> tuple[DicomHeader, str | None] | InputError:
    """The header and why the file is not embedded (None if it is), or its fault."""
    with file.path.open("rb") as stream:
        bare = not has_preamble(stream.read(132))
    if bare and not policy.limits.force:
        message = f"{file.name}: a DICOM data set without preamble and meta header"
        return UnreadableInput(message, remedy="--force reads it all the same")
    try:
        header = read_header(file, force=bare, max_pixels=policy.limits.max_pixels)
        if not header.encoded and not policy.limits.force:
            message = f"{file.name}: a DICOM file whose meta header does not tell how it is encoded"
            return UnreadableInput(message, remedy="--force takes it as uncompressed")
        return header, not_an_image(header, include_derived=policy.volume.include_derived)
    except InputError as error:
        return error


def _sources(groups: Sequence[SliceGroup], pseudonyms: Pseudonyms) -> list[Source]:
    """Ids do not depend on the order of files: volumes of one series are numbered by their content."""
    numbered: dict[tuple[str, str], int] = {}
    sources = []
    for headers, parted_by in sorted(groups, key=_content_order):
        first = headers[0]
        stacked = first.position is not None and first.orientation is not None and first.frames == 1
        series = stacked and not first.enhanced and first.modality in {"CT", "MR", "PT", "NM"}
        if series:
            folder = PurePosixPath(without_identifiers(first.found.name, first, pseudonyms)).parent
            key = (str(folder), first.series)
            numbered[key] = numbered.get(key, 0) + 1
            more = f"-{numbered[key]}" if numbered[key] > 1 else ""
            short = pseudonyms.of(first.series, kind="series")[: None if pseudonyms.keep else 12]
            name = (folder / f"{first.modality.lower()}{'-' * bool(short)}{short}{more}").as_posix()
            identity = name
            if len(headers) == 1:  # a fault is then told with the file's own name
                name = without_identifiers(first.found.name, first, pseudonyms)
        else:
            name = without_identifiers(first.found.name, first, pseudonyms)
            identity = stem_of(name)
        kind = f"series:{parted_by}" if series else "file"
        sources.append(_source(headers, identity, name, pseudonyms, kind))
    return sources


def _volumes(source: Source, policy: Policy) -> list[Source]:
    """An item per volume of an enhanced file where the policy asks for all."""
    if policy.volume.volume_index != "all" or source.selector.startswith("series"):
        return [source]
    with without_warnings():
        count = volume_count(source.path)
    if count == 1:
        return [source]
    digits = len(str(count - 1))
    return [replace(source, id=f"{source.id}/volume-{v:0{digits}d}", selector=f"file:{v}") for v in range(count)]


def _content_order(group: SliceGroup) -> tuple[Any, ...]:
    first = group.headers[0]
    marks = tuple(by_number(value) for _, value in first.order)
    return first.series, first.study, first.patient, first.orientation or (), marks, first.rows, first.sop_uid


def _source(group: Sequence[DicomHeader], identity: str, name: str, pseudonyms: Pseudonyms, selector: str) -> Source:
    first = group[0]
    return Source(
        id=identity,
        format="dicom",
        path=first.found.path,
        files=tuple(header.found.path for header in group),
        name=name,
        patient=pseudonyms.of(first.patient),
        study=pseudonyms.of(first.study, kind="study"),
        modality=first.modality,
        selector=selector,
    )
