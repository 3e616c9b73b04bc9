"""Files under a folder, and which format claims each of them."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from umedfeat.contract import Failure, Found, Skipped
from umedfeat.errors import UnreadableInput
from umedfeat.naming import stem_of
from umedfeat.readers import sniff

__all__ = ["sniff_all", "walk"]

_HEAD_BYTES = 4096


def walk(folder: Path, root: Path, row: Mapping[str, str]) -> tuple[list[Found], list[Skipped]]:
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


def sniff_all(found: Sequence[Found]) -> tuple[dict[str, list[Found]], list[Skipped], list[Failure]]:
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
