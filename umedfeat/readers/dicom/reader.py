"""DICOM: series become volumes, radiographs and cines become images, everything else is listed with its reason."""

from __future__ import annotations

import json
import logging
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from umedfeat.contract import Collected, Failure, Found, Reader, Skipped, Source
from umedfeat.errors import InputError, UnreadableInput, UnsupportedInput
from umedfeat.naming import Pseudonyms, stem_of
from umedfeat.policy import Policy
from umedfeat.readers.dicom.dicomdir import indexed_files
from umedfeat.readers.dicom.frames import volume_count
from umedfeat.readers.dicom.frames_stack import FramesStack
from umedfeat.readers.dicom.header import (
    DICOMDIR,
    DicomHeader,
    has_preamble,
    looks_like_bare_dataset,
    read_header,
    without_identifiers,
    without_warnings,
)
from umedfeat.readers.dicom.intents import raw_beside_presentation
from umedfeat.readers.dicom.joining import exploded_volumes
from umedfeat.readers.dicom.load import parsing
from umedfeat.readers.dicom.names import folders_without, identifiers_in, without
from umedfeat.readers.dicom.repeats import by_number
from umedfeat.readers.dicom.series import SliceGroup, group_slices, not_an_image
from umedfeat.readers.dicom.series_stack import SeriesStack
from umedfeat.readers.stacks.volume import VolumeReader

__all__ = ["collect", "open_source", "sniff"]

log = logging.getLogger("umedfeat")


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
        if header.sop_class == DICOMDIR:
            reason = _index(file)
        if reason is None:
            headers.append(header)
        else:
            collected.skipped.append(Skipped(without_identifiers(file.name, header, pseudonyms), reason))
    raw = [] if policy.volume.for_processing else raw_beside_presentation(headers)
    grouped = group_slices([header for header in headers if not any(header is other for other, _ in raw)])
    for header, reason in [*raw, *grouped.left_out]:
        collected.skipped.append(Skipped(without_identifiers(header.found.name, header, pseudonyms), reason))
    collected.failures.extend(_refusal(members, why, pseudonyms) for members, why in grouped.refused)
    for source in _sources(_joined(grouped.groups, policy, pseudonyms), pseudonyms):
        collected.sources.extend(_volumes(source, policy))
    for file, error in failed:  # a damaged header may have lost what its neighbours still tell
        collected.failures.append(_failure(file, error, identifiers[file.name.rpartition("/")[0]], pseudonyms))
    return collected._replace(folders=folders_without(identifiers, pseudonyms))


def _index(file: Found) -> str:
    """What an index of files says of the copy that it lies in."""
    try:
        present, missing = indexed_files(file.path, file.name)
    except InputError:
        return "DICOMDIR, a damaged index of files"
    if missing:
        log.warning("%s: missing: %d of the %d files that it lists", file.name, missing, missing + len(present))
    return "DICOMDIR, an index of files" + (f" (missing: {missing} of those that it lists)" if missing else "")


def _joined(groups: Sequence[SliceGroup], policy: Policy, pseudonyms: Pseudonyms) -> list[SliceGroup]:
    """The groups, exploded volumes put together where the policy asks for it, else pointed out."""
    kept = list(groups)
    for parts, volume in exploded_volumes(groups):
        if policy.volume.join_slices:
            kept = [group for group in kept if not any(group is part for part in parts)] + [volume]
            continue
        first = volume.headers[0]
        folder = without_identifiers(first.found.name, first, pseudonyms).rpartition("/")[0] or "."
        log.warning(
            "%s: %d items of one slice look like one volume: --join-slices makes one of them", folder, len(parts)
        )
    return kept


def _failure(file: Found, error: InputError, identifiers: Iterable[str], pseudonyms: Pseudonyms) -> Failure:
    name = without(file.name, identifiers, pseudonyms)
    message = error.message.replace(file.name, name)
    return Failure(name, "discover", type(error).__name__, message, error.remedy)


def _refusal(members: Sequence[DicomHeader], why: str, pseudonyms: Pseudonyms) -> Failure:
    name = _series_name(members[0], pseudonyms)
    remedy = "export the phases as series of their own, or list the files of each in a manifest with an id"
    return Failure(name, "discover", UnsupportedInput.__name__, f"{name}: {why}", remedy)


