"""Faults of the machine at every stage of the command, the same command again, and what was wrong.

    python benchmarks/chaos.py --rounds 3      (5 stages, 15 kinds of fault: 225 faults)
    python benchmarks/chaos.py --rounds 1 --stage merge --stage export

See tests/factories/chaos.py for what is asked of every case.
"""

from __future__ import annotations

import argparse
import pickle
import random
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "factories"))
import chaos


def main() -> None:
    """Print a table of faults, and every complaint."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--stage", action="append", choices=chaos.STAGES)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="Begin no case after so long.")
    parser.add_argument("--ground", type=Path, help="Inputs and undisturbed results, kept here for later runs.")
    parser.add_argument("--at-once", type=int, default=2)
    options = parser.parse_args()
    moments = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        ground = _ground(options.ground or folder / "ground")
        print({stage: round(seconds, 1) for stage, seconds in ground.seconds.items()}, "s undisturbed", flush=True)
        shim = chaos.build_shim(folder)
        cases = [
            (stage, fault)
            for _ in range(options.rounds)
            for stage in options.stage or chaos.STAGES
            for fault in chaos.faults(moments, ground.seconds[stage], shim, ground.folder)
        ]
        end = time.monotonic() + options.seconds
        done: Counter[tuple[str, str]] = Counter()
        wrong: Counter[tuple[str, str]] = Counter()
        fired: Counter[bool] = Counter()

        def attempt(number: int) -> None:
            stage, fault = cases[number]
            if time.monotonic() > end:
                return
            found = chaos.complaints(ground, stage, fault, folder / f"case{number}" / "out")
            done[stage, fault.name] += 1
            wrong[stage, fault.name] += bool(found)
            if "LD_PRELOAD" in fault.environment:
                fired[(folder / f"case{number}" / "fired").exists()] += 1
            for complaint in found:
                print(f"{stage}, {fault.name}: {complaint}", flush=True)

        with ThreadPoolExecutor(options.at_once) as threads:
            list(threads.map(attempt, range(len(cases))))
    print(f"\n{done.total()} faults, {wrong.total()} ended otherwise than they should")
    print(f"of {fired.total()} calls to fail {fired[True]} were made\n")
    names = sorted({name for _, name in done})
    print(f"| fault | {' | '.join(chaos.STAGES)} |\n|---|{'---|' * len(chaos.STAGES)}")
    for name in names:
        cells = [f"{done[s, name] - wrong[s, name]}/{done[s, name]}" if done[s, name] else "" for s in chaos.STAGES]
        print(f"| {name} | {' | '.join(cells)} |")
    sys.exit(1 if wrong.total() else 0)


def _ground(folder: Path) -> chaos.Ground:
    kept = folder.with_suffix(".pickle")
    if kept.exists():
        found = pickle.loads(kept.read_bytes())  # written by this very script
        assert isinstance(found, chaos.Ground)
        return found
    ground = chaos.Ground(folder, images=4)
    kept.write_bytes(pickle.dumps(ground))
    return ground


if __name__ == "__main__":
    main()
