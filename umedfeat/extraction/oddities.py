"""What is odd about a run as a whole: window options that changed nothing, raw and presented images in one file."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from umedfeat.policy import IntensityPolicy

__all__ = ["mixed_intents", "unused_windows", "window_setting"]

#: Setting of IntensityPolicy → its option, and what it is for.
_OPTIONS = {
    "ct_window": ("--window", "CT in Hounsfield units"),
    "window": ("--grey-window", "grey images that are no CT in Hounsfield units"),
    "suv": ("--suv", "PET in SUV"),
    "rgb": ("--rgb", "CT in Hounsfield units"),
}


def window_setting(detail: Mapping[str, Any]) -> str:
    """The setting that decided an input's window (``Plan.detail``), or ""."""
    intensity = detail.get("intensity")
    return str(intensity.get("setting", "")) if isinstance(intensity, Mapping) else ""


def unused_windows(policy: IntensityPolicy, used: Collection[str]) -> list[str]:
    """A line for every window that was asked for and decided no input's values.

    Args:
        policy: of the run.
        used: settings that decided the window of any input, see ``window_setting``.
    """
    usual = IntensityPolicy()
    asked = [name for name in _OPTIONS if getattr(policy, name) != getattr(usual, name) and name not in used]
    asked = [name for name in asked if (name, policy.rgb) != ("rgb", "neighbours")]  # of any grey image
    return [
        f"{_OPTIONS[name][0]} {getattr(policy, name)} changed nothing: no input is {_OPTIONS[name][1]}"
        for name in asked
    ]


def mixed_intents(intents: Mapping[str, int]) -> str:
    """A line where raw and presented radiographs stand in one file: a classifier could tell them by their looks.

    Args:
        intents: ``Plan.detail["presentation_intent"]`` → how many inputs.
    """
    told = " and ".join(f"{count} {name}" for name, count in sorted(intents.items()) if name)
    return f"the inputs mix {told}: one kind alone makes a fair study" if " and " in told else ""