def open_source(source: Source, policy: Policy, prepared: Mapping[str, Any] | None = None) -> Reader:
    """Open a series or a single file.

    Raises:
        InputError: damaged, or no installed codec decodes it.
    """
    limit, modality = policy.limits.max_pixels, source.modality.upper()  # a manifest may spell it otherwise
    carry = dict((prepared or {}).get("stack") or {})
    with parsing(source.name):
        told = json.loads(source.selector or "{}")
        if "series" in told:
            stack: Any = SeriesStack(source.files, source.name, modality, carry, told["series"], limit)
            return VolumeReader(stack, policy, prepared, source.roi)
        volume = str(told.get("volume", ""))
        stack = FramesStack(source.path, source.name, modality, volume or policy.volume.volume_index, limit)
        if volume:
            stack.facts = replace(stack.facts, part=volume)
        return VolumeReader(stack, policy, prepared, source.roi)


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
    numbered: Counter[tuple[str, str]] = Counter()
    sources = []
    for group in sorted(groups, key=_content_order):
        first = group.headers[0]
        name = without_identifiers(first.found.name, first, pseudonyms)
        if not _is_series(group):
            sources.append(_source(group.headers, stem_of(name), name, pseudonyms, {}))
            continue
        identity = _series_name(first, pseudonyms)
        key = (identity, first.series)
        numbered[key] += 1
        identity += f"-{numbered[key]}" if numbered[key] > 1 else ""
        # a fault of a single file is told with its own name
        selector = {"series": {"parted_by": group.parted_by, "note": group.note}}
        named = name if len(group.headers) == 1 else identity
        sources.append(_source(group.headers, identity, named, pseudonyms, selector))
    return sources


def _is_series(group: SliceGroup) -> bool:
    """Are such files slices of a volume, whose file names mean nothing?"""
    first = group.headers[0]
    if len(group.headers) > 1:
        return True
    stacked = first.position is not None and first.orientation is not None and first.frames == 1
    return stacked and not first.enhanced and first.modality in {"CT", "MR", "PT", "NM"}


def _series_name(first: DicomHeader, pseudonyms: Pseudonyms) -> str:
    """Folder, modality, and a pseudonym of the series."""
    folder = PurePosixPath(without_identifiers(first.found.name, first, pseudonyms)).parent
    short = pseudonyms.of(first.series, kind="series")[: None if pseudonyms.keep else 12]
    return (folder / f"{first.modality.lower()}{'-' * bool(short)}{short}").as_posix()


def _volumes(source: Source, policy: Policy) -> list[Source]:
    """An item per volume of an enhanced file where the policy asks for all."""
    if policy.volume.volume_index != "all" or "series" in json.loads(source.selector or "{}"):
        return [source]
    with without_warnings():
        count = volume_count(source.path)
    if count == 1:
        return [source]
    digits = len(str(count - 1))
    return [
        replace(source, id=f"{source.id}/volume-{v:0{digits}d}", selector=json.dumps({"volume": v}))
        for v in range(count)
    ]


def _content_order(group: SliceGroup) -> tuple[Any, ...]:
    first = group.headers[0]
    marks = tuple(by_number(value) for _, value in first.order)
    number = -1 if first.number is None else first.number
    place = first.position or ()
    return first.series, first.study, first.patient, first.orientation or (), marks, first.rows, number, place


def _source(
    group: Sequence[DicomHeader], identity: str, name: str, pseudonyms: Pseudonyms, selector: Mapping[str, Any]
) -> Source:
    first = group[0]
    return Source(
        id=identity,
        format="dicom",
        path=first.found.path,
        files=tuple(header.found.path for header in group),
        name=name,
        patient=pseudonyms.of(first.patient),
        study=pseudonyms.of(first.study, kind="study"),
        series=pseudonyms.of(first.series, kind="series"),
        accession=pseudonyms.of(first.accession, kind="accession"),
        modality=first.modality,
        selector=json.dumps(selector) if selector else "",
    )
