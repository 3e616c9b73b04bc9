"""Damage and tamper with feature files and use them: no crash, no hang, no memory blow-up, no unnamed error.

    python benchmarks/fuzz_store.py --mutations 1200 --seed 20261128

Half of the mutations are one of the ways to tamper of ``tests/factories/hostile_features.py`` (links, external storage,
claims beyond the file, other types and shapes, numbers of every kind) followed by none to two damaged bytes; half are
damaged bytes alone: flipped bits, overwritten fields, cut, repeated, removed or swapped blocks. A child process opens
each file as ``info``, ``verify``, ``merge``, ``export`` and ``probe`` do. The parent kills it after the time limit and
reads its peak memory. ``--only NUMBER`` repeats one.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "factories"))
import hostile_features

sys.path.insert(0, str(Path(__file__).resolve().parent))
from fuzz_child import Child, Outcome, judged

#: Outcomes that are findings; the others are used (every use gave a result) and refused (at least one, by name).
BAD = ("crash", "hang", "memory", "unnamed", "told")
_EXTREMES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


def damaged(raw: bytes, rng: np.random.Generator, damages: int) -> bytes:
    """Bytes with some damages."""
    whole = bytearray(raw)
    for _ in range(damages):
        place, length = int(rng.integers(0, len(whole))), int(rng.integers(1, 64))
        kind = int(rng.integers(0, 7))
        if kind < 3:
            whole[place] ^= 1 << int(rng.integers(0, 8))
        elif kind == 3:
            size = int(rng.choice([1, 2, 4, 8]))
            value = int(rng.choice(_EXTREMES)) & ((1 << 8 * size) - 1)
            whole[place : place + size] = value.to_bytes(size, "little")
        elif kind == 4:
            del whole[place : place + length]
        elif kind == 5:
            whole[place:place] = whole[place : place + length]
        else:
            whole[place : place + length] = rng.bytes(length)
    return bytes(whole if rng.random() > 0.05 else whole[: int(rng.integers(0, len(whole)))])


def mutation(folder: Path, number: int, seed: int) -> tuple[str, Path]:
    """What was done, and the file; depends on the number and the seed alone."""
    rng = np.random.default_rng([seed, number])
    names = sorted(hostile_features.CHANGES)
    if number % 2:
        path, name = folder / "hostile.h5", "bytes"
        path.write_bytes(damaged((folder / "sound.h5").read_bytes(), rng, int(rng.integers(1, 5))))
        return name, path
    name = names[number // 2 % len(names)]
    path = hostile_features.tampered(folder, name)
    path.write_bytes(damaged(path.read_bytes(), rng, int(rng.integers(0, 3)) if number // 2 >= len(names) else 0))
    return name, path


def used(path: Path, out: Path) -> Outcome:
    """Everything that the commands do with a file of others."""
    from umedfeat.errors import UmedfeatError
    from umedfeat.fewshot.cohort.table import read_table
    from umedfeat.store import FeatureFile, export, merge, verify
    from umedfeat.store.info import describe, listing, overview

    def info() -> None:
        with FeatureFile(path) as file:
            overview(describe(file))
            for part in ("items", "failures", "skipped", "dropped"):
                listing(file, part)

    def read() -> None:
        table = read_table(path)
        table.rows(np.arange(len(table.ids)))
        table.pooled(np.arange(len(table.ids)), "mean")

    refused = bool(verify(path).faults)
    uses = [info, read, lambda: merge([path], out / "merged.h5")]
    uses += [lambda layout=layout: export(path, out / layout, layout) for layout in ("anndata", "stamp")]  # type: ignore[misc]
    for use in uses:
        try:
            use()
        except UmedfeatError as error:
            refused = True
            if "SECRET" in str(error):
                return Outcome("told", str(error))
    return Outcome("refused" if refused else "used")


def serve(link: Connection, seed: int) -> None:
    """The child: one mutation after another."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        hostile_features.sound(folder)
        while (number := link.recv()) is not None:
            what, path = mutation(folder, number, seed)
            out = folder / "out"
            out.mkdir()
            link.send((what, judged(lambda path=path, out=out: used_and_silent(path, out))))
            shutil.rmtree(out)


def used_and_silent(path: Path, out: Path) -> Outcome:
    """As ``used``; what others must not know may not have been written."""
    outcome = used(path, out)
    if any(hostile_features.SECRET[:20] in file.read_bytes() for file in out.rglob("*") if file.is_file()):
        return Outcome("told", "bytes of another file were written")
    return outcome


def campaign(numbers: range, seed: int, *, limit_bytes: int, seconds: float) -> Iterator[tuple[int, str, Outcome]]:
    """(number, what was done, outcome) of mutations."""
    child = Child(serve, seed, limit_bytes=limit_bytes, seconds=seconds)
    try:
        for number in numbers:
            yield number, *child.run(number)
    finally:
        child.close()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mutations", type=int, default=1200)
    parser.add_argument("--seed", type=int, default=20261128)
    parser.add_argument("--seconds", type=float, default=10.0, help="a mutation that takes longer is a hang")
    parser.add_argument("--memory-mib", type=int, default=4096, help="address space of the child")
    parser.add_argument("--only", type=int, default=-1, help="repeat one mutation")
    options = parser.parse_args()
    numbers = range(options.mutations) if options.only < 0 else range(options.only, options.only + 1)
    kinds: dict[str, Counter[str]] = {"bytes": Counter(), "tampered": Counter()}
    slowest, peak = (0.0, ""), 0
    limits = {"limit_bytes": options.memory_mib << 20, "seconds": options.seconds}
    for number, what, outcome in campaign(numbers, options.seed, **limits):
        kinds["bytes" if number % 2 else "tampered"][outcome.kind] += 1
        slowest = max(slowest, (outcome.seconds, f"{number} ({what})"))
        peak = max(peak, outcome.peak_mib)
        if outcome.kind in BAD or options.only >= 0:
            print(f"{outcome.kind.upper()} {number} ({what}) {outcome.seconds:.1f} s\n{outcome.what}", flush=True)
    print(f"seed {options.seed}: " + "; ".join(f"{kind}: {dict(found)}" for kind, found in kinds.items()))
    print(f"slowest: {slowest[1]}, {slowest[0]:.2f} s; peak memory of the child: {peak} MiB")
    return 1 if any(found[kind] for found in kinds.values() for kind in BAD) else 0


if __name__ == "__main__":
    sys.exit(main())
