"""Styles of groups: the same in every figure, distinct, and legible to colour-blind readers."""

from __future__ import annotations

import numpy as np

from accelerando.packaged_schedulers import scheduler_files
from accelerando.plotting import PALETTE, group_colours, group_styles
from accelerando.scheduler_names import display_values, scheduler_name

CASES = ["decay_constant", "decay_increase", "increase_increase", "warmup_increase"]


def packaged_names() -> list[str]:
    """Names of all packaged schedulers and their variants."""
    files = [{f"scheduler.{k}": v for k, v in file.items()} for file in scheduler_files()]
    return [scheduler_name(file, epochs=300).name for file in files]


def test_packaged_variants_have_distinct_styles() -> None:
    tuned = {
        "decay_constant Constant learning_rate.initial=1.0",
        "decay_constant Constant batch_size.initial=40 learning_rate.initial=1.0",
        "decay_constant batch_size.initial=16 learning_rate.initial=0.5",
        "decay_increase Constant learning_rate.initial=0.2",
        "increase_increase learning_rate.final=2.0",
        "warmup_increase learning_rate.peak=0.2",
    }
    packaged = {name for name in packaged_names() if name.partition(" ")[0] in CASES}
    assert tuned < packaged
    names = sorted(packaged - tuned)
    styles = group_styles(names)
    assert len(names) == 21
    assert len(set(styles.values())) == len(names)
    for name in names:
        # only the variants with other growth factors have no marker of their own
        assert group_styles([name])[name] == styles[name] or "growth" in name


def test_colour_of_a_scheduler_is_the_same_in_every_figure() -> None:
    names = [*CASES, "extra", "mine", "decay_constant Linear", "yours"]
    colours = group_colours(names)
    assert len({colours[name] for name in names}) == len(names) - 1
    assert colours["decay_constant Linear"] == colours["decay_constant"]
    by_name = "scheduler.name=decay_constant"
    assert group_colours([by_name])[by_name] == colours["decay_constant"]
    assert group_colours(["mine"])["mine"] == group_colours(["mine", *CASES])["mine"]


def test_styles_do_not_depend_on_the_order_of_the_groups() -> None:
    names = [*CASES, "extra", "mine", "decay_constant Linear", "yours"]
    assert group_styles(list(reversed(names))) == group_styles(names)


def test_many_schedulers_have_distinct_styles() -> None:
    names = [f"scheduler{number}" for number in range(50)]
    assert len(set(group_styles(names).values())) == len(names)


def test_packaged_schedulers_have_distinct_colours_of_their_own() -> None:
    names = sorted({name.partition(" ")[0] for name in packaged_names()})
    colours = group_colours(names)
    assert len(set(colours.values())) == len(names)
    for name in names:
        assert group_colours([name, "mine", "yours"])[name] == colours[name]


def test_cases_are_distinct_without_colour() -> None:
    assert len({style.dash for style in group_styles(CASES).values()}) == len(CASES)


def test_colours_are_distinct_for_colour_blind_readers() -> None:
    """Simulate readers without red or green receptors (Viénot 1999) and compare in CIELAB."""
    from matplotlib.colors import to_rgb

    lms = np.array([[17.8824, 43.5161, 4.11935], [3.45565, 27.1554, 3.86714],
                    [0.0299566, 0.184309, 1.46709]])  # fmt: skip
    without_red = np.array([[0, 2.02344, -2.52581], [0, 1, 0], [0, 0, 1]])
    without_green = np.array([[1, 0, 0], [0.494207, 0, 1.24827], [0, 0, 1]])
    colours = sorted({*display_values("colour").values(), *PALETTE})
    rgb = np.array([to_rgb(colour) for colour in colours])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    for vision in (np.eye(3), without_red, without_green):
        seen = to_cielab(np.clip(np.linalg.inv(lms) @ vision @ lms @ linear.T, 0, 1))
        distances = np.linalg.norm(seen[:, None] - seen[None], axis=-1)
        assert distances[~np.eye(len(colours), dtype=bool)].min() > 12


def to_cielab(linear: np.ndarray) -> np.ndarray:
    """Convert linear sRGB, shape (3, colours), to CIELAB, where a distance of 2 is just visible."""
    xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722],
                    [0.0193, 0.1192, 0.9505]]) @ linear  # fmt: skip
    x, y, z = xyz / np.array([[0.9505], [1], [1.089]])
    root = [np.where(v > 0.008856, np.cbrt(v), 7.787 * v + 16 / 116) for v in (x, y, z)]
    return np.stack(
        [116 * root[1] - 16, 500 * (root[0] - root[1]), 200 * (root[1] - root[2])], axis=1
    )
