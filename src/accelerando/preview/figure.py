"""A figure of schedules: batch size and learning rate over epochs, steps and examples."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from accelerando.plotting import add_legend, group_styles
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
            style, width = styles[entry.name], 1.2 + 0.8 * (len(entries) - 1 - number)
            options = {**style.line, **style.marks(len(sizes), number), "lw": width}
            for (above, below), (label, x) in zip(panels.T, axes.items(), strict=True):
                above.plot(x, sizes, label=entry.label, **options)
                below.plot(x, rates, **options)
                below.set_xlabel(label)
        panels[0, 0].set_yscale("log", base=2)
        panels[0, 0].yaxis.set_major_formatter("{x:.0f}")
        panels[0, 0].set_ylabel("batch size")
        panels[1, 0].set_ylabel("learning rate")
        panels[1, 0].set_ylim(bottom=0)
        for panel in panels.flatten():
            panel.grid(alpha=0.25)
        add_legend(figure, panels[0, 0])
    return figure


FloatArray = npt.NDArray[np.float64]


def curves(plan: Plan) -> tuple[FloatArray, FloatArray, dict[str, FloatArray]]:
    """Return batch sizes, learning rates and the three axes at the ends of each epoch."""
    # every value twice, except the first and the last: an epoch begins where another one ends
    steps = np.repeat(plan.first_steps, 2)[1:-1].astype(float)
    epochs = np.repeat(np.arange(plan.epochs + 1.0), 2)[1:-1]
    rates = np.array([plan.rates(epoch)[[0, -1]] for epoch in range(plan.epochs)]).flatten()
    sizes = np.repeat(plan.batch_sizes, 2).astype(float)
    return sizes, rates, {"epochs": epochs, "steps": steps, "examples": epochs * plan.examples}
