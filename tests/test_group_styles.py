"""What schedulers are called and how they are drawn, whatever they are compared with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from accelerando.compare.groups import group
from accelerando.compare.load import Run, flatten
from accelerando.compare.names import NamePart, scheduler_part
from accelerando.composition import compose_runs
from accelerando.plotting import _COLOURS, _OTHERS, group_colours, group_styles
from accelerando.runs.folder import State, Status
from accelerando.schedule.cases import CASES
from helpers import ROOT
from made_runs import runs, write

NORMS = [1.0, 0.5, 0.2]
SHIPPED = ",".join(
    path.relative_to(ROOT / "conf" / "scheduler").with_suffix("").as_posix()
    for folder in (".", "control", "extra")
    for path in sorted((ROOT / "conf" / "scheduler" / folder).glob("*.yaml"))
)
"""Every scheduler with a name of its own."""
PUBLISHED = ",".join(
    f"published/{path.stem}" for path in (ROOT / "conf/scheduler/published").glob("*.yaml")
)


def composed(*words: str) -> list[Run]:
    """Runs with the settings that train.py would give them, and nothing measured."""
    found = []
    for config in compose_runs(words):
        state = State(Status.FINISHED, "", "", "", config.scheduler.name, 0, config.epochs, 0)
        found.append(Run(Path(), Status.FINISHED, state, flatten(dict(config.tree))))
    return found


def part(run: Run) -> NamePart:
    return scheduler_part(run.config, run.state.epochs)


@pytest.mark.parametrize("epochs", [1, 20, 300])
def test_what_is_usual_is_what_our_schedulers_are(epochs: int) -> None:
    for run in composed(f"scheduler={SHIPPED}", f"epochs={epochs}"):
        found, name = part(run), run.state.scheduler
        cosines = [f"WarmupCosine learning_rate.peak={peak}" for peak in (0.2, 0.5)]
        told = {"small_increase": ["learning_rate.final=1.0"], "small_warmup": cosines}
        assert found.name in (name, *(f"{name} {words}" for words in told.get(name, ())))
        if name in CASES:
            assert found.label == CASES[name].label


@pytest.mark.parametrize(
    ("words", "label"),
    [("scheduler=published/iv_constant_1.0", "(iv) warm-up constant, peak 1.0"),
     ("scheduler=published/iv_constant_1.0 scheduler.learning_rate.peak=1",
      "(iv) warm-up constant, peak 1.0"),
     ("scheduler=published/iv_cosine_0.2", "(iv) warm-up cosine, peak 0.2"),
     ("scheduler=published/i_linear", "(i) linear"),
     ("scheduler=decay_increase scheduler/batch_size=linear", "(ii) linear batch, cosine"),
     ("scheduler=decay_constant scheduler.batch_size.initial=64", "(i) cosine, batch initial 64"),
     ("scheduler=increase_increase scheduler.batch_size.interval=7",
      "(iii) exponential, batch interval 7"),
     ("scheduler=control/small_increase_1.0", "small_increase, rate final 1.0"),
     ("scheduler=decay_increase scheduler.name=mine",
      "mine: exponential batch, cosine rate")],
)  # fmt: skip
def test_a_scheduler_says_what_it_departs_in(words: str, label: str) -> None:
    (run,) = composed(*words.split())
    assert part(run).label == label


def test_a_name_does_not_depend_on_the_company(tmp_path: Path) -> None:
    high = {"scheduler.learning_rate.peak": 1.0}
    write(tmp_path, NORMS, scheduler="warmup_increase", settings=high)
    (alone,) = group(runs(tmp_path))
    write(tmp_path, NORMS, scheduler="warmup_increase")
    write(tmp_path, NORMS)
    together = {part.name: part.label for part in group(runs(tmp_path))}
    assert alone.name == "warmup_increase learning_rate.peak=1.0"
    assert alone.label == together[alone.name] == "(iv) warm-up constant, peak 1.0"
    every = group_styles(list(together))
    assert every[alone.name] == group_styles([alone.name])[alone.name]
    assert every["warmup_increase"].colour == every[alone.name].colour
    assert every["warmup_increase"] != every[alone.name]


def test_the_published_shapes_of_a_case_are_told_apart() -> None:
    every = [part(run).name for run in composed(f"scheduler={PUBLISHED}", "epochs=300")]
    together = group_styles([*every, *CASES])
    assert len(set(together.values())) == len(together)
    for name in every:
        # the shapes with other factors are the only ones without a mark of their own
        assert group_styles([name])[name] == together[name] or "growth" in name


def test_a_scheduler_has_its_colour_in_every_figure() -> None:
    names = [*CASES, "extra", "mine", "decay_constant Linear", "yours"]
    together = group_colours(names)
    assert len({together[name] for name in names}) == len(names) - 1
    assert together["decay_constant Linear"] == together["decay_constant"]
    assert (
        group_colours(["scheduler.name=decay_constant"]).popitem()[1] == together["decay_constant"]
    )
    assert group_styles(list(reversed(names))) == group_styles(names)
    assert group_colours(["mine"])["mine"] == group_colours(["mine", *CASES])["mine"]
    many = [f"scheduler{number}" for number in range(50)]
    assert len(set(group_styles(many).values())) == len(many)


def test_every_scheduler_of_ours_has_one_colour_whatever_it_is_drawn_with() -> None:
    ours = {run.state.scheduler for run in composed(f"scheduler={SHIPPED}")}
    together = group_colours(sorted(ours))
    assert len({together[name] for name in ours}) == len(ours)
    for name in ours:
        assert (
            group_colours([name])[name]
            == group_colours([name, "mine", "yours"])[name]
            == together[name]
        )


def test_the_cases_are_told_apart_without_colour() -> None:
    assert len({look.dash for look in group_styles(list(CASES)).values()}) == len(CASES)


def test_colours_are_told_apart_by_colour_blind_readers() -> None:
    """As a reader without red or green receptors sees them (Viénot 1999), in CIELAB."""
    from matplotlib.colors import to_rgb

    lms = np.array([[17.8824, 43.5161, 4.11935], [3.45565, 27.1554, 3.86714],
                    [0.0299566, 0.184309, 1.46709]])  # fmt: skip
    without_red = np.array([[0, 2.02344, -2.52581], [0, 1, 0], [0, 0, 1]])
    without_green = np.array([[1, 0, 0], [0.494207, 0, 1.24827], [0, 0, 1]])
    every = np.array([to_rgb(colour) for colour in (*_COLOURS, *_OTHERS)])
    linear = np.where(every <= 0.04045, every / 12.92, ((every + 0.055) / 1.055) ** 2.4)
    for lacking in (np.eye(3), without_red, without_green):
        seen = lab(np.clip(np.linalg.inv(lms) @ lacking @ lms @ linear.T, 0, 1))
        apart = np.linalg.norm(seen[:, None] - seen[None], axis=-1)
        assert apart[~np.eye(len(every), dtype=bool)].min() > 12


def lab(linear: np.ndarray) -> np.ndarray:
    """CIELAB of linear sRGB, shape (3, colours): a distance of 2 is just seen."""
    xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722],
                    [0.0193, 0.1192, 0.9505]]) @ linear  # fmt: skip
    x, y, z = xyz / np.array([[0.9505], [1], [1.089]])
    root = [np.where(v > 0.008856, np.cbrt(v), 7.787 * v + 16 / 116) for v in (x, y, z)]
    return np.stack(
        [116 * root[1] - 16, 500 * (root[0] - root[1]), 200 * (root[1] - root[2])], axis=1
    )
