"""The demo's question: does a radiograph show the opacity that was drawn into it, and how few labels tell?"""

from __future__ import annotations

from pathlib import Path

from umedfeat.fewshot import ProbeSettings, probe_file
from umedfeat.fewshot.result import ProbeResult
from umedfeat.report.files import write_study
from umedfeat.report.study_page import write_report

__all__ = ["study_of"]

_FRACTIONS = (0.1, 0.25, 0.5, 1.0)


def study_of(features: Path, folder: Path) -> ProbeResult:
    """Few-shot evaluation of the labelled radiographs; writes the study's files into ``folder``."""
    result = probe_file(features, settings=ProbeSettings(fractions=_FRACTIONS), unmatched="skip")
    write_study(result, folder)
    write_report(result, folder, preview=features.parent / "preview")
    return result
