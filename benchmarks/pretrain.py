"""Figures of benchmarks/pretrain.md: memory over tasks, speed beside a bare loop, and what an encoder is worth.

    python benchmarks/pretrain.py memory
    python benchmarks/pretrain.py speed TASKS.yaml
    python benchmarks/pretrain.py goals ENCODER --shared ../shared --out /tmp/goals [--draws 10]

``ENCODER`` is a name or a file of ``umedfeat pretrain``; it is compared with ``efficientnet-lite0`` on patients that
it has never seen. Everything is written to the folder of ``--out``: features are made once.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

import umedfeat
from umedfeat.encoders import EncoderChoice
from umedfeat.fewshot import ProbeSettings, compare_files
from umedfeat.naming import Pseudonyms

BASELINE = "efficientnet-lite0"

#: Set → (folder below the shared one, columns of path, label and patient, only rows whose split is "heldout").
SETS = {
    "brain MR": ("pretrain/cheng_brain_mri", "path", "label", "patient", True),
    "X-ray": ("pretrain/kermany_cxr", "path", "label", "patient", True),
    "NIH (out of domain)": ("ood/nih_cxr_pneumonia", "path", "label", "patient", False),
    "IDC (out of domain)": ("data/labelled/idc_breast", "file", "label", "patient", False),
    "malaria (out of domain)": ("data/labelled/malaria", "file", "label", "patient", False),
}


def goals(encoder: str, shared: Path, out: Path, draws: int, sets: list[str]) -> None:
    """Extract and compare; one JSON line a set and probe."""
    out.mkdir(parents=True, exist_ok=True)
    for name in sets:
        manifest = write_manifest(name, shared, out)
        files = [features(manifest, out, choice) for choice in (encoder, BASELINE)]
        for study, settings in studies(draws).items():
            begin = time.perf_counter()
            comparison = compare_files(files, label="label", settings=settings)
            rows = table(comparison, name, study)
            for row in rows:
                print(json.dumps(row), flush=True)
            with (out / "results.jsonl").open("a") as stream:
                stream.writelines(json.dumps(row) + "\n" for row in rows)
            print(f"# {name}, {study}: {time.perf_counter() - begin:.0f} s", file=sys.stderr, flush=True)


def studies(draws: int) -> dict[str, ProbeSettings]:
    """Shares of the patients, and one patient a class."""
    shares = ProbeSettings(
        fractions=(0.02, 0.05, 0.1, 0.25, 0.5, 1.0),
        repeats=draws,
        label_of="item",
        test_size=0.4,
        on_missing_class="skip",
    )
    return {"shares": shares, "one": dataclasses.replace(shares, fractions=(), shots=(1,), repeats=2 * draws)}


def write_manifest(name: str, shared: Path, out: Path) -> Path:
    """The set's images with absolute paths."""
    folder, path, label, patient, heldout = SETS[name]
    rows = list(csv.DictReader((shared / folder / "labels.csv").open(encoding="utf-8")))
    target = out / f"{name.split()[0]}.csv"
    with target.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["path", "id", "label", "patient"])
        for number, row in enumerate(rows):
            if not heldout or row["split"] == "heldout":
                place = (shared / folder / row[path]).resolve()
                writer.writerow([place, f"{number:05d}", f"class {row[label]}", row[patient]])
    return target


def features(manifest: Path, out: Path, encoder: str) -> Path:
    """The feature file of a manifest; extracted once."""
    is_file = encoder.endswith(".safetensors")
    target = out / f"{manifest.stem}-{Path(encoder).stem if is_file else encoder}.h5"
    if not target.exists():
        choice = EncoderChoice(weights=Path(encoder)) if is_file else EncoderChoice(encoder)
        umedfeat.extract(manifest, target, encoder=choice, pseudonyms=Pseudonyms(b"a key of this benchmark"))
    return target


def table(comparison, name: str, study: str) -> list[dict]:
    """Mean and interval of the metrics of both encoders, and the share of the labels that ours needs."""
    ours, theirs = comparison.results
    rows = []
    for metric in (ours.primary, "auroc"):
        for estimate in ours.estimates:
            if estimate.metric != metric or estimate.subgroup:
                continue
            keys = ("classifier", "budget", "test_set", "metric", "subgroup")
            other = next(e for e in theirs.estimates if all(getattr(e, k) == getattr(estimate, k) for k in keys))
            paired = [d for d in comparison.differences if all(getattr(d, k) == getattr(estimate, k) for k in keys[:4])]
            rows.append({
                "set": name, "study": study, "probe": estimate.classifier, "budget": estimate.budget, "metric": metric,
                "ours": estimate.value, "imagenet": other.value, "draws": estimate.draws,
                "difference": [paired[0].value, paired[0].low, paired[0].high] if paired else None,
                "test_patients": estimate.test_patients,
            })  # fmt: skip
    if study != "shares":
        return rows
    return rows + [
        {
            "set": name, "study": "needed", "probe": needed.classifier, "metric": needed.metric,
            "target": needed.target, "share": needed.share, "low": needed.low, "high": needed.high,
            "patients": needed.n_patients,
        }
        for needed in comparison.data_needed
    ]  # fmt: skip


