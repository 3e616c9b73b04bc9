"""How good is the linear probe with few labels? Real images, patients whole, paired draws, beside the former recipe.

    python benchmarks/few_labels.py extract DATA FEATURES        (the labelled folders below DATA, once)
    python benchmarks/few_labels.py table FEATURES --partitions 5 --repeats 10
    python benchmarks/few_labels.py everybody FEATURES --partitions 100      (all labels, beside the former recipe)

``DATA`` holds the sets of ``SETS`` (images with a CSV of labels and patients; sets that are missing are left out); the
encoder is ImageNet's EfficientNet-Lite0, which needs no download. "former" is what the probe was before: every feature
standardised by the drawn rows, C = 1 below three patients a class, else from 10^-5 … 10^5 by inner cross-validation.
Each partition holds 30 % of the patients out; all probes see the same draws. Brier scores are those of the first shots.
With everybody the linear probe is compared with the former one partition by partition.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.stats import t

import umedfeat
import umedfeat.fewshot.classifiers.fitting as fitting
from umedfeat.fewshot import LinearProbe, ProbeSettings
from umedfeat.fewshot.cohort.sources import cohort_of, label_items
from umedfeat.fewshot.cohort.table import read_table
from umedfeat.fewshot.study import Origin, run_study


class Labelled(NamedTuple):
    """A folder below DATA with its CSV; which column names the file, the label and the patient; rows that are used."""

    folder: str
    file: str = "path"
    label: str = "label"
    patient: str = "patient"
    split: str = ""
    label_of: str = "patient"


SETS = {
    "kermany": Labelled("pretrain/kermany_cxr", split="heldout"),
    "kermany, 120": Labelled("data/labelled/kermany_cxr", file="file"),
    "nih": Labelled("ood/nih_cxr_pneumonia", label_of="item"),
    "idc": Labelled("data/labelled/idc_breast", file="file", label_of="item"),
    "malaria": Labelled("data/labelled/malaria", file="file", label_of="item"),
    "hannover AP/PA": Labelled("pretrain/hannover_cxr", label_of="item"),
    "cheng, 3 classes": Labelled("data/labelled/cheng_brain_mri", file="file", patient="patient_group"),
}
SHOTS = (1, 4, 16)
HELD_OUT = 0.3
_MERGED = {"bacteria": "pneumonia", "virus": "pneumonia"}


def extract(data: Path, features: Path) -> None:
    """A manifest and a feature file of every set that is there."""
    features.mkdir(parents=True, exist_ok=True)
    for name, found in SETS.items():
        folder, out = data / found.folder, features / f"{_stem(name)}.h5"
        if not (folder / "labels.csv").is_file() or out.is_file():
            continue
        with (folder / "labels.csv").open() as stream:
            rows = [row for row in csv.DictReader(stream) if not found.split or row["split"] == found.split]
        manifest = features / f"{_stem(name)}.csv"
        with manifest.open("w") as stream:
            writer = csv.writer(stream)
            writer.writerow(["path", "patient", "label"])
            for row in rows:
                label = _MERGED.get(row[found.label], row[found.label])
                writer.writerow([(folder / row[found.file]).resolve(), row[found.patient], label])
        umedfeat.extract(manifest, out, encoder="efficientnet-lite0")


def _stem(name: str) -> str:
    return name.replace(",", "").replace("/", "").replace(" ", "_")


class Former(LinearProbe):
    """The former recipe: on rows whose mean squared length is 1, its C of standardised features is C times D."""

    def fit(self, X, y, groups=None, weights=None, pool=None):
        dim = X.shape[1]
        self.scale, self.fixed, self.enough = "standard", 1.0 * dim, 3
        self.strengths = tuple(10.0**exponent * dim for exponent in range(-5, 6))
        return super().fit(X, y, groups, weights, pool)


def table(features: Path, partitions: int, repeats: int, only: str) -> None:
    """AUROC of every probe at each number of labelled patients; mean over partitions and draws."""
    heads = [*(f"{n} a class" for n in SHOTS), "all", "all, less the former", "Brier, 1 a class"]
    print("| set | probe |", " | ".join(heads), "|")
    print("|---|---|" + "---|" * len(heads), flush=True)
    for name, found in SETS.items():
        path = features / f"{_stem(name)}.h5"
        if path.is_file() and only in name:
            former = None
            for probe, classifiers in (("former", ("linear",)), ("now", ("linear", "prototype", "knn"))):
                fitting.LinearProbe = Former if probe == "former" else LinearProbe
                for classifier, values in _values(path, found, classifiers, partitions, repeats):
                    shown = [f"{np.mean(values[key]):.3f}" if key in values else "–" for key in _KEYS]
                    gain = "" if former is None or classifier != "linear" else _gain(values[_KEYS[-1]], former)
                    former = former or values[_KEYS[-1]]
                    label = "linear, former" if probe == "former" else classifier
                    brier = f"{np.mean(values['brier']):.3f}"
                    print(f"| {name} | {label} | {' | '.join([*shown, gain, brier])} |", flush=True)


def everybody(features: Path, partitions: int, only: str) -> None:
    """AUROC with all labels, paired with the former recipe partition by partition, with a 95 % interval."""
    print("| set | patients | former | now | difference, 95 % interval | partitions below, equal, above |")
    print("|---|---|---|---|---|---|", flush=True)
    for name, found in SETS.items():
        path = features / f"{_stem(name)}.h5"
        if path.is_file() and only in name:
            areas = []
            for fitting.LinearProbe in (Former, LinearProbe):
                areas.append(dict(_values(path, found, ("linear",), partitions, 1, _EVERYBODY))["linear"][_KEYS[-1]])
            former, now = areas
            each = np.subtract(now, former)
            reach = float(t.ppf(0.975, partitions - 1)) * _error(each)
            signs = [int((np.sign(each.round(9)) == sign).sum()) for sign in (-1, 0, 1)]
            print(
                f"| {name} | {len(set(read_table(path).patients.tolist()))} | {np.mean(former):.3f} | "
                f"{np.mean(now):.3f} | {each.mean():+.4f} [{each.mean() - reach:+.3f}, {each.mean() + reach:+.3f}] | "
                f"{', '.join(map(str, signs))} |",
                flush=True,
            )


def _gain(now: list[float], former: list[float]) -> str:
    """Paired difference with its standard error."""
    each = np.subtract(now, former)
    return f"{each.mean():+.3f} ± {_error(each):.3f}"


def _error(each: np.ndarray) -> float:
    """Standard error of a mean over partitions of the same patients, which overlap: the variance between them counts by
    1 / partitions + tested / trained patients (Nadeau and Bengio 2003)."""
    return float(each.std(ddof=1) * np.sqrt(1 / len(each) + HELD_OUT / (1 - HELD_OUT)))


_KEYS = (*(f"{n} shot{'s' if n > 1 else ''}" for n in SHOTS), "100 %")
_EVERYBODY = ({"fractions": (1.0,)},)
_BUDGETS = ({"fractions": (), "shots": SHOTS}, *_EVERYBODY)


def _values(
    path: Path,
    found: Labelled,
    classifiers: tuple[str, ...],
    partitions: int,
    repeats: int,
    spent: tuple[dict[str, tuple[float, ...]], ...] = _BUDGETS,
) -> Iterator[tuple[str, dict[str, list[float]]]]:
    values: dict[str, dict[str, list[float]]] = {classifier: {} for classifier in classifiers}
    read = read_table(path)
    for budgets in spent:
        for seed in range(partitions):
            settings = ProbeSettings(
                **budgets,
                repeats=repeats,
                classifiers=classifiers,
                label_of=found.label_of,
                test_size=HELD_OUT,
                seed=seed,
                bootstrap=100,
                on_missing_class="skip",
            )
            cohort = cohort_of(read, label_items(read, label="label"), settings)
            for score in run_study(cohort, settings, Origin()).scores:
                if score.metric == "auroc":
                    values[score.classifier].setdefault(score.budget, []).append(score.value)
                elif score.metric == "brier" and score.budget == _KEYS[0]:
                    values[score.classifier].setdefault("brier", []).append(score.value)
    yield from values.items()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", choices=["extract", "table", "everybody"])
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--partitions", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--only", default="")
    arguments = parser.parse_args()
    if arguments.part == "extract":
        extract(*arguments.folders)
    elif arguments.part == "everybody":
        everybody(arguments.folders[0], arguments.partitions, arguments.only)
    else:
        table(arguments.folders[0], arguments.partitions, arguments.repeats, arguments.only)
