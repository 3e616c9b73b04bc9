"""The main job as a function: inputs → sources → engine → feature file. The command only parses, calls and prints."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence, Set
from dataclasses import replace
from pathlib import Path

from umedfeat.contract import EncoderFacts
from umedfeat.discovery import Discovery, discover
from umedfeat.disk.regular import kind_of
from umedfeat.encoders.choice import EncoderChoice
from umedfeat.engine.local.here import Here, default_workers
from umedfeat.engine.messages import Wishes
from umedfeat.engine.protocols import Place
from umedfeat.engine.seconds import StageSeconds
from umedfeat.errors import Interrupted, OutputError, SetupError, StoppedAtFailure, UmedfeatError
from umedfeat.extraction.asked import asked
from umedfeat.extraction.oddities import mixed_intents, unused_windows
from umedfeat.extraction.pictures import Pictures, pictures_in
from umedfeat.extraction.settings import RunSettings
from umedfeat.extraction.shards import Portion, portion_of
from umedfeat.extraction.sink import StoreSink
from umedfeat.extraction.summary import Summary, run_log, summary_of
from umedfeat.extraction.tokens import dim_of
from umedfeat.keys import load_key
from umedfeat.naming import Pseudonyms
from umedfeat.policy import Policy
from umedfeat.readers import settled
from umedfeat.store import FeatureStore, Header, shard_path
from umedfeat.store.resume import Resumption
from umedfeat.terminal.progress import Progress, own_progress
from umedfeat.terminal.words import counted

__all__ = ["RunSettings", "Summary", "extract"]

log = logging.getLogger("umedfeat")

_ONE_WISH_SECONDS = 1.0


def extract(
    inputs: Path | str | Sequence[Path | str],
    out: Path | str,
    *,
    encoder: EncoderChoice | str = "umedpt",
    policy: Policy | None = None,
    run: RunSettings | None = None,
    pseudonyms: Pseudonyms | None = None,
    progress: Progress | None = None,
    preview_dir: Path | None = None,
    geojson: bool = False,
    like: Header | Path | str | None = None,
) -> Summary:
    """Embed every image under ``inputs`` with a frozen encoder and write one feature file.

    Args:
        inputs: files, folders or CSV manifests, in any mixture of formats.
        out: the HDF5 file to write; an existing one with the same settings is resumed.
        encoder: a name or an EncoderChoice.
        policy: how pixels become RGB in [0, 1]; sizes that it leaves open are the encoder's own.
        run: processes, batches, shard, resume.
        pseudonyms: key for patient pseudonyms (default: the user's own key, made on first use).
        progress: receives what happens (default: a widget in a notebook, else nothing is shown).
        preview_dir: folder for pictures of what the encoder saw, with one ``index.html``.
        geojson: also write tissue and grid of every slide for QuPath there.
        like: a feature file whose encoder, policy and precision are taken, so that the features can stand beside it.

    Raises:
        SetupError: nothing was done (missing paths, colliding ids, weights, output; with ``like``: other settings asked
            for, or this machine's encoder makes other features).
        Interrupted: stopped by a signal; finished inputs are safe and the same call resumes.

    Example:
        >>> summary = umedfeat.extract("slides/", "feats.h5", encoder="efficientnet-lite0")  # doctest: +SKIP
    """
    paths, choice, policy, run, wanted = asked(inputs, encoder, policy, run, like)
    progress = progress or own_progress()
    if geojson and preview_dir is None:
        raise SetupError("geojson needs a folder for pictures", remedy="add --preview DIR (preview_dir)")
    out = writable(run.shard_out or Path(out))
    progress.note("looking for images")
    pseudonyms = pseudonyms or Pseudonyms(load_key(None, shared=run.several_machines))
    with contextlib.closing(_found_in(paths, policy, pseudonyms, run)) as found:
        portion = portion_of(found, run.shard)
        network = choice.weights.name if choice.weights else choice.name  # a weights file may decide which one it is
        progress.note(f"{len(portion.sources):,} inputs, {len(found.skipped):,} other files; loading {network}")
        with contextlib.closing(_place_of(run, choice, {source.format for source in found.sources})) as place:
            policy = settled(policy, place.encoder.image_size)
            header = _header(place.encoder, policy, run, pseudonyms, portion)
            _refuse_unlike(wanted, header)
            if preview_dir is not None and any(source.remote for source in portion.sources):
                raise SetupError("pictures need inputs on this machine", remedy="leave out --preview, or copy them")
            pictures = pictures_in(preview_dir, policy, geojson=geojson)
            target = shard_path(out, run.shard) if run.shard and not run.shard_out else out
            store = FeatureStore(target, header, dim=dim_of(place.encoder), overwrite=run.overwrite)
            return _stored(store, portion, place, policy, run, progress, pictures)


def _refuse_unlike(wanted: Header | None, header: Header) -> None:
    if wanted is not None:
        from umedfeat.prediction.apply import refuse_other  # brings classifiers, which other runs do not need

        refuse_other(wanted, header, "these images")


def _stored(
    store: FeatureStore,
    portion: Portion,
    place: Place,
    policy: Policy,
    run: RunSettings,
    progress: Progress,
    pictures: Pictures | None,
) -> Summary:
    """Embed into the feature file, then draw; a signal stops either."""
    with stop_on_signals() as stop:
        with store:
            sink = StoreSink(store, stop if run.on_error == "stop" else None, pictures)
            sink.note(portion.found.failures, portion.found.skipped)
            summary = _embed_into(sink, portion, place, policy, run, progress, stop)
        if pictures is not None:  # last: no picture delays or endangers a feature
            progress.note("drawing pictures")
            pictures.draw(run.workers or default_workers(), run.timeout, stop)
            _told_if_stopped(stop, summary.out)
        return summary


def _found_in(paths: Sequence[Path], policy: Policy, pseudonyms: Pseudonyms, run: RunSettings) -> Discovery:
    found = discover(paths, policy, pseudonyms, seconds=run.timeout, scratch=run.scratch)
    if not found.sources and not found.failures:
        names = ", ".join(map(str, paths))
        raise SetupError(f"{names}: no image found in {len(found.skipped)} files", remedy=_SUPPORTED)
    return found


def _place_of(run: RunSettings, choice: EncoderChoice, formats: Set[str]) -> Place:
    """This machine, or the cluster that a run names, with the encoder loaded.

    Raises:
        SetupError: no device can be used, or there is no cluster.
    """
    if run.cluster is None:
        return Here(choice, formats)
    from umedfeat.engine.ray.cluster import RayCluster
    from umedfeat.engine.ray.place import RayPlace

    return RayPlace(RayCluster(run.cluster.address), run.cluster, choice, formats)


def _header(
    encoder: EncoderFacts, policy: Policy, run: RunSettings, pseudonyms: Pseudonyms, portion: Portion
) -> Header:
    """What the output will say of itself."""
    shard = portion.shard.text if portion.shard else ""
    return Header(dict(encoder.settings), policy.to_dict(), run.dtype, pseudonyms.key_check, shard)


def _embed_into(
    sink: StoreSink,
    portion: Portion,
    place: Place,
    policy: Policy,
    run: RunSettings,
    progress: Progress,
    stop: threading.Event,
) -> Summary:
    """Embed what the store does not hold yet, pack, and say what was done."""
    store = sink.store
    found, mine = portion.found, portion.sources
    resumed = store.resume(mine, found.sources, prune=run.prune)
    _refuse_others(resumed, run, store.out)
    _tell(resumed, run)
    todo = resumed.todo
    encoder = place.encoder
    progress.note(place.prepare(policy, _wishes(run, policy, store)))
    seconds = StageSeconds()
    if todo:
        progress.begin(len(todo))
        seconds = place.embed(todo, sink, progress, stop)
        progress.close()
    if stop.is_set():
        if not sink.stopped_by_failure:
            log.warning("stopping: finished inputs are being made safe (Ctrl-C again to stop at once)")
        store.leave()
        raise _ended_early(sink, len(todo), store.out)
    if sink.count and len(mine) == len(todo):  # of inputs kept from an earlier run nothing is known here
        for line in filter(None, [*unused_windows(policy.intensity, sink.windows), mixed_intents(sink.intents)]):
            log.warning("%s", line)
    summary = summary_of(sink, encoder, resumed, mine, found, seconds, run)

    def packed(rows: int) -> None:
        progress.packed(rows)
        if stop.is_set():
            raise _ended_early(sink, len(todo), store.out)

    out = store.finish(run_log(summary, run, place.account()), packed)
    progress.close()
    return replace(summary, out=out)


def _refuse_others(resumed: Resumption, run: RunSettings, out: Path) -> None:
    """Where a run is to stand alone, nothing of other inputs is in its file."""
    if run.alone and resumed.gone and not run.prune:
        names = sorted(resumed.gone.values())
        some = ", ".join(names[:3]) + (" …" if len(names) > 3 else "")
        raise OutputError(
            f"{out}: holds {counted(len(names), 'item')} of other inputs: {some}",
            remedy="give --out a folder of its own (--prune would remove them from this file)",
        )


def _tell(resumed: Resumption, run: RunSettings) -> None:
    """Name what a resumed run finds otherwise than it left it."""
    for name in resumed.changed[:_NAMED]:
        log.warning("%s: changed since it was embedded; it is embedded again", name)
    if len(resumed.changed) > _NAMED:
        log.warning("… and %d more inputs that changed", len(resumed.changed) - _NAMED)
    if resumed.gone:
        names = sorted(resumed.gone.values())
        shown = ", ".join(names[:_NAMED]) + (" …" if len(names) > _NAMED else "")
        what = "removed" if run.prune else "kept; --prune removes them"
        log.warning("%d items whose inputs are not among those of this run (%s): %s", len(names), what, shown)


_NAMED = 20  # names that a warning spells out

_SUPPORTED = "read here: whole slides, DICOM, NIfTI, MGZ, PNG, JPEG, TIFF, BMP, WebP (--dry-run lists what is skipped)"


def writable(out: Path) -> Path:
    """The output path, after checking before hours of work that it can be written.

    Raises:
        SetupError: the folder does not exist or is read-only, or ``out`` is a folder, a pipe or a device.
    """
    if out.is_dir():
        raise SetupError(f"{out}: is a folder", remedy=f"name a file, e.g. --out {out / 'feats.h5'}")
    kind = kind_of(out)
    if kind not in {"", "file"}:  # it would be replaced, /dev/null for everybody
        raise SetupError(f"{out}: is a {kind}, not a file", remedy="choose another --out")
    folder = out.absolute().parent
    if not folder.is_dir():
        raise SetupError(
            f"{folder}: the folder for the output does not exist", remedy="create it, or choose another --out"
        )
    if not os.access(folder, os.W_OK):
        raise SetupError(
            f"{folder}: the folder is not writable", remedy="choose another --out, or change its permissions"
        )
    return out


@contextlib.contextmanager
def stop_on_signals() -> Iterator[threading.Event]:
    """An event that Ctrl-C and SIGTERM set; a second Ctrl-C ends at once.

    What a scheduler sends to a whole group arrives twice, once through the guardian: within a second it counts as one.
    """
    stop = threading.Event()
    first = 0.0
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def ask_to_stop(number: int, frame: object) -> None:
        nonlocal first
        if stop.is_set() and number == signal.SIGINT and time.monotonic() - first > _ONE_WISH_SECONDS:
            raise KeyboardInterrupt
        first = first or time.monotonic()
        stop.set()  # told later: what a handler writes may cut into what is being written

    before = {number: signal.signal(number, ask_to_stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _wishes(run: RunSettings, policy: Policy, store: FeatureStore) -> Wishes:
    shared = run.cluster is not None and run.cluster.results == "shared"
    return Wishes(
        workers=run.workers,
        batch_size=run.batch_size,
        timeout=run.timeout,
        dtype=run.dtype,
        max_unreadable=policy.limits.max_unreadable,
        spill_dir=store.out.absolute().parent,
        scratch_bytes=run.scratch_bytes,
        segments=store.place_for_others() if shared else None,
    )


def _told_if_stopped(stop: threading.Event, out: Path) -> None:
    if stop.is_set():
        raise Interrupted(f"interrupted: {out} is complete, some pictures are missing", remedy="umedfeat preview")


def _ended_early(sink: StoreSink, todo: int, out: Path) -> UmedfeatError:
    if sink.stopped_by_failure:
        message = f"stopped at the first failure: {sink.failures[0].message}"
        return StoppedAtFailure(
            message, remedy=f"{sink.count} of {todo} inputs are safe; run the same command again to resume"
        )
    message = f"interrupted: {sink.count} of {todo} inputs are safe beside {out.name}"
    return Interrupted(message, remedy="run the same command again to resume")
