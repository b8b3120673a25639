"""A figure of schedules: batch size and learning rate over epochs, steps and examples."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from accelerando.plotting import group_styles
from accelerando.preview.entries import ScheduleEntry
from accelerando.schedule import Plan


def draw(entries: Sequence[ScheduleEntry]) -> Figure:
    """Draw two rows (batch size, learning rate) by three columns (epochs, steps, examples)."""
    with matplotlib.rc_context({"font.size": 9}):
        figure = Figure(figsize=(11, 5.5), layout="constrained")
        panels = figure.subplots(2, 3, sharex="col", sharey="row")
        styles = group_styles([entry.name for entry in entries])
        for number, entry in enumerate(entries):
            sizes, rates, axes = curves(entry.plan)
            for column, (label, x) in enumerate(axes.items()):
                style = styles[entry.name]
                options = {
                    **style.line,
                    **style.marks(len(x), number),
                    "lw": 1.2 + 0.8 * (len(entries) - 1 - number),
                    "label": entry.label,
                }
                panels[0, column].plot(x, sizes, **options)
                panels[1, column].plot(x, rates, **options)
                panels[1, column].set_xlabel(label)
        panels[0, 0].set_yscale("log", base=2)
        panels[0, 0].yaxis.set_major_formatter("{x:.0f}")
        panels[0, 0].set_ylabel("batch size")
        panels[1, 0].set_ylabel("learning rate")
        panels[1, 0].set_ylim(bottom=0)
        for panel in panels.flatten():
            panel.grid(alpha=0.25)
        handles, labels = panels[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False,
                      handlelength=4)  # fmt: skip
    return figure


FloatArray = npt.NDArray[np.float64]


def curves(plan: Plan) -> tuple[FloatArray, FloatArray, dict[str, FloatArray]]:
    """Return batch sizes, learning rates and the three axes at the ends of each epoch."""
    ends = np.stack([plan.first_steps[:-1], plan.first_steps[1:]], axis=1).flatten().astype(float)
    epochs = np.stack([np.arange(plan.epochs), np.arange(1, plan.epochs + 1)], axis=1).flatten()
    rates = np.array([plan.rates(epoch)[[0, -1]] for epoch in range(plan.epochs)]).flatten()
    sizes = np.repeat(plan.batch_sizes, 2).astype(float)
    axes = {"epochs": epochs.astype(float), "steps": ends}
    return sizes, rates, axes | {"examples": axes["epochs"] * plan.examples}
