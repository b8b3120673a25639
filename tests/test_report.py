"""The report in a real browser without a network: figures, controls, print, and safe HTML."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from accelerando.compare import report as report_package
from accelerando.compare.report import render, write_report
from chromium import Browser, browser, find_chromium
from synthetic_runs import compare_runs, load, write_run

LINES = (
    "[...document.querySelectorAll('#figure-{} .js-line')]"
    ".filter(line => line.style.strokeWidth !== '0px').length"
)
"""Number of lines drawn in a figure; the bands have edges without a width."""
FIRST_LINE = (
    "document.querySelector('#figure-norm .plot').data.find(trace => !trace.fill).{}.join(' ')"
)
VENDOR = Path(report_package.__file__).parent / "vendor"


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three schedulers with different steps per epoch, so that the best depends on the axis."""
    root = tmp_path_factory.mktemp("report") / "runs"
    decays = {
        "decay_constant": (10, 0.8),
        "decay_increase": (40, 0.7),
        "warmup_increase": (20, 0.6),
    }
    for name, (steps, rate) in decays.items():
        for seed in range(3):
            norms = [rate**k * (1 + 0.1 * seed + 0.8 * (k == 4)) for k in range(12)]
            write_run(root, norms, scheduler=name, seed=seed, steps=steps)
    write_report(compare_runs(root), root / "report.html")
    return root / "report.html"


