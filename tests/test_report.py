"""The report in a real browser: drawn, switched, printed, and silent towards the network."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from accelerando.compare.report import page, write_report
from chromium import Browser, browser, required
from made_runs import compared, runs, write

LINES = "document.querySelectorAll('#figure-{} path.line').length"


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three schedulers with other steps in an epoch, so that the winner depends on the axis."""
    root = tmp_path_factory.mktemp("report") / "runs"
    fall = {"decay_constant": (10, 0.8), "decay_increase": (40, 0.7), "warmup_increase": (20, 0.6)}
    for name, (steps, rate) in fall.items():
        for seed in range(3):
            norms = [rate**k * (1 + 0.1 * seed + 0.8 * (k == 4)) for k in range(12)]
            write(root, norms, scheduler=name, seed=seed, steps=steps)
    write_report(compared(root), root / "report.html")
    return root / "report.html"


@pytest.fixture(scope="module")
def opened(report: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(tmp_path_factory.mktemp("browser")) as found:
        found.open(report)
        yield found


def shown(found: Browser, selector: str) -> list[str]:
    """Text of the elements that a reader sees."""
    texts: list[str] = found.ask(
        f"[...document.querySelectorAll('{selector}')].filter(e => e.offsetParent)"
        ".map(e => e.innerText)"
    )
    return texts


def test_figures_are_drawn(opened: Browser) -> None:
    for name in ("norm", "batch", "rate", "loss", "accuracy"):
        assert opened.ask(LINES.format(name)) == 3, name
    assert opened.ask(LINES.format("speed")) == 2
    assert opened.ask("document.querySelectorAll('#figure-ratios .mean').length") == 2
    assert opened.ask("document.querySelectorAll('#figure-ratios circle').length") == 6
    assert not opened.ask("document.body.innerText.match(/NaN|undefined|Infinity|null/)")
    assert not opened.ask("document.getElementById('figures').innerHTML.match(/NaN|undefined/)")


def test_the_switch_changes_words_tables_and_figures(opened: Browser) -> None:
    (before,) = shown(opened, ".answer")
    drawn = opened.ask("document.querySelector('#figure-norm path.line').getAttribute('d')")
    tables = shown(opened, "main table")
    assert before.startswith("At equal epochs (11) (iv) ")
    opened.click("input[value=steps] + span")
    (after,) = shown(opened, ".answer")
    assert after.startswith("At equal steps (110) ")
    assert opened.ask("document.querySelector('#figure-norm path.line').getAttribute('d')") != drawn
    assert shown(opened, "main table") != tables
    assert len(shown(opened, "main table")) == len(tables)
    label = "document.querySelector('#figure-norm svg').textContent"
    assert "steps" in opened.ask(label)
    opened.click("input[value=epochs] + span")
    assert shown(opened, ".answer") == [before]
    assert shown(opened, "main table") == tables


def test_raw_and_groups_can_be_switched(opened: Browser) -> None:
    first = "document.querySelector('#figure-norm path.line').getAttribute('d')"
    before = opened.ask(first)
    opened.click("input[value=raw] + span")
    assert opened.ask(first) != before
    opened.click("input[value=norm] + span")
    assert opened.ask(first) == before
    opened.click("#legend label")
    assert opened.ask(LINES.format("norm")) == 2
    opened.click("#legend label")
    assert opened.ask(LINES.format("norm")) == 3


def test_the_pointer_reads_values(opened: Browser) -> None:
    opened.ask("document.querySelector('#figure-norm svg').scrollIntoView({block: 'center'})")
    x, y = opened.ask(
        "(() => { const r = document.querySelector('#figure-norm svg').getBoundingClientRect();"
        "return [r.x + r.width - 14, r.y + r.height / 2]; })()"
    )
    opened.move(x, y)
    lines = opened.ask("document.querySelector('#figure-norm .tip').innerText").splitlines()
    assert lines[0] == "epochs 11"
    assert [re.sub(r".*(\(\w+\)).*", r"\1", line) for line in lines[1:]] == ["(iv)", "(ii)", "(i)"]
    opened.move(1, 1)
    assert not opened.ask("document.querySelector('#figure-norm .tip')")


@pytest.mark.parametrize("width", [320, 390, 768, 1440])
def test_nothing_is_wider_than_the_screen(opened: Browser, width: int) -> None:
    opened.size(width, 800)
    assert opened.ask("document.documentElement.scrollWidth") <= width
    assert opened.ask("document.querySelector('#figure-norm svg').clientWidth") > 0.8 * width - 300
    opened.size(1200, 900)


def test_it_prints(opened: Browser, tmp_path: Path) -> None:
    opened.call("Emulation.setEmulatedMedia", media="print")
    opened.settle()
    assert shown(opened, ".segments input:not(:checked) + span") == []
    assert opened.ask(LINES.format("norm")) == 3
    opened.call("Emulation.setEmulatedMedia", media="")
    opened.size(1440, 900)
    drawn = "+document.querySelector('#figure-norm svg').getAttribute('viewBox').split(' ')[2]"
    wide = opened.ask(drawn)
    # what is drawn for the paper is as wide as its text, so that its text keeps its size
    opened.ask(f"addEventListener('beforeprint', () => {{ window.paper = {drawn} }})")
    opened.print(tmp_path / "report.pdf")
    assert (tmp_path / "report.pdf").read_bytes().startswith(b"%PDF")
    assert 600 < opened.ask("window.paper") < 700 < wide
    assert opened.ask(drawn) == wide
    opened.size(1200, 900)


def test_nothing_leaves_the_page_and_nothing_is_complained_about(
    opened: Browser, report: Path
) -> None:
    """Last in the file: after all that the other tests did."""
    assert opened.requests == [report.resolve().as_uri()]
    assert opened.errors == []


def test_what_comes_from_files_stays_text(tmp_path: Path) -> None:
    """Names with marks of HTML, of a script's end, and of the page's own template."""
    evil = "</script><img src=x onerror=alert(1)>{{style}}"
    write(tmp_path, [1.0, 0.5], scheduler="decay_constant", overrides=[evil],
          wandb={"url": "javascript:alert(1)"}, settings={"scheduler.name": evil})  # fmt: skip
    write(tmp_path, [1.0, 0.4], scheduler="mine")
    text = page(compared(tmp_path), tmp_path)
    assert "<img" not in text
    assert "javascript:" not in text
    assert text.count("</script>") == 2
    assert text.count("{{style}}") > 1
    write_report(compared(tmp_path), tmp_path / "report.html")
    with browser(tmp_path) as found:
        found.open(tmp_path / "report.html")
        assert found.errors == []
        assert found.ask(LINES.format("norm")) == 2


def test_runs_are_linked_with_their_settings_and_wandb(tmp_path: Path) -> None:
    url = "https://wandb.ai/me/accelerando/runs/abc"
    folder = write(tmp_path / "my runs", [1.0, 0.5], wandb={"url": url, "mode": "online"})
    out = write(tmp_path / "my runs", [1.0, 0.5], seed=1, status="diverged", message="a & b")
    comparison = compared(tmp_path)
    assert len(runs(tmp_path)) == 2
    text = page(comparison, tmp_path)
    relative = folder.relative_to(tmp_path).as_posix().replace(" ", "%20")
    assert f'href="{relative}/config.yaml"' in text
    assert f'href="{url}"' in text
    assert out.exists()


def test_the_table_counts_the_seeds_in_which_a_group_beats_the_best(tmp_path: Path) -> None:
    for seed, norms in enumerate(((0.9, 0.1), (0.4, 0.1), (0.2, 0.3))):
        for name, norm in zip(("decay_constant", "warmup_increase"), norms, strict=True):
            write(tmp_path, [1.0, norm], scheduler=name, seed=seed)
    text = page(compared(tmp_path), tmp_path)
    assert "<td>1 of 3<br>" in text
    assert "2 of 3<br>" not in text


def test_it_opens_on_what_was_asked_for(tmp_path: Path) -> None:
    for name, steps in (("decay_constant", 10), ("warmup_increase", 20)):
        write(tmp_path, [1.0, 0.4, 0.6], scheduler=name, steps=steps)
    write_report(compared(tmp_path), tmp_path / "report.html", axis="steps", raw=True)
    with browser(tmp_path) as found:
        found.open(tmp_path / "report.html")
        assert found.ask("document.querySelector('input[name=axis]:checked').value") == "steps"
        assert shown(found, ".answer")[0].startswith("At equal steps (20) ")
        assert "as measured" in shown(found, "#figure-norm figcaption")[0]
        assert "steps" in found.ask("document.querySelector('#figure-norm svg').textContent")
        assert found.errors == []


def test_it_is_small(report: Path) -> None:
    assert report.stat().st_size < 100_000


def test_missing_browser_skips_unless_it_is_required(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("ACCELERANDO_REQUIRE", "slurm")
    with pytest.raises(pytest.skip.Exception, match="apt install chromium"):
        required()
    monkeypatch.setenv("ACCELERANDO_REQUIRE", "slurm,chromium")
    with pytest.raises(pytest.fail.Exception, match="apt install chromium"):
        required()
