"""Compiled OpenVINO graphs: from the cache where an earlier run left them, else built, compiled and left there.

A compiled graph depends on the weights, the size of its input, the version of OpenVINO and the instructions of the
processor; its name in the cache is a hash of these. It is executed, so it is believed only where nobody else could have
written it, and only as it was written: its own sha256 stands in front.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import logging
import os
from functools import cache
from pathlib import Path
from typing import Any

from umedfeat.disk.plain import open_plain
from umedfeat.encoders.cache import cache_folder, is_open_to_all
from umedfeat.encoders.runtimes.openvino_networks import Network
from umedfeat.machine import processor

__all__ = ["compiled_graph"]

log = logging.getLogger("umedfeat")

#: Changes when the graphs that are built change.
_GENERATION = 1
_FOLDER = "openvino"
#: Bytes of graphs that stay in the cache, the ones used last. A graph is about as large as its weights (UMedPT 120 MB,
#: EfficientNet-Lite0 16 MB): four sizes of UMedPT, and a small part of a home folder that has a quota.
_KEPT_BYTES = 512 << 20
_DIGEST_BYTES = 32


def compiled_graph(network: Network, height: int, width: int, threads: int, precision: str) -> Any:
    """The compiled graph of a network for one size: one stream of one thread per core.

    Args:
        threads: streams.
        precision: "fp32" or "bf16".
    """
    core, options = _core(), _options(threads, precision)
    place = _place(network, height, width, precision)
    content = None if place is None else _read(place)
    if content is not None:
        with contextlib.suppress(RuntimeError):  # of another build of OpenVINO: compiled anew
            return core.import_model(content, "CPU", options)
    compiled = core.compile_model(network.graph(height, width, precision), "CPU", options)
    if place is not None:
        _write(place, _exported(compiled))
    return compiled


@cache
def _core() -> Any:
    """OpenVINO's entry, one for the life of the process.

    With AVX-512 its CPU plugin gives the thread that loads it a stack for signal handlers, and unmaps that stack when
    the last graph and the last entry go. Where another thread drops them, the first one is left with an address of
    nothing, and its next signal (a child that ends, Ctrl-C) kills the process. What stays loaded unmaps nothing.
    """
    import openvino

    return openvino.Core()


def _exported(compiled: Any) -> bytes:
    stream = io.BytesIO()
    compiled.export_model(stream)  # without a stream, what is returned differs between versions
    return stream.getvalue()


def _options(threads: int, precision: str) -> dict[str, Any]:
    import openvino
    from openvino import properties

    return {
        properties.hint.inference_precision(): openvino.Type.bf16 if precision == "bf16" else openvino.Type.f32,
        properties.num_streams(): threads,
        properties.inference_num_threads(): threads,
    }


def _place(network: Network, height: int, width: int, precision: str) -> Path | None:
    """Where the compiled graph of these weights lies, or None without a folder that only its owner can write to."""
    import openvino

    facts = {
        "generation": _GENERATION,
        **network.identity,
        "size": [height, width],
        "precision": precision,
        "openvino": openvino.__version__,
        "processor": [processor()[0], *sorted(processor()[1])],
    }
    folder = cache_folder() / _FOLDER
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if folder.is_symlink() or is_open_to_all(folder) or is_open_to_all(folder.parent):
            log.warning("%s: anybody can write there: compiled graphs are not kept (chmod o-w)", folder)
            return None
    except OSError:
        return None
    return folder / f"{hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:32]}.graph"


def _read(place: Path) -> bytes | None:
    """A graph as it was written, by this user or the system's; else None."""
    try:
        with os.fdopen(open_plain(place), "rb") as stream:
            if os.fstat(stream.fileno()).st_uid not in (os.geteuid(), 0):
                return None
            digest, content = stream.read(_DIGEST_BYTES), stream.read()
    except OSError:
        return None
    if hashlib.sha256(content).digest() != digest:
        log.warning("%s: damaged; the graph is compiled anew", place.name)
        return None
    with contextlib.suppress(OSError):
        os.utime(place)  # the ones used last stay
    return content


def _write(place: Path, content: bytes) -> None:
    """Whole or not at all; a cache that cannot be written costs the next run its time, and this one nothing."""
    aside = place.with_name(f".{place.name}.{os.getpid()}")
    try:
        with os.fdopen(open_plain(aside, os.O_CREAT | os.O_EXCL | os.O_WRONLY), "wb") as stream:
            stream.write(hashlib.sha256(content).digest())
            stream.write(content)
        aside.replace(place)
        _tidy(place.parent)
    except OSError as error:
        log.debug("the compiled graph is not kept (%s)", error.strerror)
    finally:
        with contextlib.suppress(OSError):
            aside.unlink(missing_ok=True)


def _tidy(folder: Path) -> None:
    """Keep the graphs that were used last; the newest in any case, or every run of a large encoder would compile it."""
    graphs = sorted(((path.stat(), path) for path in folder.glob("*.graph")), key=lambda pair: -pair[0].st_mtime)
    total = 0
    for number, (facts, path) in enumerate(graphs):
        total += facts.st_size
        if number and total > _KEPT_BYTES:
            path.unlink(missing_ok=True)
