"""Which values become black and white: the window of a modality, by the policy.

CT in Hounsfield units has its own windows, PET in SUV a range of its own. Of other modalities the percentiles of the
whole image or volume count. Where the bright tail is what matters (tracers, vessels, enhancement) a high percentile
takes the place of the 97.5th, which would clip a small lesion.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from umedfeat.errors import EmptyImage
from umedfeat.policy import CT_RGB, CT_WINDOWS, IntensityPolicy
from umedfeat.readers.stacks.intensity import Range
from umedfeat.readers.stacks.percentiles import Statistics
from umedfeat.readers.stacks.stack import StackFacts

__all__ = [
    "Percentiles",
    "WindowChoice",
    "choose_window",
    "parse_window",
    "percentile_range",
    "shows_windows",
    "windows_as_rgb",
]

_TRACERS = frozenset({"PT", "NM"})
_VESSELS = frozenset({"XA"})


class Percentiles(NamedTuple):
    """Of the whole image or volume, 0..100."""

    low: float
    high: float


class WindowChoice(NamedTuple):
    """A window, and the setting of IntensityPolicy that it comes from ("" where none had a say)."""

    window: Range | Percentiles | Literal["file"]
    setting: str


def choose_window(policy: IntensityPolicy, facts: StackFacts) -> WindowChoice:
    """The window of a grey stack.

    A CT that is not in Hounsfield units (``facts.calibrated`` is False) is shown like any other grey image.
    """
    if facts.modality == "CT" and (facts.calibrated or policy.ct_window == "file"):
        return WindowChoice(_window(policy.ct_window, policy), "ct_window")
    if policy.window != "auto":
        return WindowChoice(_window(policy.window, policy), "window")
    if facts.suv:
        low, high = bounds_of(policy.suv)
        return WindowChoice(Range(low, high, "SUV"), "suv")
    usual, tail = policy.percentiles, policy.bright_tail
    if facts.modality in _VESSELS:
        return WindowChoice(Percentiles(tail, 100 - tail), "")
    bright = facts.modality in _TRACERS or facts.bolus
    return WindowChoice(Percentiles(usual[0], 100 - tail) if bright else Percentiles(*usual), "")


def shows_windows(policy: IntensityPolicy, facts: StackFacts) -> bool:
    """Are three windows shown as red, green and blue? Of a CT in Hounsfield units, where the policy asks for it."""
    return policy.rgb == "windows" and facts.modality == "CT" and facts.calibrated and not facts.colour


def windows_as_rgb() -> list[Range]:
    """The windows of red, green and blue."""
    return [Range(*CT_WINDOWS[name], how=name) for name in CT_RGB]


def _window(text: str, policy: IntensityPolicy) -> Range | Percentiles | Literal["file"]:
    window = parse_window(text)
    return Percentiles(*policy.percentiles) if window == "percentile" else window


def parse_window(text: str) -> Range | Literal["percentile", "file"]:
    """A window as an IntensityPolicy holds it: a name of CT_WINDOWS, "LO,HI", "percentile" or "file"."""
    if text == "percentile":
        return "percentile"
    if text == "file":
        return "file"
    if text in CT_WINDOWS:
        return Range(*CT_WINDOWS[text], how=text)
    low, high = bounds_of(text)
    return Range(low, high, f"{low:g},{high:g}")


def bounds_of(text: str) -> tuple[float, float]:
    """ "LO,HI", as an IntensityPolicy has checked it."""
    low, high = (float(part) for part in text.split(","))
    return low, high


def percentile_range(statistics: Statistics, percentiles: tuple[float, float], name: str) -> Range:
    """The range between two percentiles; the full range where they coincide (an object of a few pixels on black).

    Raises:
        EmptyImage: nothing but padding, or constant.
    """
    if not statistics.counted:
        raise EmptyImage(f"{name}: nothing but padding or non-finite values", remedy="leave it out")
    if statistics.minimum == statistics.maximum:
        raise EmptyImage(f"{name}: constant, every value is {statistics.minimum:g}", remedy="leave it out")
    if statistics.low < statistics.high:
        return Range(statistics.low, statistics.high, "p{:g}-p{:g}".format(*percentiles))
    return Range(statistics.minimum, statistics.maximum, "min-max (p{:g} equals p{:g})".format(*percentiles))
