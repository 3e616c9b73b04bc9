"""umedfeat: frozen features from biomedical images, and how little labelled data they need.

The public names; everything is imported on first use, so that ``import umedfeat`` is instant.
"""

from __future__ import annotations

import os
import warnings
from importlib import import_module
from typing import TYPE_CHECKING, Any

from umedfeat._version import __version__

if TYPE_CHECKING:
    from umedfeat.demo import run_demo
    from umedfeat.doctor.checkup import examine
    from umedfeat.doctor.finding import Wish
    from umedfeat.encoders import EncoderChoice, list_encoders, load_encoder
    from umedfeat.encoders.slides import SlideEncoder, list_slide_encoders, load_slide_encoder
    from umedfeat.encoders.weights.official import convert_weights, fetch_weights, verify_weights
    from umedfeat.extraction.aggregation import aggregate
    from umedfeat.extraction.estimator import UmedfeatExtractor
    from umedfeat.extraction.evidence import Showing
    from umedfeat.extraction.predicting import predict
    from umedfeat.extraction.run import extract
    from umedfeat.extraction.settings import RunSettings
    from umedfeat.extraction.similar import similar
    from umedfeat.fewshot import ProbeSettings, compare, probe
    from umedfeat.fewshot.cohort.sources import Labelling
    from umedfeat.keys import check_key, new_key
    from umedfeat.naming import Pseudonyms
    from umedfeat.policy import Policy
    from umedfeat.prediction.fit import Saving
    from umedfeat.prediction.saved import SavedProbe
    from umedfeat.pretraining.run import pretrain
    from umedfeat.pretraining.settings import TrainSettings
    from umedfeat.report.overview_page import overview
    from umedfeat.report.preview import preview
    from umedfeat.store import FeatureFile, verify
    from umedfeat.store.info import describe
    from umedfeat.workflows.exports import export
    from umedfeat.workflows.forecasting import forecast
    from umedfeat.workflows.merging import merge
    from umedfeat.workflows.neighbours import similar_and_report
    from umedfeat.workflows.predictions import Truth, predict_and_report
    from umedfeat.workflows.studies import compare_and_report, compare_models_and_report, plan_probe, probe_and_report
    from umedfeat.workflows.training import forecast_training, pretrain_and_report

#: Feature files of others are untrusted: HDF5 loads no filter plugin for them. It reads this when it is first imported.
os.environ.setdefault("HDF5_PLUGIN_PRELOAD", "::")

__all__ = [
    "EncoderChoice",
    "FeatureFile",
    "Labelling",
    "Policy",
    "ProbeSettings",
    "Pseudonyms",
    "RunSettings",
    "SavedProbe",
    "Saving",
    "Showing",
    "SlideEncoder",
    "TrainSettings",
    "Truth",
    "UmedfeatExtractor",
    "Wish",
    "__version__",
    "aggregate",
    "check_key",
    "compare",
    "compare_and_report",
    "compare_models_and_report",
    "convert_weights",
    "describe",
    "examine",
    "export",
    "extract",
    "fetch_weights",
    "forecast",
    "forecast_training",
    "list_encoders",
    "list_slide_encoders",
    "load_encoder",
    "load_slide_encoder",
    "merge",
    "new_key",
    "overview",
    "plan_probe",
    "predict",
    "predict_and_report",
    "pretrain",
    "pretrain_and_report",
    "preview",
    "probe",
    "probe_and_report",
    "run_demo",
    "similar",
    "similar_and_report",
    "verify",
    "verify_weights",
]

_HOME = {
    "EncoderChoice": "umedfeat.encoders",
    "FeatureFile": "umedfeat.store",
    "Labelling": "umedfeat.fewshot.cohort.sources",
    "Policy": "umedfeat.policy",
    "ProbeSettings": "umedfeat.fewshot",
    "Pseudonyms": "umedfeat.naming",
    "RunSettings": "umedfeat.extraction.settings",
    "SavedProbe": "umedfeat.prediction.saved",
    "Saving": "umedfeat.prediction.fit",
    "Showing": "umedfeat.extraction.evidence",
    "SlideEncoder": "umedfeat.encoders.slides",
    "TrainSettings": "umedfeat.pretraining.settings",
    "Truth": "umedfeat.workflows.predictions",
    "UmedfeatExtractor": "umedfeat.extraction.estimator",
    "Wish": "umedfeat.doctor.finding",
    "aggregate": "umedfeat.extraction.aggregation",
    "check_key": "umedfeat.keys",
    "compare": "umedfeat.fewshot",
    "compare_and_report": "umedfeat.workflows.studies",
    "compare_models_and_report": "umedfeat.workflows.studies",
    "convert_weights": "umedfeat.encoders.weights.official",
    "describe": "umedfeat.store.info",
    "examine": "umedfeat.doctor.checkup",
    "export": "umedfeat.workflows.exports",
    "extract": "umedfeat.extraction.run",
    "fetch_weights": "umedfeat.encoders.weights.official",
    "forecast": "umedfeat.workflows.forecasting",
    "forecast_training": "umedfeat.workflows.training",
    "list_encoders": "umedfeat.encoders",
    "list_slide_encoders": "umedfeat.encoders.slides",
    "load_encoder": "umedfeat.encoders",
    "load_slide_encoder": "umedfeat.encoders.slides",
    "merge": "umedfeat.workflows.merging",
    "new_key": "umedfeat.keys",
    "overview": "umedfeat.report.overview_page",
    "plan_probe": "umedfeat.workflows.studies",
    "predict": "umedfeat.extraction.predicting",
    "predict_and_report": "umedfeat.workflows.predictions",
    "pretrain": "umedfeat.pretraining.run",
    "pretrain_and_report": "umedfeat.workflows.training",
    "preview": "umedfeat.report.preview",
    "probe": "umedfeat.fewshot",
    "probe_and_report": "umedfeat.workflows.studies",
    "run_demo": "umedfeat.demo",
    "similar": "umedfeat.extraction.similar",
    "similar_and_report": "umedfeat.workflows.neighbours",
    "verify": "umedfeat.store",
    "verify_weights": "umedfeat.encoders.weights.official",
}


#: Former name → the present one, for one minor release (docs/CONTRIBUTING.md, Deprecation).
_RENAMED: dict[str, str] = {}


def __getattr__(name: str) -> Any:
    if name in _RENAMED:
        message = f"umedfeat.{name} is called umedfeat.{_RENAMED[name]} now; the old one goes in the next minor version"
        warnings.warn(message, DeprecationWarning, stacklevel=2)
        return __getattr__(_RENAMED[name])
    if name not in _HOME:
        raise AttributeError(f"module 'umedfeat' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
