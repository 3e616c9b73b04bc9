"""A whole few-shot study of a labelled folder of images, by one command: features, data-efficiency curve, figures.

python examples/few_shot_study.py images/ labels.csv study/
python examples/few_shot_study.py images/ labels.csv study/ --label-of item --patient patient_group

``labels.csv`` has a column for the file (relative to the folder), one called label and, if there is one, the patient.
The encoder is ImageNet's EfficientNet-Lite0, which needs no download; ``--encoder umedpt`` takes UMedPT.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

import umedfeat
from umedfeat.fewshot import ProbeResult, ProbeSettings, probe_file, write_study
from umedfeat.fewshot.metrics import METRICS
from umedfeat.fewshot.terminal import render_study

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
    draw_curve(result, arguments.out / "curve.png")
    print(render_study(result))


def draw_curve(result: ProbeResult, path: Path) -> None:
    """The primary metric over the number of labelled patients: intervals as bands, single draws as dots."""
    test_set = result.test_sets[0]
    figure, axes = plt.subplots(figsize=(6.4, 4.2), layout="constrained")
    for number, classifier in enumerate(dict.fromkeys(part.classifier for part in result.predictions)):
        rows = [result.estimate(classifier, b.name, result.primary, test_set) for b in result.budgets]
        patients = np.asarray([budget.n_patients for budget in result.budgets])
        line = axes.plot(patients, [row.value for row in rows], marker="o", ms=4, label=classifier)[0]
        low, high = ([getattr(row, side) for row in rows] for side in ("low", "high"))
        axes.fill_between(patients, low, high, color=line.get_color(), alpha=0.15, lw=0)
        for budget in result.budgets:
            values = [
                score.value
                for score in result.scores
                if (score.classifier, score.budget, score.metric, score.subgroup, score.test_set)
                == (classifier, budget.name, result.primary, "", test_set)
            ]
            places = np.full(len(values), budget.n_patients * (1 + 0.03 * (number - 1)))
            axes.scatter(places, values, s=3, color=line.get_color(), alpha=0.35, lw=0)
    axes.set(xscale="log", xlabel="labelled patients", ylabel=METRICS[result.primary].label)
    ticks = sorted({budget.n_patients for budget in result.budgets})
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, loc="lower right")
    axes.set_title(f"{result.encoder}: {len(result.cohort.ids)} images, {len(set(result.cohort.patients))} patients")
    figure.savefig(path, dpi=150)
    plt.close(figure)


if __name__ == "__main__":  # reading happens in processes of its own, which import this file
    main()
