"""FeatureStore: what a run writes into. Resumes by fingerprint, never loses a finished item."""

from __future__ import annotations

import contextlib
import glob
import json
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from types import TracebackType
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from umedfeat._version import __version__
from umedfeat.contract import Dropped, Failure, Plan, Skipped, Source
from umedfeat.disk.lock import OutputLock
from umedfeat.errors import DiskError, OutputError
from umedfeat.naming import write_csv
from umedfeat.store.file_writer import written_whole
from umedfeat.store.item import Item
from umedfeat.store.one_key import one_key
from umedfeat.store.pack import Described, Today, newest, pack
from umedfeat.store.read import FeatureFile
from umedfeat.store.resume import Recorded, Resumption, recorded_in, sort_out
from umedfeat.store.schema import FAILURE_COLUMNS, Header
from umedfeat.store.segment import (
    SegmentPlace,
    SegmentWriter,
    claimed_place,
    foreign_files,
    leftovers,
    partial_folder,
    refuse_linked,
    remove_segments,
    segment_files,
)
from umedfeat.store.shard import Shard
from umedfeat.store.verify import check

__all__ = ["FeatureStore"]

log = logging.getLogger("umedfeat")


class FeatureStore:
    """The output of one run.

    Finished items go into segments beside the output; ``finish`` packs them. A killed run leaves whole segments, and
    the next one with the same settings takes them up.

    An output grows: items and failures whose inputs are no longer given stay (``prune`` removes them, ``overwrite``
    starts anew), a failure goes when its input is embedded, and an item that is added again replaces what it was. An
    item whose files changed is worth nothing: it goes even if they cannot be embedded again.

    Args:
        out: the feature file.
        header: settings of the features.
        dim: D.
        overwrite: remove what an earlier run left.

    Raises (on enter):
        OutputError: locked, unwritable, or it holds features of other settings or pseudonyms of another key.
    """

    def __init__(self, out: Path, header: Header, *, dim: int, overwrite: bool = False) -> None:
        self.out = out
        self._header = header
        self._dim = dim
        self._overwrite = overwrite
        self._failures: list[Failure] = []
        self._skipped: list[Skipped] = []
        self._described: dict[str, Described] = {}
        self._recorded: dict[str, Recorded] = {}
        self._stale: set[str] = set()
        self._added: set[str] = set()
        self._elsewhere_added: set[str] = set()
        self._fresh = False
        self._lock = OutputLock(self.out)
        self.writer = SegmentWriter(partial_folder(self.out), header, dim)
        self.done: frozenset[str] = frozenset()

    def __enter__(self) -> FeatureStore:
        with contextlib.suppress(OSError):  # the lock tells what is wrong with the folder
            self.out.parent.mkdir(exist_ok=True)
        refuse_linked(self.out)
        self._lock.__enter__()
        try:
            if self._overwrite:
                self._clear()
            self._remove_leftovers()
            self._recorded = self._find_recorded()
            self.done = frozenset(self._recorded)
        except BaseException:
            self._lock.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is not None:
                with contextlib.suppress(OutputError):  # the first error is the one to tell
                    self.flush()
        finally:
            self.writer.close()
            self._lock.__exit__(kind, error, trace)

    @property
    def dim(self) -> int:
        """D."""
        return self._dim

    def add(self, item: Item) -> None:
        """Take a finished item; safe on disk after at most 60 s or 64 MiB."""
        self.writer.add(item)
        self._added.add(item.source.id)

    def add_given(
        self, source: Source, plan: Plan, given: npt.NDArray[np.float32], dropped: tuple[Dropped, ...]
    ) -> None:
        """The same of what an encoder gave of each region: its features, and its tokens behind them where the header
        tells of some."""
        self.add(self.writer.item_of(source, plan, given, dropped))

    def place_for_others(self) -> SegmentPlace:
        """Where other processes may write segments of this output, until ``finish`` or ``leave``."""
        return claimed_place(self.out, self._header, self._dim)

    def added_by_others(self, source: Source) -> None:
        """An item that others have made safe in a segment there."""
        self._added.add(source.id)
        self._elsewhere_added.add(source.id)

    def fail(self, failure: Failure) -> None:
        """Record an input that failed; the next run tries it again."""
        self._failures.append(failure)

    def skip(self, skipped: Skipped) -> None:
        """Record a file that is not an input."""
        self._skipped.append(skipped)

    def describe(self, source: Source) -> None:
        """Tell what is known today of an input that is done (a corrected label).

        Its patient, study and manifest columns are brought up to date without embedding it again; columns that the
        source does not have stay.
        """
        if source.id in self.done:
            columns = {name: getattr(source, name) for name in ("patient", "study", "series", "accession")}
            self._described[source.id] = Described(columns, source.kept_meta)

    def resume(self, sources: Sequence[Source], present: Sequence[Source], *, prune: bool = False) -> Resumption:
        """What of this run's sources is left to embed; what is done is described as it is today.

        Args:
            sources: of this run (of its shard).
            present: all that were found, other shards' too.
            prune: leave out items that are gone, and what earlier runs failed at or skipped.
        """
        found = sort_out(sources, present, self._recorded)
        left = {source.id for source in found.todo}
        for source in sources:
            if source.id not in left:
                self.describe(source)
        for name, (digest, stat) in found.touched.items():
            self._described[name].columns.update(files_sha256=digest, files_stat=stat)
        self._stale = (left | self._elsewhere(sources, present)) & self._recorded.keys()
        if prune:
            self._stale |= found.gone.keys()
            self._fresh = True
        return found

    def resume_from(self, file: FeatureFile) -> frozenset[str]:
        """Ids of what another feature file's items were made into already: those of the same content.

        What the output holds of other items, or of other content, is worth nothing any more, and what it tells of
        failures and skipped files neither.
        """
        there = dict(recorded_in(file))
        same = {name for name, told in self._recorded.items() if name in there and told.is_of(there[name])}
        self._stale = self._recorded.keys() - same
        self._fresh = True
        return frozenset(same)

    @staticmethod
    def _elsewhere(sources: Sequence[Source], present: Sequence[Source]) -> set[str]:
        """What is another shard's by now: it is embedded there, and would stand in two files that are merged."""
        return {source.id for source in present} - {source.id for source in sources}

    def flush(self) -> None:
        """Make everything that was added safe on disk."""
        self.writer.flush()

    def leave(self) -> None:
        """End before all is done: what was added is safe, what failed so far stands in ``<out>.failures.csv``."""
        self.flush()
        if self._failures:
            self._write_failures([[getattr(fail, name) for name in FAILURE_COLUMNS] for fail in self._failures])

    def finish(self, run: Mapping[str, Any], on_rows: Callable[[int], None] | None = None) -> Path:
        """Pack the segments into the output, write ``<out>.run.json`` and ``<out>.failures.csv``; returns the path.

        Args:
            run: what goes into ``<out>.run.json``.
            on_rows: told the number of rows after every block; what it raises ends the packing, and nothing is lost.
        """
        self.flush()
        self._lock.check()
        paths = [*([self.out] if self.out.is_file() else []), *segment_files(self.out)]
        left_out = self._stale - self._added
        today = Today(self._failures, self._skipped, self._described, left_out, self._fresh)
        pack(paths, self.out, self._header, self._dim, choose=newest, today=today, on_rows=on_rows, own=True)
        self._write_sidecar(run)
        with FeatureFile(self.out) as file:
            self._refuse_missing(file)
            table = file.failures
        self._write_failures([[table[name][k] for name in FAILURE_COLUMNS] for k in range(len(table["source"]))])
        remove_segments(self.out)
        return self.out

    def _refuse_missing(self, file: FeatureFile) -> None:
        """Network disks may show another machine's segments late; those are not removed unseen."""
        missing = self._elsewhere_added.difference(file.ids)
        if missing:
            message = (
                f"{self.out.name}: {len(missing)} inputs that other nodes have written are not to be seen here yet"
            )
            raise OutputError(message, remedy="run the same command again in a minute: nothing is lost")

    # ---- resuming ---------------------------------------------------------------------------------------------------

    def _find_recorded(self) -> dict[str, Recorded]:
        """What the output and its whole segments tell of their items; the later one counts."""
        done: dict[str, Recorded] = {}
        if self.out.is_file():
            with self._opened() as file:
                self._refuse_other_settings(file)
                self._refuse_other_part(file)
                done.update(recorded_in(file))
        for path in segment_files(self.out):
            if _is_damaged(path):
                _set_aside(path)
                continue
            with FeatureFile(path) as file:
                self._refuse_other_settings(file)
                done.update(recorded_in(file))
        return done

    def _opened(self) -> FeatureFile:
        try:
            return FeatureFile(self.out)
        except OutputError as error:
            remedy = "choose another --out, or start anew with --overwrite"
            raise OutputError(error.message, remedy=remedy) from error

    def _refuse_other_settings(self, file: FeatureFile) -> None:
        if file.fingerprint == self._header.fingerprint:
            one_key([(file.path.name, file.key_check), ("the present run", self._header.key_check)])
            return
        differences = file.header.differences(self._header)
        shown = "; ".join(differences[:5]) + (f"; and {len(differences) - 5} more" if len(differences) > 5 else "")
        raise OutputError(
            f"{self.out.name}: holds features of other settings: {shown or 'another version of the schema'}",
            remedy="repeat the earlier settings to resume, choose another --out, or start anew with --overwrite",
        )

    def _refuse_other_part(self, file: FeatureFile) -> None:
        """A shard replaces nothing but itself: the rest of what the file holds would be left out as other shards'."""
        mine = Shard.read(self._header.shard)
        theirs = Shard.read(file.shard) or Shard.named(self.out)
        if mine is None or (theirs is not None and theirs[:2] == mine[:2]):
            return
        holds = "a whole run" if theirs is None else f"shard {theirs.number}/{theirs.total}"
        raise OutputError(
            f"{self.out.name}: holds {holds}, and this is shard {mine.number}/{mine.total}",
            remedy="choose another --shard-out, or start anew with --overwrite",
        )

    def _clear(self) -> None:
        if self.out.exists():
            _refuse_foreign(self.out)
        for path in (self.out, self._sidecar, self._failures_csv):
            path.unlink(missing_ok=True)
        remove_segments(self.out)

    def _remove_leftovers(self) -> None:
        """Temporary files of killed runs; nothing that only looks like one."""
        sidecars = "|".join(re.escape(path.name) for path in (self.out, self._sidecar, self._failures_csv))
        ours = re.compile(rf"\.({sidecars})(\.\d+)?\.tmp")
        beside = self.out.parent.glob(f".{glob.escape(self.out.name)}.*tmp")
        for path in [*(path for path in beside if ours.fullmatch(path.name)), *leftovers(self.out)]:
            path.unlink(missing_ok=True)
        for path in foreign_files(self.out):
            log.warning("%s: not of this output, left alone", path.name)

    # ---- sidecars ---------------------------------------------------------------------------------------------------

    @property
    def _sidecar(self) -> Path:
        return self.out.with_name(self.out.name + ".run.json")

    @property
    def _failures_csv(self) -> Path:
        return self.out.with_name(self.out.name + ".failures.csv")

    def _write_sidecar(self, run: Mapping[str, Any]) -> None:
        created = datetime.now(timezone.utc).isoformat(timespec="seconds")
        log_of_run = {"created": created, "umedfeat": __version__, "fingerprint": self._header.fingerprint, **run}
        _write_text(self._sidecar, json.dumps(log_of_run, indent=2) + "\n")

    def _write_failures(self, rows: Sequence[Sequence[Any]]) -> None:
        if rows:
            _write_csv(self._failures_csv, list(FAILURE_COLUMNS), rows)
        else:
            self._failures_csv.unlink(missing_ok=True)


