"""The report's words and tables as HTML; everything that comes from files is escaped."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from urllib.parse import quote

from accelerando.compare.align import NORM, column
from accelerando.compare.comparison import AxisComparison, Comparison, GroupResult
from accelerando.compare.groups import Group
from accelerando.compare.load import Run, nested
from accelerando.compare.report.svg_swatch import chip
from accelerando.compare.summary_text import (
    describe_left_out,
    format_amount,
    format_number,
    headline,
    speedup_sentence,
)
from accelerando.compare.table import at_end, cell, costs, ratio
from accelerando.plotting import GroupStyle, group_styles


def switch(comparison: Comparison, chosen: str) -> str:
    """Which axis costs are counted on."""
    return "".join(
        f'<label><input type="radio" name="axis" value="{axis}"{_if(axis == chosen, " checked")}>'
        f"<span>{axis}</span></label>"
        for axis in comparison.axes
    )


def answers(comparison: Comparison, chosen: str) -> str:
    """The answer on each axis; the script shows the one that is asked for."""
    return "".join(
        f'<p class="answer" data-axis="{axis}"{_if(axis != chosen, " hidden")}>'
        f"{escape(headline(on))} {escape(speedup_sentence(comparison, on))}</p>"
        for axis, on in comparison.axes.items()
    )


def cautions(words: Sequence[str]) -> str:
    """What to know before believing it."""
    if not words:
        return ""
    items = "".join(f"<li>{escape(text)}</li>" for text in words)
    return f'<ul class="cautions">{items}</ul>'


def tables(comparison: Comparison, chosen: str) -> str:
    """Norms, and costs of the levels, on each axis."""
    look_of = group_styles(comparison.names)
    ends = {group.name: _end(group) for group in comparison.groups}  # on every axis the same
    found = []
    for axis, on in comparison.axes.items():
        standings = [on.standings[place] for place in on.order]
        rows = [[*_row(on, each, look_of), *ends[each.group.name]] for each in standings]
        caption = (
            f"At equal {axis} ({format_amount(on)}): minimum so far, mean over seeds with its 95 % "
            "interval; in how many seeds it beats the best, with the exact interval of that "
            "probability. Norm at the end, loss and accuracy are those at the end of the runs."
        )
        tables = _table(caption, _HEAD, rows)
        if comparison.thresholds:
            tables += _reach(comparison, on, look_of)
        found.append(f'<div data-axis="{axis}"{_if(axis != chosen, " hidden")}>{tables}</div>')
    return "".join(found)


_HEAD = (
    "group", "seeds", "full gradient norm", "median", "min to max", "times the best",
    "beats the best in", "p", "norm at the end", "empirical loss", "test accuracy %",
)  # fmt: skip


def _row(on: AxisComparison, standing: GroupResult, look_of: dict[str, GroupStyle]) -> list[str]:
    norm, duel = standing.norm, standing.against_best
    beats = ""
    if duel:
        chance = f"{format_number(duel.probability_low)}-{format_number(duel.probability_high)}"
        beats = f"{duel.wins} of {duel.count}\n{chance}"
    return [
        _group(standing, look_of),
        str(norm.count),
        _lines(cell(norm)),
        format_number(norm.median),
        f"{format_number(norm.lowest)}\u00a0to\u00a0{format_number(norm.highest)}",
        _lines(ratio(duel, best=standing is on.best)),
        _lines(beats),
        f"{duel.p_value:.2g}".replace("nan", "–") if duel else "",
    ]


def _end(group: Group) -> list[str]:
    scales = {NORM: 1, "empirical_loss": 1, "test_accuracy": 100}
    return [_lines(cell(at_end(group, name), scale)) for name, scale in scales.items()]


def _reach(comparison: Comparison, on: AxisComparison, look_of: dict[str, GroupStyle]) -> str:
    rows = []
    for place in on.order:
        standing = on.standings[place]
        rows.append([_group(standing, look_of), *map(_lines, costs(standing))])
    reference = escape(comparison.reference.label)
    caption = (
        f"{on.axis.capitalize()} to bring the norm to a level: median over seeds, and how many "
        f"runs reached it where not all did; beneath it how many times fewer than {reference}."
    )
    return _table(caption, ("group", *(f"{level:g}" for level in comparison.thresholds)), rows)


def compared(comparison: Comparison) -> str:
    """What the runs share, and what each group is."""
    every = comparison.runs
    shared = {
        "model": ("model.name",),
        "data": ("dataset.name", "dataset.examples"),
        "budget in epochs": ("epochs",),
        "yardstick": ("measure.chunk", "measure.batch_norm", "measure.dtype"),
        "optimizer": ("optimizer.momentum", "optimizer.weight_decay"),
    }
    words = [
        (name, ", ".join(f"{_key(key)}{_values(every, key)}" for key in keys))
        for name, keys in shared.items()
    ]
    commits = dict.fromkeys(str(run.state.environment.get("commit")) for run in every)
    words.append(("code", ", ".join(commits)))
    words.append(("grouped by", ", ".join(comparison.by)))
    items = "".join(f"<dt>{name}</dt><dd>{escape(text)}</dd>" for name, text in words)
    look_of = group_styles(comparison.names)
    rows = [
        [
            chip(look_of[group.name]) + escape(group.label),
            str(len(group.runs)),
            escape(", ".join(map(str, group.seeds))),
            *(escape(_shape(group.runs, f"scheduler.{part}")) for part in _SHAPES),
        ]
        for group in comparison.groups
    ]
    return f"<dl>{items}</dl>" + _table(
        "", ("group", "runs", "seeds", *_SHAPES.values()), rows, words=True
    )


_SHAPES = {"batch_size": "batch size", "learning_rate": "learning rate"}


def _shape(every: Sequence[Run], section: str) -> str:
    """A shape with its settings: ``Exponential, initial 0.1, final 0.2``."""
    words = []
    for name in dict.fromkeys(key for run in every for key in run.config if nested(key, [section])):
        values = [run.config.get(name) for run in every]
        if name.endswith("_target_"):
            words += ["/".join(dict.fromkeys(str(v).rpartition(".")[2] for v in values))]
        elif any(value is not None for value in values):
            words += [f"{name.rpartition('.')[2].replace('_', ' ')} {_values(every, name)}"]
    return ", ".join(words)


def _key(key: str) -> str:
    last = key.rpartition(".")[2].replace("_", " ")
    return "" if last in ("name", "epochs") else f"{last} "


def _values(runs: Iterable[Run], key: str) -> str:
    values = dict.fromkeys(str(run.config.get(key)) for run in runs)
    return " or ".join(value if value != "None" else "default" for value in values)


def runs(comparison: Comparison, folder: Path) -> str:
    """Every run that was compared, with where to find it."""
    look_of = group_styles(comparison.names)
    rows = [
        [
            f"{chip(look_of[group.name])}{escape(group.label)}",
            str(run.state.seed),
            format_number(float(column(run, NORM).min())),
            format_number(run.state.seconds),
            _link(run.path / "config.yaml", folder, "settings"),
            _link(run.path / "record.jsonl", folder, "record"),
            _wandb(run),
            f"<code>{escape(' '.join(run.state.overrides))}</code>",
        ]
        for group in comparison.groups
        for run in group.runs
    ]
    head = ("group", "seed", "minimum norm", "seconds", "", "", "W&amp;B", "train.py")
    return _table("", head, rows, words=True)


def left_out(comparison: Comparison, folder: Path) -> str:
    """Runs that were found and are not in the comparison, with the reason."""
    rows = [
        [_link(out.run.path, folder, str(out.run.path)), escape(out.reason)]
        for out in comparison.left_out
    ]
    rows += [
        [_link(broken.path, folder, str(broken.path)), escape(f"damaged: {broken.reason}")]
        for broken in comparison.broken
    ]
    if not rows:
        return "<p>Nothing: every run that was found is compared.</p>"
    count = f"<p>{escape(describe_left_out(comparison))}.</p>"
    return count + _table("", ("run", "reason"), rows, words=True)


def _link(target: Path, folder: Path, text: str) -> str:
    path = os.path.relpath(target.resolve(), folder.resolve())
    return f'<a href="{escape(quote(path))}">{escape(text)}</a>'


def _wandb(run: Run) -> str:
    url = str(run.state.wandb.get("url") or "")
    if url.startswith(("https://", "http://")):
        return f'<a href="{escape(url)}" rel="noreferrer">{escape(url.rpartition("/")[2])}</a>'
    return escape(str(run.state.wandb.get("mode") or "not tracked"))


def _group(standing: GroupResult, look_of: dict[str, GroupStyle]) -> str:
    return chip(look_of[standing.group.name]) + escape(standing.group.label)


def _table(
    caption: str, head: Sequence[str], rows: Iterable[Sequence[str]], *, words: bool = False
) -> str:
    top = "".join(f"<th>{name}</th>" for name in head)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    title = f'<p class="caption">{caption}</p>' if caption else ""
    kind = ' class="words"' if words else ""
    return (
        f'{title}<div class="wide"><table{kind}><thead><tr>{top}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _lines(text: str) -> str:
    first, _, second = text.partition("\n")
    return f"{escape(first)}<br><small>{escape(second)}</small>" if second else escape(first)


def _if(condition: bool, text: str) -> str:
    return text if condition else ""
