"""The layouts of ``export``, one module each."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from umedfeat.store.layouts.anndata import AnnData
from umedfeat.store.layouts.base import Layout, NotExportable
from umedfeat.store.layouts.clam import Clam
from umedfeat.store.layouts.dense import Dense
from umedfeat.store.layouts.parquet import Parquet
from umedfeat.store.layouts.stamp import Stamp
from umedfeat.store.layouts.tensors import Tensors
from umedfeat.store.layouts.trident import Trident
from umedfeat.store.read import FeatureFile

__all__ = ["LAYOUTS", "Layout", "NotExportable"]

#: Name → constructor (file, folder, nominal magnification).
LAYOUTS: dict[str, Callable[[FeatureFile, Path, bool], Layout]] = {
    "clam": Clam,
    "trident": Trident,
    "stamp": Stamp,
    "pt": Tensors,
    "parquet": Parquet,
    "anndata": AnnData,
    "tokens": Dense,
}