def _is_damaged(path: Path) -> bool:
    """Whether a segment is not what was written: its items would be embedded again rather than trusted.

    Raises:
        DiskError: the disk fails while it is read, which says nothing about the segment.
    """
    try:
        return bool(check(path).faults)
    except DiskError:
        raise
    except OutputError:
        return True


def _set_aside(path: Path) -> None:
    path.rename(path.with_suffix(".damaged"))
    log.warning("%s: a damaged segment was set aside; its inputs are embedded again", path.name)


def _refuse_foreign(path: Path) -> None:
    """--overwrite replaces feature files (damaged ones too), never something else that happens to have the name."""
    with path.open("rb") as stream:
        foreign = stream.read(8) != b"\x89HDF\r\n\x1a\n" and path.stat().st_size > 0
    if not foreign:
        with contextlib.suppress(OSError, RuntimeError), h5py.File(path, "r") as file:
            foreign = "fingerprint" not in file.attrs
    if foreign:
        message = f"{path}: was not written by umedfeat and is not overwritten"
        raise OutputError(message, remedy="choose another --out, or remove it yourself")


def _write_text(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.tmp")
    with written_whole(temporary, path):
        temporary.write_text(text, encoding="utf-8")


def _write_csv(path: Path, header: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    temporary = path.with_name(f".{path.name}.tmp")
    with written_whole(temporary, path), temporary.open("w", newline="", encoding="utf-8") as stream:
        write_csv(stream, [header, *rows])
