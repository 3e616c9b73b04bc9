"""Small cohorts with known answers, and feature files of them written by the real store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from umedfeat.contract import Plan, Source, make_regions
from umedfeat.store import FeatureStore, Header, Item

__all__ = ["Cases", "gaussian_cases", "write_features"]


@dataclass(frozen=True)
class Cases:
    """(I, D) features with (I,) class names and (I,) patients."""

    features: npt.NDArray[np.float32]
    labels: list[str]
    patients: list[str]

    @property
    def codes(self) -> npt.NDArray[np.intp]:
        return np.unique(self.labels, return_inverse=True)[1]


def gaussian_cases(
    n_patients: int = 40, per_patient: int = 2, dim: int = 16, classes: int = 2, shift: float = 1.0, seed: int = 0
) -> Cases:
    """Gaussian classes ``shift`` apart along axis k for class k, half of the variance shared by a patient's items."""
    rng = np.random.default_rng(seed)
    patient = np.repeat(np.arange(n_patients), per_patient)
    label = (np.arange(n_patients) % classes)[patient]
    noise = rng.normal(size=(n_patients, dim))[patient] + rng.normal(size=(len(patient), dim))
    features = noise / np.sqrt(2) + shift * np.eye(classes, dim)[label]
    return Cases(features.astype(np.float32), [f"class{k}" for k in label], [f"p{k:03d}" for k in patient])


def write_features(
    path: Path,
    rows: Sequence[npt.NDArray[np.float32]],
    names: Sequence[str],
    *,
    patients: Sequence[str] | None = None,
    meta: Mapping[str, Sequence[str]] | None = None,
    content: Sequence[str] | None = None,
    encoder: str = "synthetic",
    tones: Sequence[tuple[float, float]] | None = None,
) -> Path:
    """Write items (each (n, D)) under relative names such as "benign/a.png"; ``tones``: mean and contrast of each."""
    header = Header({"name": encoder, "weights": encoder}, {})
    with FeatureStore(path, header, dim=rows[0].shape[1]) as store:
        for number, (values, name) in enumerate(zip(rows, names, strict=True)):
            source = Source(
                id=name.rpartition(".")[0] or name,
                format="png",
                path=Path(name),
                files=(Path(name),),
                name=name,
                patient=patients[number] if patients else "",
                meta={column: texts[number] for column, texts in (meta or {}).items()},
            )
            plan = Plan(
                regions=make_regions(np.arange(len(values)), 0),
                shape=(8, 8),
                dtype="uint8",
                format="png",
                modality="photo",
                width=8,
                height=8,
                content_sha256=content[number] if content else f"{number:064x}",
                detail={"tone": dict(zip(("mean", "contrast"), tones[number], strict=True))} if tones else {},
            )
            store.add(Item(source, plan, values))
        return store.finish({})
