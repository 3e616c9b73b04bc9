"""A whole few-shot study of a labelled folder of images, by one command: features, figures, report.

python examples/few_shot_study.py images/ labels.csv study/
python examples/few_shot_study.py images/ labels.csv study/ --label-of item --patient patient_group

``labels.csv`` has a column for the file (relative to the folder), one called label and, if there is one, the patient.
The encoder is ImageNet's EfficientNet-Lite0, which needs no download; ``--encoder umedpt`` takes UMedPT.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import umedfeat
from umedfeat.fewshot import ProbeSettings, probe_file
from umedfeat.report.files import write_study
from umedfeat.report.study_page import write_report
from umedfeat.report.tables import render_study

FRACTIONS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("images", type=Path)
    parser.add_argument("labels", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--encoder", default="efficientnet-lite0")
    parser.add_argument("--label", default="")
    parser.add_argument("--patient", default="")
    parser.add_argument("--label-of", choices=["patient", "item"], default="patient")
    parser.add_argument("--cv", type=int, default=5, help="folds; 0 holds 30 %% of the patients out instead")
    arguments = parser.parse_args()

    arguments.out.mkdir(parents=True, exist_ok=True)
    summary = umedfeat.extract(arguments.images, arguments.out / "feats.h5", encoder=arguments.encoder)
    settings = ProbeSettings(fractions=FRACTIONS, label_of=arguments.label_of, cv=arguments.cv)
    result = probe_file(
        summary.out, label=arguments.label, labels=arguments.labels, patient=arguments.patient, settings=settings
    )
    write_study(result, arguments.out)
    report = write_report(result, arguments.out)
    print(f"{render_study(result)}\n\nReport: {report}")


if __name__ == "__main__":  # reading happens in processes of its own, which import this file
    main()
