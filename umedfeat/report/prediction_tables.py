"""Predictions for the terminal: the least certain first."""

from __future__ import annotations

import numpy as np

from umedfeat.prediction.apply import Predicted
from umedfeat.prediction.external import Validation
from umedfeat.prediction.novelty import FALSE_ALARMS
from umedfeat.report.validation_section import section_of
from umedfeat.terminal.tables import render_table

__all__ = ["render_predictions", "render_validation"]

_MOST_ROWS = 20


def render_predictions(found: Predicted) -> str:
    """A table of at most twenty items and a line about all of them."""
    order = found.order
    columns = [f"P({name})" for name in found.probe.classes]
    rows = [
        [
            str(found.table.ids[item]),
            found.said(int(item)),
            *(f"{value:.3f}" for value in found.values[item] if columns),
            "yes" if found.flagged[item] else "",
        ]
        for item in order[:_MOST_ROWS]
    ]
    text = render_table(["item", "predicted", *columns, "unlike training"], rows)
    more = f"\n… and {len(order) - _MOST_ROWS:,} more certain ones" if len(order) > _MOST_ROWS else ""
    return f"{text}{more}\n\n{_flag_line(found)}"


def render_validation(validation: Validation) -> str:
    """Headline, calibration, every metric beside that of the study, and what a reader must know."""
    section = section_of(validation)
    table = render_table(["metric", "here", "in the study"], [*section.rows, *section.operating])
    notes = [f"Note: {warning}" for warning in section.warnings]
    return "\n\n".join([section.headline, "\n".join([*section.calibrated, *notes]), table])


def _flag_line(found: Predicted) -> str:
    novelty = found.probe.novelty
    if novelty is None or not novelty.can_flag():
        return "Too few training patients to tell what is unlike them."
    usual = int(np.isfinite(found.usual).sum())
    return (
        f"{int(found.flagged.sum())} of {usual} items are unlike the training data "
        f"({FALSE_ALARMS:.0%} of ordinary ones are flagged too)"
    )
