"""Is an X-ray of another centre flagged as unlike the training data, and what is the model worth there?

``python benchmarks/cross_centre.py OPEN_DATA OTHER_DATA --out FOLDER``. Children's chest films of one hospital (Kermany
2018: normal or pneumonia) train a probe; it is applied to other children of that hospital, to adults of the NIH and to
adults of Hannover. Both folders hold ``DATASET/labels.csv`` with path, label and patient. Prints one table: how many
items are flagged (the stated rate is 5 % for the first), and performance with calibration where labels mean the same.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import umedfeat
from umedfeat.fewshot.files import read_subject
from umedfeat.fewshot.settings import ProbeSettings
from umedfeat.prediction.apply import Predicted, apply_probe
from umedfeat.prediction.external import INTERCEPT, Validation, validate
from umedfeat.prediction.fit import Saving, study_and_fit
from umedfeat.prediction.saved import SavedProbe
from umedfeat.report.answer import with_interval
from umedfeat.report.files import write_study
from umedfeat.report.prediction_files import write_predictions
from umedfeat.report.prediction_page import write_prediction_page
from umedfeat.report.validation_files import write_validation

_PNEUMONIA = ("bacteria+virus=pneumonia",)


def extracted(folder: Path, out: Path, encoder: str, most: int) -> Path:
    """Features of a labelled folder; at most so many images, evenly taken."""
    manifest = out / f"{folder.name}.csv"
    rows = list(csv.DictReader((folder / "labels.csv").read_text(encoding="utf-8").splitlines()))
    rows = rows[:: max(1, len(rows) // most)]
    with manifest.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, ["path", "label", "patient", "split"], extrasaction="ignore")
        writer.writeheader()
        for row in rows:
            split = "train" if row["split"] == "train" else "test"
            writer.writerow(row | {"path": str((folder / row["path"]).resolve()), "split": split})
    return umedfeat.extract(manifest, out / f"{folder.name}.h5", encoder=encoder).out


def trained(feats: Path, folder: Path, novelty: bool = True) -> SavedProbe:
    """The probe of the children, fitted on the training split."""
    settings = ProbeSettings(fractions=(1.0,), classifiers=("linear",), merge=_PNEUMONIA, label_of="item")
    result, probe = study_and_fit(read_subject(feats, settings), Saving(novelty=novelty))
    assert probe is not None
    write_study(result, folder, probe)
    return probe


def applied(
    probe: SavedProbe, feats: Path, folder: Path, merge: tuple[str, ...]
) -> tuple[Predicted, Validation | None]:
    """Predictions of one centre, and their validation where its labels mean the same."""
    found = apply_probe(probe, feats)
    validation = None
    if merge:
        validation = validate(found, None, ProbeSettings(merge=merge, label_of="item"), known="skip")
        write_validation(validation, folder)
    write_predictions(found, folder / "predictions.csv", validation)
    write_prediction_page(found, folder, {}, validation)
    return found, validation


def main() -> None:
    """Extract, train, apply, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("open_data", type=Path)
    parser.add_argument("other_data", type=Path)
    parser.add_argument("--encoder", default="umedfeat-open")
    parser.add_argument("--most", type=int, default=1000)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    children = extracted(given.open_data / "kermany_cxr", given.out, given.encoder, given.most)
    nih = extracted(given.other_data / "nih_cxr_pneumonia", given.out, given.encoder, given.most)
    hannover = extracted(given.open_data / "hannover_cxr", given.out, given.encoder, given.most)
    probe = trained(children, given.out / "probe")
    print(f"trained on {probe.training['patients']} children")
    print("| centre | items | flagged | AUROC | calibration slope | calibration intercept |\n|---|---|---|---|---|---|")
    for name, feats, merge in (
        ("children, same hospital", children, _PNEUMONIA),
        ("adults, NIH", nih, ("no_finding=normal",)),
        ("adults, Hannover", hannover, ()),
    ):
        found, validation = applied(probe, feats, given.out / feats.stem, merge)
        inside = range(len(found.flagged)) if validation is None else sorted(validation.truth)
        flagged = sum(bool(found.flagged[item]) for item in inside) / len(inside)
        cells = ["–"] * 3
        if validation is not None:
            cells = [with_interval(validation.estimate(m)) for m in ("auroc", "calibration_slope", INTERCEPT)]
        print(f"| {name} | {len(inside)} | {flagged:.1%} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
