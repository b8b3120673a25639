"""The cost of a large comparison: time and peak memory of ``accelerando compare``.

The records are synthetic (noisy, decreasing norms); the command is the real one, run in a separate
process.

    python benchmarks/compare.py [--runs 1000] [--epochs 300] [--seeds 25 3]
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from accelerando.build import build_plan
from accelerando.composition import compose_runs
from accelerando.config import RunSettings
from accelerando.identity import run_folder
from accelerando.runs.folder import Status
from accelerando.training.run_state import new_state

CASES = "scheduler=decay_constant,decay_increase,increase_increase,warmup_increase"


def write_run(config: RunSettings, generator: np.random.Generator) -> None:
    """Write the folder of a finished run with synthetic measurements."""
    plan, folder = build_plan(config), run_folder(config)
    folder.mkdir(parents=True)
    epochs = np.arange(plan.epochs + 1)
    speed = 0.01 + config.scheduler.target["learning_rate"]["initial"] / 20
    norms = np.exp(-speed * epochs + generator.normal(0, 0.1, len(epochs)))
    rows = [
        {
            "epoch": int(epoch),
            "step": int(plan.first_steps[epoch]),
            "examples": int(epoch * plan.examples),
            "batch_size": int(plan.batch_sizes[max(epoch - 1, 0)]),
            "learning_rate": 0.1,
            "full_gradient_norm": float(norms[epoch]),
            "empirical_loss": float(2 * norms[epoch]),
            "train_accuracy": float(1 - 0.9 * min(1, norms[epoch])),
            "test_loss": float(2 * norms[epoch] + 0.1),
            "test_accuracy": float(0.95 - 0.85 * min(1, norms[epoch])),
            "seconds": float(epoch + 1 + generator.uniform(0, 0.1)),
        }
        for epoch in epochs
    ]
    (folder / "record.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    state = new_state(config, plan, ())
    state.status, state.epoch, state.seconds = Status.FINISHED, plan.epochs, rows[-1]["seconds"]
    (folder / "state.json").write_text(json.dumps(asdict(state)))
    (folder / "config.yaml").write_text(config.to_yaml())


def write_runs(root: Path, *, runs: int, epochs: int, seeds: int) -> None:
    """Write runs of the four cases, with as many initial learning rates as needed."""
    cases = compose_runs([CASES, f"epochs={epochs}", "model=mlp", f"root={root}"])
    generator = np.random.default_rng(0)
    for number in range(runs):
        group, seed = divmod(number, seeds)
        rate, case = divmod(group, len(cases))
        write_run(vary(cases[case], seed, round(0.1 + 0.002 * rate, 4)), generator)


def vary(settings: RunSettings, seed: int, learning_rate: float) -> RunSettings:
    """Change seed and initial learning rate of a run, much faster than composing it again."""
    target = dict(settings.scheduler.target)
    target["learning_rate"] = {**target["learning_rate"], "initial": learning_rate}
    scheduler = replace(settings.scheduler, target=target)
    tree = {**settings.tree, "seed": seed, "scheduler": {"name": scheduler.name, **target}}
    return replace(settings, seed=seed, scheduler=scheduler, tree=tree)


def measure(options: argparse.Namespace, seeds: int) -> None:
    """Print time and memory of the command for groups of ``seeds`` runs each."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "runs"
        write_runs(root, runs=options.runs, epochs=options.epochs, seeds=seeds)
        for flags in ([], ["--json"]):
            command = [sys.executable, "-m", "accelerando.commands", "compare", str(root), *flags]
            start = time.perf_counter()
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            seconds = time.perf_counter() - start
            # the maximum over all commands so far, so the case with few groups comes first
            peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
            groups = -(-options.runs // seeds)
            workload = f"{options.runs} runs of {options.epochs} epochs in {groups} groups"
            print(
                " ".join(["compare", *flags, workload]),
                f"{seconds:.1f} s, peak {peak / 1e9:.2f} GB",
            )
        print(f"report.html: {(root / 'report.html').stat().st_size / 1e6:.1f} MB")


def main() -> None:
    """Print time and memory of the command for each number of seeds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--epochs", type=int, default=300)
    parser.add_argument("--seeds", type=int, nargs="+", default=[25, 3], help="seeds per group")
    options = parser.parse_args()
    for seeds in options.seeds:
        measure(options, seeds)


if __name__ == "__main__":
    main()
