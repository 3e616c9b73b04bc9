"""umedfeat: frozen features from biomedical images, and how little labelled data they need.

The public names; everything is imported on first use, so that ``import umedfeat`` is instant.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

from umedfeat._version import __version__

if TYPE_CHECKING:
    from umedfeat.encoders import list_encoders, load_encoder
    from umedfeat.extraction.estimator import UmedfeatExtractor
    from umedfeat.extraction.predicting import predict
    from umedfeat.extraction.run import extract
    from umedfeat.extraction.similar import similar
    from umedfeat.fewshot import compare, probe
    from umedfeat.policy import Policy
    from umedfeat.prediction.saved import SavedProbe
    from umedfeat.pretraining.run import pretrain
    from umedfeat.report.overview_page import overview
    from umedfeat.store import FeatureFile

#: Feature files of others are untrusted: HDF5 loads no filter plugin for them. It reads this when it is first imported.
os.environ.setdefault("HDF5_PLUGIN_PRELOAD", "::")

__all__ = [
    "FeatureFile",
    "Policy",
    "SavedProbe",
    "UmedfeatExtractor",
    "__version__",
    "compare",
    "extract",
    "list_encoders",
    "load_encoder",
    "overview",
    "predict",
    "pretrain",
    "probe",
    "similar",
]

_HOME = {
    "FeatureFile": "umedfeat.store",
    "Policy": "umedfeat.policy",
    "SavedProbe": "umedfeat.prediction.saved",
    "UmedfeatExtractor": "umedfeat.extraction.estimator",
    "compare": "umedfeat.fewshot",
    "extract": "umedfeat.extraction.run",
    "list_encoders": "umedfeat.encoders",
    "load_encoder": "umedfeat.encoders",
    "overview": "umedfeat.report.overview_page",
    "pretrain": "umedfeat.pretraining.run",
    "predict": "umedfeat.extraction.predicting",
    "probe": "umedfeat.fewshot",
    "similar": "umedfeat.extraction.similar",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'umedfeat' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
