"""Pictures of what the encoder will see, and one page to review them all.

::

    cards.py      one input → its card: facts, flags, pictures (dispatches on the plan, never on a format)
    facts.py      a plan in words
    overlay.py    slide: thumbnail, tissue outline, kept and rejected tiles, scale bar
    contact.py    sheets of tiles or slices exactly as the encoder gets them
    page.py       cards, failures and skipped files → index.html
    writer.py     Drawing: one source, in any process; PreviewWriter: a folder that fills up, source by source
    run.py        preview(): inputs → folder
"""

from __future__ import annotations

from umedfeat.report.preview.run import PreviewSummary, preview
from umedfeat.report.preview.writer import Drawing, PreviewWriter

__all__ = ["Drawing", "PreviewSummary", "PreviewWriter", "preview"]
