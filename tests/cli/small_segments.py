"""``umedfeat`` with segments of 40 kB, so that a run of seconds has many: ``small_segments.py extract --input …``.

For tests and benchmarks that kill it.
"""

from __future__ import annotations

from umedfeat.cli import main
from umedfeat.store import segment

if __name__ == "__main__":
    segment._SEGMENT_BYTES = 40_000
    segment._ITEM_BYTES = 0
    main()