#: glibc gives every tensor above this size back to the system at once; left to itself it keeps freed memory for later,
#: and the peak of a process then tells its fragments too, differently in every run.
EXACT = {"MALLOC_MMAP_THRESHOLD_": "262144", "MALLOC_ARENA_MAX": "1"}


def memory(runs: int = 3) -> None:
    """Peak of 2, 8 and 32 tasks, by rounds and as one joint graph, each in a process of its own; all runs are told."""
    for mode, allocator in (("rounds", "exact"), ("rounds", "default"), ("joint", "exact")):
        for count in (2, 8, 32):
            command = [sys.executable, __file__, "peak", mode, str(count)]
            env = {**os.environ, **(EXACT if allocator == "exact" else {})}
            told = [
                json.loads(subprocess.run(command, check=True, capture_output=True, text=True, env=env).stdout)
                for _ in range(runs if mode == "rounds" else 1)
            ]
            grown = sorted(row["rss_grown_MiB"] for row in told)
            print(json.dumps({**told[0], "allocator": allocator, "rss_grown_MiB": grown}), flush=True)


def peak(mode: str, count: int) -> None:
    """Train ``count`` tasks on noise for two rounds and tell the most that was held and the growth of the process.

    The first two tasks have masks and boxes: both decoders are there for every count, and what grows is heads alone.
    """
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "factories"))
    import torch
    from tiny_backbone import batch_of, task_of

    from umedfeat.pretraining.footprint import held_bytes
    from umedfeat.pretraining.model import Model
    from umedfeat.pretraining.start import load_start
    from umedfeat.pretraining.trainer import accumulate

    torch.set_num_threads(1)
    kinds = ("segmentation", "detection", "classification")
    tasks = [task_of(kinds[k % 3], f"task{k}") for k in range(count)]
    model = Model(load_start(BASELINE).backbone, tasks, 0).to(memory_format=torch.channels_last)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    most = 0
    for _ in range(2):
        if mode == "joint":
            with held_bytes() as held:
                total = sum(model.loss(task.name, batch_of(task, 8, 128)) for task in tasks)
                most = max(most, held())
            total.backward()
        for task in tasks if mode == "rounds" else []:
            with held_bytes() as held:
                accumulate(model, task, batch_of(task, 8, 128), 1 / count)
                most = max(most, held())
        model.zero_grad(set_to_none=True)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 - before
    heads = sum(parameter.nbytes for parameter in model.heads.parameters()) / 1e6
    row = {"mode": mode, "tasks": count, "held_MB": round(most / 1e6, 1), "rss_grown_MiB": round(grown)}
    print(json.dumps({**row, "heads_MB": round(heads, 2)}))


def speed(tasks_file: str, rounds: int) -> None:
    """Rounds of the trainer against the same batches forwards and backwards alone, alternating."""
    import torch

    from umedfeat.policy import Policy
    from umedfeat.pretraining.run import prepare
    from umedfeat.pretraining.settings import TrainSettings
    from umedfeat.pretraining.trainer import accumulate
    from umedfeat.pretraining.training import Training

    settings = TrainSettings(rounds=10**6, holdout=0.1)
    ready = prepare(tasks_file, settings=settings)
    training = Training(ready.tasks, ready.start, settings, Policy(), None, ready.fingerprint, "cpu")
    torch.set_num_threads(1)
    stream = training.loader.batches(0, lambda number: 128)
    batches = [next(stream) for _ in training.tasks]
    stream.close()
    whole, bare, waits = [], [], []
    for done in training.trainer.rounds():
        whole.append(done.seconds)
        waits.append(done.waited / done.seconds)
        begin = time.perf_counter()
        for ready_batch in batches:
            accumulate(training.model, training.tasks[ready_batch.task], ready_batch.batch, 0.1)
        training.model.zero_grad(set_to_none=True)
        bare.append(time.perf_counter() - begin)
        if len(whole) > rounds:
            break
    training.close()
    ratios = [b / w for b, w in zip(bare[1:], whole[1:], strict=True)]
    print(
        json.dumps(
            {
                "rounds": rounds,
                "bare_of_whole_median": float(np.median(ratios)),
                "waited_median": float(np.median(waits[1:])),
            }
        )
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("memory")
    each = commands.add_parser("peak")
    each.add_argument("mode")
    each.add_argument("count", type=int)
    fast = commands.add_parser("speed")
    fast.add_argument("tasks")
    fast.add_argument("--rounds", type=int, default=10)
    worth = commands.add_parser("goals")
    worth.add_argument("encoder")
    worth.add_argument("--shared", type=Path, required=True)
    worth.add_argument("--out", type=Path, required=True)
    worth.add_argument("--draws", type=int, default=10)
    worth.add_argument("--sets", nargs="+", default=list(SETS), choices=list(SETS))
    chosen = parser.parse_args()
    if chosen.command == "memory":
        memory()
    elif chosen.command == "peak":
        peak(chosen.mode, chosen.count)
    elif chosen.command == "speed":
        speed(chosen.tasks, chosen.rounds)
    else:
        goals(chosen.encoder, chosen.shared, chosen.out, chosen.draws, chosen.sets)


if __name__ == "__main__":
    main()
