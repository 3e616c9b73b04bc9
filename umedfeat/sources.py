"""Discovery: paths, folders and manifests become Sources; what is not an input is listed, never dropped silently.

A path is a file, a folder (searched recursively) or a CSV manifest with a ``path`` column. Content decides the format.
Every file ends in exactly one list: it belongs to a source, it is skipped with a reason, or it failed with a reason.
"""

from __future__ import annotations

import csv
import hashlib
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

from umedfeat.annotations import refuse_shared_masks
from umedfeat.errors import SetupError, UnreadableInput
from umedfeat.items import Failure, Skipped, Source
from umedfeat.policy import Policy
from umedfeat.privacy import Pseudonyms
from umedfeat.readers import READERS, Collected, Found, reader_format, sniff

__all__ = ["IMAGE_SUFFIXES", "Discovery", "content_sha256", "discover", "stem_of"]

#: Suffixes that promise an image: such a file that nothing recognises has failed; any other was merely skipped.
IMAGE_SUFFIXES = frozenset(
    {
        ".svs",
        ".ndpi",
        ".mrxs",
        ".scn",
        ".vms",
        ".vmu",
        ".bif",
        ".svslide",
        ".czi",
        ".tif",
        ".tiff",
        ".ome.tif",
        ".ome.tiff",
    }
    | {".dcm", ".dicom", ".ima", ".nii", ".nii.gz", ".hdr", ".mgz", ".mgh", ".par", ".rec"}
    | {".png", ".jpg", ".jpeg", ".bmp", ".webp"}
)

_MANIFEST_COLUMNS = frozenset({"path", "id", "patient", "mpp", "modality"})
_HEAD_BYTES = 4096
_WHOLE_HASH_BYTES = 64 << 20
_HASH_BLOCK = 1 << 20


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
    claims, unclaimed, failures = _sniff_all(found)
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
    sources = sorted(_with_manifest_rows(sources, found, pseudonyms), key=lambda source: source.id)
    _refuse_collisions(sources)
    if policy.limits.mask_dir:
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


def stem_of(name: str) -> str:
    """A relative name without its image suffix ("a/b.nii.gz" → "a/b"); others stay ("1.2.840.7" is a name)."""
    folder, slash, base = name.rpartition("/")
    lowered = base.lower()
    for suffix in sorted(IMAGE_SUFFIXES, key=len, reverse=True):
        if lowered.endswith(suffix) and len(base) > len(suffix):
            return folder + slash + base[: -len(suffix)]
    return name