@pytest.fixture(scope="module")
def opened(report: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(tmp_path_factory.mktemp("browser")) as page:
        page.open(report)
        yield page


def visible_texts(page: Browser, selector: str) -> list[str]:
    texts: list[str] = page.evaluate(
        f"[...document.querySelectorAll('{selector}')].filter(e => e.offsetParent)"
        ".map(e => e.innerText)"
    )
    return texts


def plot_box(page: Browser, figure: str) -> tuple[float, float, float, float]:
    """Scroll to a figure and return left, top, width and height of its plot in the window."""
    x, y, width, height = page.evaluate(
        f"(() => {{ const plot = document.querySelector('#figure-{figure} .plot');"
        "plot.scrollIntoView({block: 'center'}); const r = plot.getBoundingClientRect();"
        "return [r.x, r.y, r.width, r.height]; })()"
    )
    return x, y, width, height


def test_all_figures_are_drawn(opened: Browser) -> None:
    for name in ("norm", "batch", "rate", "loss", "accuracy"):
        assert opened.evaluate(LINES.format(name)) == 3, name
    markers = "document.querySelector('#figure-{} .plot').data.flatMap(trace => trace.{}).length"
    assert opened.evaluate(markers.format("ratios", "x")) == 2 * (3 + 1)
    assert opened.evaluate("document.querySelectorAll('#figure-ratios .point').length") == 8
    assert opened.evaluate("document.querySelectorAll('#figure-speedups .point').length") > 0
    assert not opened.evaluate("document.body.innerText.match(/NaN|undefined|Infinity|null/)")
    assert not opened.evaluate(
        "document.getElementById('figures').innerHTML.match(/NaN|undefined/)"
    )


def test_the_axis_switch_changes_answer_tables_and_figures(opened: Browser) -> None:
    (before,) = visible_texts(opened, ".answer")
    drawn = opened.evaluate(FIRST_LINE.format("x"))
    tables = visible_texts(opened, "main table")
    assert before.startswith("At equal epochs (11), (iv) ")
    opened.click("input[value=steps] + span")
    (after,) = visible_texts(opened, ".answer")
    assert after.startswith("At equal steps (110), ")
    assert opened.evaluate(FIRST_LINE.format("x")) != drawn
    assert visible_texts(opened, "main table") != tables
    assert len(visible_texts(opened, "main table")) == len(tables)
    assert opened.evaluate("document.querySelector('#figure-norm .xtitle').textContent") == "steps"
    opened.click("input[value=epochs] + span")
    assert visible_texts(opened, ".answer") == [before]
    assert visible_texts(opened, "main table") == tables


def test_the_norm_and_the_groups_can_be_switched(opened: Browser) -> None:
    before = opened.evaluate(FIRST_LINE.format("y"))
    opened.click("input[value=raw] + span")
    assert opened.evaluate(FIRST_LINE.format("y")) != before
    opened.click("input[value=norm] + span")
    assert opened.evaluate(FIRST_LINE.format("y")) == before
    opened.click("#groups label")
    assert opened.evaluate(LINES.format("norm")) == opened.evaluate(LINES.format("loss")) == 2
    opened.click("#groups label")
    assert opened.evaluate(LINES.format("norm")) == opened.evaluate(LINES.format("loss")) == 3


def test_hovering_shows_the_values_of_all_curves(opened: Browser) -> None:
    left, top, width, height = plot_box(opened, "norm")
    opened.move(left + width - 18, top + height / 2)
    label = "document.querySelector('#figure-norm .hoverlayer').textContent"
    text = opened.evaluate(label)
    assert text.startswith("epochs 11")
    assert re.findall(r"\((i+|iv)\)", text) == ["i", "ii", "iv"]  # the largest norm first
    opened.move(1, 1)
    assert opened.evaluate(label) == ""


def test_dragging_zooms_and_a_hidden_group_keeps_the_zoom(opened: Browser) -> None:
    x_range = "document.querySelector('#figure-norm .plot').layout.xaxis.range"
    full = opened.evaluate(x_range)
    left, top, width, height = plot_box(opened, "norm")
    opened.drag(left + 0.4 * width, top + height / 2, left + 0.6 * width, top + height / 2)
    zoomed = opened.evaluate(x_range)
    assert full[0] < zoomed[0] < zoomed[1] < full[1]
    opened.click("#groups label")
    assert opened.evaluate(x_range) == zoomed
    opened.click("#groups label")
    opened.click("#figure-norm [data-title='Reset axes']")
    assert opened.evaluate(x_range) == full


def test_the_exported_image_has_a_title_and_a_legend(opened: Browser) -> None:
    figure = "exported(document.querySelector('#figure-norm .plot'))"
    svg = opened.evaluate(
        f"Plotly.toImage({figure}, {{format: 'svg', width: 900, height: 400}})"
        ".then(url => decodeURIComponent(url))"
    )
    assert "Full gradient norm, minimum so far" in svg
    assert "(iv) increasing batch, warm-up rate" in svg
    url = opened.evaluate(f"Plotly.toImage({figure}, {{format: 'png', width: 900, height: 400}})")
    png = base64.b64decode(url.removeprefix("data:image/png;base64,"))
    assert png.startswith(b"\x89PNG")
    assert int.from_bytes(png[16:20]) == 900
    titles = "[...document.querySelectorAll('.modebar-btn')].map(e => e.dataset.title)"
    assert "Download as PNG" in opened.evaluate(titles)


def test_no_button_uploads_a_chart(opened: Browser) -> None:
    buttons = opened.evaluate("document.querySelector('.modebar').outerHTML")
    assert not re.search(r"share|cloud|logo", buttons, re.IGNORECASE)


@pytest.mark.parametrize("width", [320, 390, 768, 1440])
def test_nothing_is_wider_than_the_screen(opened: Browser, width: int) -> None:
    opened.resize(width, 800)
    assert opened.evaluate("document.documentElement.scrollWidth") <= width
    figure = opened.evaluate("document.querySelector('#figure-norm .main-svg').clientWidth")
    assert figure > 0.8 * width - 300
    opened.resize(1200, 900)


def test_it_prints(opened: Browser, tmp_path: Path) -> None:
    opened.call("Emulation.setEmulatedMedia", media="print")
    opened.settle()
    assert visible_texts(opened, ".segments input:not(:checked) + span") == []
    assert opened.evaluate(LINES.format("norm")) == 3
    opened.call("Emulation.setEmulatedMedia", media="")
    opened.resize(1440, 900)
    width = "document.querySelector('#figure-norm .main-svg').clientWidth"
    on_screen = opened.evaluate(width)
    # drawn as wide as the paper, so that its text keeps its size
    opened.evaluate(f"addEventListener('beforeprint', () => {{ window.onPaper = {width} }})")
    opened.print(tmp_path / "report.pdf")
    assert (tmp_path / "report.pdf").read_bytes().startswith(b"%PDF")
    assert 600 < opened.evaluate("window.onPaper") < 700 < on_screen
    assert opened.evaluate(width) == on_screen
    opened.resize(1200, 900)


def test_the_page_makes_no_requests_and_logs_no_errors(opened: Browser, report: Path) -> None:
    """Last of the tests of this page, so that it covers what the others did."""
    assert {url for url in opened.requests if not url.startswith(("blob:", "data:"))} == {
        report.resolve().as_uri()
    }
    assert opened.errors == []


def test_markup_in_files_stays_text(tmp_path: Path) -> None:
    """Names that contain HTML, the end of a script, and template syntax."""
    evil = "</script><img src=x onerror=alert(1)>{{style}}<b>bold</b>"
    write_run(tmp_path, [1.0, 0.5], scheduler="decay_constant", overrides=[evil],
          wandb={"url": "javascript:alert(1)"}, settings={"scheduler.name": evil})  # fmt: skip
    write_run(tmp_path, [1.0, 0.4], scheduler="mine")
    text = render(compare_runs(tmp_path), tmp_path)
    assert "<img" not in text
    assert "javascript:alert" not in text
    assert text.count("</script>") == 3
    assert text.count("{{style}}") > 1
    write_report(compare_runs(tmp_path), tmp_path / "report.html")
    with browser(tmp_path) as page:
        page.open(tmp_path / "report.html")
        assert page.errors == []
        assert page.evaluate(LINES.format("norm")) == 2
        left, top, width, height = plot_box(page, "norm")
        page.move(left + width - 18, top + height / 2)
        hover = page.evaluate("document.querySelector('#figure-norm .hoverlayer').textContent")
        assert "<b>bold</b>" in hover
        assert page.evaluate("document.images.length") == 0


def test_runs_link_to_their_settings_and_wandb(tmp_path: Path) -> None:
    url = "https://wandb.ai/me/accelerando/runs/abc"
    folder = write_run(tmp_path / "my runs", [1.0, 0.5], wandb={"url": url, "mode": "online"})
    out = write_run(tmp_path / "my runs", [1.0, 0.5], seed=1, status="diverged", message="a & b")
    comparison = compare_runs(tmp_path)
    assert len(load(tmp_path)) == 2
    text = render(comparison, tmp_path)
    relative = folder.relative_to(tmp_path).as_posix().replace(" ", "%20")
    assert f'href="{relative}/config.yaml"' in text
    assert f'href="{url}"' in text
    assert out.exists()


def test_the_table_counts_the_seeds_in_which_a_group_beats_the_best(tmp_path: Path) -> None:
    for seed, norms in enumerate(((0.9, 0.1), (0.4, 0.1), (0.2, 0.3))):
        for name, norm in zip(("decay_constant", "warmup_increase"), norms, strict=True):
            write_run(tmp_path, [1.0, norm], scheduler=name, seed=seed)
    text = render(compare_runs(tmp_path), tmp_path)
    assert "<td>1 of 3<br>" in text
    assert "2 of 3<br>" not in text


def test_it_opens_on_the_chosen_axis_and_norm(tmp_path: Path) -> None:
    for name, steps in (("decay_constant", 10), ("warmup_increase", 20)):
        write_run(tmp_path, [1.0, 0.4, 0.6], scheduler=name, steps=steps)
    write_report(compare_runs(tmp_path), tmp_path / "report.html", axis="steps", raw=True)
    with browser(tmp_path) as page:
        page.open(tmp_path / "report.html")
        assert page.evaluate("document.querySelector('input[name=axis]:checked').value") == "steps"
        assert visible_texts(page, ".answer")[0].startswith("At equal steps (20), ")
        assert "as measured" in visible_texts(page, "#figure-norm figcaption")[0]
        assert (
            page.evaluate("document.querySelector('#figure-norm .xtitle').textContent") == "steps"
        )
        assert page.errors == []


def test_the_report_is_small_apart_from_plotly(report: Path) -> None:
    plotly = (VENDOR / "plotly-basic.min.js").stat().st_size
    assert report.stat().st_size < plotly + 100_000


def test_plotly_is_the_published_file() -> None:
    digest = hashlib.sha256((VENDOR / "plotly-basic.min.js").read_bytes()).hexdigest()
    assert f"`{digest}`" in (VENDOR / "README.md").read_text()


def test_missing_browser_skips_unless_it_is_required(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("ACCELERANDO_REQUIRE", "slurm")
    with pytest.raises(pytest.skip.Exception, match="apt install chromium"):
        find_chromium()
    monkeypatch.setenv("ACCELERANDO_REQUIRE", "slurm,chromium")
    with pytest.raises(pytest.fail.Exception, match="apt install chromium"):
        find_chromium()
