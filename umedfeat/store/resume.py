"""Resuming believes content, not names: what is done, what changed since, and whose files are gone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from umedfeat.contract import Source
from umedfeat.naming import content_sha256, files_stat
from umedfeat.store.read import FeatureFile

__all__ = ["Recorded", "Resumption", "recorded_in", "sort_out"]

#: Hashing waits for the disk more than for a core.
_THREADS = 8


class Recorded(NamedTuple):
    """What a file tells of the input of an item (see ``umedfeat.naming.Identity``)."""

    source: str
    content_sha256: str
    files_sha256: str
    files_stat: str

    def is_of(self, other: Recorded) -> bool:
        """Does it tell of the same input with the same content?"""
        content = (self.source, self.content_sha256, self.files_sha256)
        return bool(self.content_sha256) and content == (other.source, other.content_sha256, other.files_sha256)


@dataclass(frozen=True)
class Resumption:
    """What is left to do.

    Attributes:
        todo: sources to embed: new ones and changed ones, in order.
        changed: names of those whose files hold other bytes than when they were embedded.
        gone: id → name of items whose input is no longer among the inputs.
        touched: id → (files_sha256, files_stat) of items whose files were moved or touched, with the same bytes.
    """

    todo: tuple[Source, ...]
    changed: tuple[str, ...]
    gone: Mapping[str, str]
    touched: Mapping[str, tuple[str, str]]


def recorded_in(file: FeatureFile) -> Iterator[tuple[str, Recorded]]:
    """(id, what is told) of every item."""
    columns = (file.items[name] for name in ("source", "content_sha256", "files_sha256", "files_stat"))
    for name, *told in zip(file.ids, *columns, strict=True):
        yield name, Recorded(*told)


def sort_out(sources: Sequence[Source], present: Iterable[Source], recorded: Mapping[str, Recorded]) -> Resumption:
    """Compare inputs with what is recorded of them: size and time of every file, and where these differ the content.

    Args:
        sources: of this run (of its shard).
        present: all that were found, other shards' too.
        recorded: id → what the output tells.
    """
    new = [source for source in sources if source.id not in recorded]
    known = [source for source in sources if source.id in recorded]
    stats = {source.id: files_stat(source.content, source.cut) for source in known}
    doubtful = [s for s in known if not stats[s.id] or stats[s.id] != recorded[s.id].files_stat]
    hashes = _hashes(doubtful)
    changed = [s for s in doubtful if not _same_content(recorded[s.id], hashes[s.id])]
    ids = {source.id for source in (*new, *changed)}
    touched = {s.id: (hashes[s.id], stats[s.id]) for s in doubtful if s.id not in ids}
    found = list(present)
    there, names = {source.id for source in found}, {source.name for source in found}
    return Resumption(
        todo=tuple(source for source in sources if source.id in ids),
        changed=tuple(source.name for source in changed),
        gone={name: told.source for name, told in recorded.items() if name not in there and told.source not in names},
        touched=touched,
    )


def _hashes(sources: Sequence[Source]) -> dict[str, str]:
    """id → content of the files; "" where one cannot be read (reading it again will tell why)."""
    wanted = {(source.content, source.cut) for source in sources}
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="content") as threads:
        hashes = dict(zip(wanted, threads.map(_hash, wanted), strict=True))
    return {source.id: hashes[source.content, source.cut] for source in sources}


def _hash(content: tuple[tuple[Path, ...], str]) -> str:
    try:
        return content_sha256(*content)
    except OSError:
        return ""


def _same_content(told: Recorded, found: str) -> bool:
    """Files of schema 1 tell the content of the item only: that of one volume of several counts as changed, once."""
    return bool(found) and found == (told.files_sha256 or told.content_sha256)
