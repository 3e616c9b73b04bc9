"""Files under a folder, and which format claims each of them."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from umedfeat.contract import Failure, Found, Skipped
from umedfeat.discovery.patience import Overdue, each_in_time, in_time
from umedfeat.disk.regular import kind_of, open_regular
from umedfeat.errors import UnreadableInput
from umedfeat.naming import printable, stem_of
from umedfeat.readers import STORE_MARKERS, sniff

__all__ = ["Walked", "sniff_all", "unanswered", "walk"]

_HEAD_BYTES = 4096
_ACCESS = "check its permissions and the disk"


class Walked(NamedTuple):
    """What lies under some paths: every file is in one of the three."""

    found: list[Found]
    skipped: list[Skipped]
    failures: list[Failure]

    def extend(self, other: Walked) -> None:
        """Add what lies elsewhere."""
        self.found.extend(other.found)
        self.skipped.extend(other.skipped)
        self.failures.extend(other.failures)


class _Entry(NamedTuple):
    name: str
    folder: bool
    link: bool
    regular: bool


def walk(folder: Path, root: Path, row: Mapping[str, str], seconds: float) -> Walked:
    """All files under a folder, named relative to ``root``; ``seconds``: the limit of one listing, one link."""
    walked = Walked([], [], [])
    waiting = [folder]
    while waiting:
        place = waiting.pop()
        entries = in_time(_entries, place, seconds)
        name = printable(place.relative_to(root).as_posix())
        if isinstance(entries, Overdue):
            walked.failures.append(unanswered(name, entries))
        elif isinstance(entries, OSError):
            walked.failures.append(_fault(name, f"the folder cannot be read: {entries.strerror or entries}"))
        elif marker := _marker(entries):
            walked.found.append(Found(place / marker, name if name != "." else printable(place.name), row))
        else:
            hidden = any(part.startswith(".") for part in place.relative_to(folder).parts)
            files = [entry for entry in entries if not entry.folder]
            for entry, kind in zip(files, _kinds(place, files, seconds), strict=True):
                path = place / entry.name
                name = printable(path.relative_to(root).as_posix())
                if hidden or entry.name.startswith("."):
                    walked.skipped.append(Skipped(name, "hidden file"))
                else:
                    _sort_in(Found(path, name, row), kind, walked)
            waiting += [place / entry.name for entry in reversed(entries) if entry.folder and not entry.link]
    return walked


def _entries(place: Path) -> list[_Entry] | OSError:
    """What a folder lists, sorted; links are not looked behind, which could take long."""
    try:
        with os.scandir(place) as entries:
            return sorted(
                _Entry(e.name, e.is_dir(follow_symlinks=False), e.is_symlink(), e.is_file(follow_symlinks=False))
                for e in entries
            )
    except OSError as error:
        return error


def _marker(entries: Sequence[_Entry]) -> str:
    """The file that makes a folder one input, or ""."""
    files = {entry.name for entry in entries if entry.regular}
    return next((name for name in STORE_MARKERS if name in files), "")


def _kinds(place: Path, files: Sequence[_Entry], seconds: float) -> list[str | Overdue]:
    """What each of the files of a folder is; links are looked behind, in time."""
    links = [entry.name for entry in files if entry.link]
    kinds = each_in_time(lambda name: _kind(place / name), links, seconds)
    behind = dict(zip(links, kinds, strict=True))
    return [behind.get(entry.name, "file" if entry.regular else "special file") for entry in files]


def _kind(path: Path) -> str:
    try:
        return kind_of(path)
    except OSError:  # a link to itself
        return ""


def _sort_in(file: Found, kind: str | Overdue, walked: Walked) -> None:
    if isinstance(kind, Overdue):
        walked.failures.append(unanswered(file.name, kind))
    elif kind == "file":
        walked.found.append(file)
    elif kind == "folder":
        walked.skipped.append(Skipped(file.name, "a link to a folder, which is not followed"))
    else:
        walked.skipped.append(Skipped(file.name, "not a regular file, or a broken link"))


def sniff_all(found: Sequence[Found], seconds: float) -> tuple[dict[str, list[Found]], list[Skipped], list[Failure]]:
    """(format → its files, files that are none, files that cannot be read or hang); ``seconds``: of each file."""
    claims: dict[str, list[Found]] = defaultdict(list)
    skipped: list[Skipped] = []
    failures: list[Failure] = []
    for file, name in zip(found, each_in_time(_sniff, found, seconds), strict=True):
        if isinstance(name, Overdue):
            failures.append(unanswered(file.name, name))
        elif isinstance(name, Failure):
            failures.append(name)
        elif name is not None:
            claims[name].append(file)
        else:
            skipped.append(Skipped(file.name, "not an image format that is read here"))
    return claims, skipped, failures


def _sniff(file: Found) -> str | Failure | None:
    """The format that claims a file, or why none does; None for a file that promises no image."""
    try:
        with open_regular(file.path) as stream:
            head = stream.read(_HEAD_BYTES)
            size = os.fstat(stream.fileno()).st_size
        claimed = sniff(file.path, head)
    except OSError as error:
        return _fault(file.name, error.strerror or type(error).__name__)
    return claimed or (_unrecognised(file.name, size) if stem_of(file.name) != file.name else None)


def _fault(name: str, fault: str) -> Failure:
    return Failure(name, "discover", UnreadableInput.__name__, f"{name}: {fault}", _ACCESS)


def unanswered(name: str, overdue: Overdue) -> Failure:
    """A file or folder that hangs."""
    message = f"{name}: no answer within {overdue.seconds:.0f} s"
    return Failure(name, "discover", UnreadableInput.__name__, message, "check the disk; --timeout waits longer")


def _unrecognised(name: str, size: int) -> Failure:
    fault = "the file is empty" if size == 0 else "the content is not what the suffix promises, or is damaged"
    remedy = "copy it again from its origin, or remove it"
    return Failure(name, "discover", UnreadableInput.__name__, f"{name}: {fault} ({size} bytes)", remedy)
