"""A run of the store in a process of its own, for tests that kill it: ``crash_writer.py OUT [PAUSE]``."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from store_cases import header, item

from umedfeat.contract import Failure
from umedfeat.store import FeatureStore, Item

DIM = 64
COUNT = 60


def items() -> list[Item]:
    """What every run embeds."""
    return [item(f"s{k:03d}", (k * 37) % 400, label="ab"[k % 2], dim=DIM) for k in range(COUNT)]


def main(out: Path, pause: float) -> None:
    """Embed what is not done, a segment every four items, and pack."""
    with FeatureStore(out, header(), dim=DIM) as store:
        print("ready", flush=True)  # noqa: T201
        for number, each in enumerate(i for i in items() if i.source.id not in store.done):
            time.sleep(pause)
            store.add(each)
            if number % 4 == 3:
                store.flush()
        store.fail(Failure("bad.svs", "read", "UnreadableInput", "bad.svs: truncated"))
        store.finish({})


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]) if len(sys.argv) > 2 else 0.0)
