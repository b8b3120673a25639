"""The best norm that tuning reaches with a number of trials, for each case.

A trial is a configuration: all settings except the seed. Its value is the geometric mean over seeds
of the minimum full gradient norm; it is infinite if a run diverged or learned nothing. Printed is
the median, over the order in which trials are made, of the best value after k of them: the best of
few trials shows how much a case depends on its tuning, and only equal numbers of trials compare
cases fairly (Dodge et al., 2019, arXiv 1909.03004). Each folder holds the trials of one case.

    for case in i_published i ii iii iv; do
        python train.py +experiment=tune/$case model=mlp dataset=digits epochs=100 root=tune/$case
    done
    python benchmarks/trials.py tune/*
"""

from __future__ import annotations

import argparse
import math
from collections import defaultdict
from pathlib import Path

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

from accelerando.compare.align import min_norm_at
from accelerando.compare.filtering import completed_runs
from accelerando.compare.load import load_runs
from accelerando.scheduler_names import scheduler_name

COUNTS = (1, 2, 4, 8, 16, 20)


def trial_values(folder: Path) -> list[tuple[float, str]]:
    """Return value and name of each trial in ``folder``."""
    runs, _ = completed_runs(load_runs([folder]).runs)
    norms: dict[str, list[float]] = defaultdict(list)
    for run in runs:
        name = scheduler_name(run.config, run.state.epochs).label
        norms[name].append(min_norm_at(run, "steps", math.inf))
    return [(float(np.exp(np.log(of_seeds).mean())), name) for name, of_seeds in norms.items()]


def best_after(values: list[float], count: int) -> float:
    """Return the median over orders of the best of ``count`` trials drawn without replacement."""
    ordered, total = sorted(values), math.comb(len(values), count)
    # the best is among the first j values unless all drawn trials are among the others
    return next(
        value
        for j, value in enumerate(ordered, start=1)
        if math.comb(len(values) - j, count) / total < 0.5
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", nargs="+", type=Path)
    folders = parser.parse_args().folders
    table = Table(title="best full gradient norm after k trials", box=box.SIMPLE, padding=0)
    table.add_column("case", overflow="fold")
    for count in COUNTS:
        table.add_column(f"k = {count}", justify="right", no_wrap=True)
    for heading in ("trials", "failed"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("best trial", overflow="fold")
    for folder in folders:
        trials = trial_values(folder)
        values = [value for value, _ in trials]
        cells = [
            f"{best_after(values, count):.3g}" if count <= len(values) else "–" for count in COUNTS
        ]
        failed = sum(map(math.isinf, values))
        table.add_row(folder.name, *cells, str(len(values)), str(failed), min(trials)[1])
    Console().print(table)


if __name__ == "__main__":
    main()