def content_sha256(files: Iterable[Path]) -> str:
    """Identity of the bytes of some files, cheap enough for slides on a network disk.

    Up to 64 MiB in total every byte is hashed. Above that: the size of each file and 64 blocks of 1 MiB, evenly
    spread over it, the first and the last among them. File names do not matter, their order does.
    """
    paths = list(files)
    sizes = [path.stat().st_size for path in paths]
    digest = hashlib.sha256()
    for path, size in zip(paths, sizes, strict=True):
        digest.update(size.to_bytes(8, "little"))
        with path.open("rb") as stream:
            if sum(sizes) <= _WHOLE_HASH_BYTES or size <= _HASH_BLOCK:
                while block := stream.read(_HASH_BLOCK):
                    digest.update(block)
                continue
            blocks = max(1, min(64, size // _HASH_BLOCK))
            for k in range(blocks):
                stream.seek((size - _HASH_BLOCK) * k // max(1, blocks - 1))
                digest.update(stream.read(_HASH_BLOCK))
    return digest.hexdigest()


def _found_under(path: Path) -> tuple[list[Found], list[Skipped]]:
    if not path.exists():
        raise SetupError(f"{path}: no such file or folder", remedy="--input takes a file, a folder or a CSV manifest")
    if path.is_dir():
        return _walk(path, path, {})
    if _is_manifest(path):
        return _manifest(path)
    return [Found(path, path.name, {})], []


def _walk(folder: Path, root: Path, row: Mapping[str, str]) -> tuple[list[Found], list[Skipped]]:
    found: list[Found] = []
    skipped: list[Skipped] = []
    for place, folders, files in os.walk(folder):
        folders.sort()
        for file in sorted(files):
            path = Path(place, file)
            name = path.relative_to(root).as_posix()
            if any(part.startswith(".") for part in path.relative_to(folder).parts):
                skipped.append(Skipped(name, "hidden file"))
            elif not path.is_file():
                skipped.append(Skipped(name, "not a regular file, or a broken link"))
            else:
                found.append(Found(path, name, row))
    return found, skipped


def _is_manifest(path: Path) -> bool:
    """A CSV whose header has a ``path`` (or ``file``) column."""
    if path.suffix.lower() not in {".csv", ".tsv", ".txt"}:
        return False
    with path.open("r", encoding="utf-8-sig", errors="replace", newline="") as stream:
        header = stream.readline(65536)
    cells = header.replace("\t", ",").replace(";", ",").split(",")
    return bool({"path", "file"} & {cell.strip().lower() for cell in cells})


def _manifest(path: Path) -> tuple[list[Found], list[Skipped]]:
    rows = _manifest_rows(path)
    places = [Path(os.path.normpath(path.parent / row["path"])) for row in rows]
    missing = [row["path"] for row, place in zip(rows, places, strict=True) if not place.exists()]
    if missing:
        shown = ", ".join(missing[:3]) + (" …" if len(missing) > 3 else "")
        raise SetupError(
            f"{path.name}: {len(missing)} of {len(rows)} paths do not exist: {shown}",
            remedy="paths are relative to the manifest's folder, or absolute",
        )
    root = _root_of(path.parent, places)
    found: list[Found] = []
    skipped: list[Skipped] = []
    for row, place in zip(rows, places, strict=True):
        if place.is_dir():
            files, left_out = _walk(place, root, row)
            found += files
            skipped += left_out
        else:
            found.append(Found(place, place.relative_to(root).as_posix(), row))
    repeated = [name for name, count in Counter(f.name for f in found).items() if count > 1]
    if repeated:
        raise SetupError(f"{path.name}: {repeated[0]} is listed twice", remedy="one row per input")
    return found, skipped


def _manifest_rows(path: Path) -> list[dict[str, str]]:
    with path.open("r", encoding="utf-8-sig", newline="") as stream:
        sample = stream.read(65536)
        stream.seek(0)
        header = sample.splitlines()[0] if sample else ""
        delimiter = max(",;\t", key=header.count)
        reader = csv.DictReader(stream, delimiter=delimiter)
        rows = [{(k or "").strip(): (v or "").strip() for k, v in row.items() if isinstance(v, str)} for row in reader]
    for number, row in enumerate(rows, start=2):
        lowered = {key.lower(): key for key in row}
        for name in (*_MANIFEST_COLUMNS, "file"):
            if name in lowered:
                row[name] = row.pop(lowered[name])
        if "path" not in row and "file" in row:
            row["path"] = row.pop("file")
        if not row.get("path"):
            raise SetupError(f"{path.name}, line {number}: empty path", remedy="fill it in or remove the row")
    if not rows:
        raise SetupError(f"{path.name}: the manifest has no rows", remedy="one row per input below the header")
    return rows


def _root_of(folder: Path, places: Sequence[Path]) -> Path:
    """The manifest's folder where it holds every path, else what all paths have in common: names stay relative."""
    absolute = [Path(os.path.abspath(place)) for place in places]  # noqa: PTH100 - links must not be resolved
    home = Path(os.path.abspath(folder))  # noqa: PTH100
    if all(home in place.parents for place in absolute):
        return folder
    common = Path(os.path.commonpath(absolute))
    return common.parent if common.is_file() else common


def _sniff_all(found: Sequence[Found]) -> tuple[dict[str, list[Found]], list[Skipped], list[Failure]]:
    with ThreadPoolExecutor(max_workers=8) as threads:  # network disks answer slowly, one file at a time
        formats = list(threads.map(_sniff, found))
    claims: dict[str, list[Found]] = defaultdict(list)
    skipped: list[Skipped] = []
    failures: list[Failure] = []
    for file, name in zip(found, formats, strict=True):
        if isinstance(name, Failure):
            failures.append(name)
        elif name is not None:
            claims[name].append(file)
        elif stem_of(file.name) != file.name:
            failures.append(_unrecognised(file))
        else:
            skipped.append(Skipped(file.name, "not an image format that is read here"))
    return claims, skipped, failures


def _sniff(file: Found) -> str | Failure | None:
    try:
        with file.path.open("rb") as stream:
            head = stream.read(_HEAD_BYTES)
    except OSError as error:
        message = f"{file.name}: {error.strerror or error}"
        return Failure(file.name, "discover", "UnreadableInput", message, "check the file's permissions and the disk")
    return sniff(file.path, head)


def _unrecognised(file: Found) -> Failure:
    size = file.path.stat().st_size
    fault = "the file is empty" if size == 0 else "the content is not what the suffix promises, or is damaged"
    remedy = "copy it again from its origin, or remove it"
    return Failure(file.name, "discover", UnreadableInput.__name__, f"{file.name}: {fault} ({size} bytes)", remedy)


def _collect(name: str, files: Sequence[Found], policy: Policy, pseudonyms: Pseudonyms) -> Collected:
    if not files:
        return Collected([], [], [])
    return reader_format(name).collect(files, policy, pseudonyms)


def _with_manifest_rows(sources: Sequence[Source], found: Sequence[Found], pseudonyms: Pseudonyms) -> list[Source]:
    """Lay the manifest's columns over what the readers said; the manifest wins where it speaks."""
    rows = {file.path: file.row for file in found if file.row}
    owners = Counter(id(rows[source.files[0]]) for source in sources if source.files[0] in rows)
    described = []
    for source in sources:
        _refuse_contradictions(source, [(file, rows[file]) for file in source.files if file in rows])
        row = rows.get(source.files[0])
        described.append(_described(source, row, owners[id(row)] > 1, pseudonyms) if row else source)
    return described


def _refuse_contradictions(source: Source, rows: Sequence[tuple[Path, Mapping[str, str]]]) -> None:
    """Slices of one series whose rows differ would all get the first one's label."""
    for (one, first), (other, second) in pairwise(rows):
        differing = [key for key in first if key != "path" and first[key] != second.get(key, "")]
        if differing and first is not second:
            raise SetupError(
                f"{one.name} and {other.name} are slices of one series, and their rows differ in {differing[0]}",
                remedy="give every row an id of its own (an item per slice), or list the series' folder in one row",
            )


def _described(source: Source, row: Mapping[str, str], shared: bool, pseudonyms: Pseudonyms) -> Source:
    new_id = row.get("id") or source.id
    if row.get("id") and shared:  # one row, a folder of several series
        new_id = f"{row['id']}/{source.id.rpartition('/')[2]}"
    return replace(
        source,
        id=new_id,
        patient=pseudonyms.of(row["patient"]) if row.get("patient") else source.patient,
        mpp=_number(row["mpp"], source.name) if row.get("mpp") else source.mpp,
        modality=row.get("modality") or source.modality,
        meta={key: value for key, value in row.items() if key not in _MANIFEST_COLUMNS},
    )


def _number(text: str, name: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        message = f"{name}: manifest mpp {text!r} is not a number"
        raise SetupError(message, remedy="micrometres per pixel, e.g. 0.25") from error


def _refuse_collisions(sources: Sequence[Source]) -> None:
    by_id: dict[str, str] = {}
    for source in sources:
        if source.id in by_id:
            raise SetupError(
                f"two inputs would get the id {source.id!r}: {by_id[source.id]} and {source.name}",
                remedy="rename one, or give ids in a CSV manifest (columns path,id)",
            )
        by_id[source.id] = source.name
