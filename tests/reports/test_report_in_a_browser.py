"""The page in a real Chromium: nothing runs, nothing is fetched, it plays, and it can be read on a phone."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from mondegreen.monitoring.tracker import MetadataTracker
from mondegreen.records import RegisteredVersion
from mondegreen.reports.monitor_page import write_page as write_monitor
from mondegreen.reports.outputs import StageOutputs
from mondegreen.reports.validation import find, write_page
from mondegreen.scoring.verdict import Look
from tests.browser import PHONE, launch, low_contrast, scrolls_sideways, visit
from tests.monitoring.inferences import NOW, insert_rows, service

DESK = {"width": 1200, "height": 900}
pytestmark = pytest.mark.xdist_group("browser")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with launch() as found:
        yield found


@pytest.fixture(scope="module")
def page(outputs: StageOutputs) -> Path:
    """A page with all that a page can have, the warning and a name without a space among it."""
    looked = outputs.verdict.model_copy(update={"llm_references": 3, "look": Look(number=2, before=1, alpha=0.0125)})
    version = RegisteredVersion(
        name="a" * 80, version=1, stage="Staging", alias="challenger", outcome="pass", run_id="r", digest="new", uri="u"
    )
    path = outputs.project / "build" / "validate" / "report.html"
    write_page(path, find(replace(outputs, verdict=looked, registered=version)))
    return path


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("viewport", [PHONE, DESK], ids=["phone", "desk"])
def test_it_fits_it_can_be_read_and_nothing_leaves_it(
    browser: Any, page: Path, viewport: dict[str, int], dark: bool
) -> None:
    with visit(browser, page.as_uri(), viewport=viewport, dark=dark) as opened:
        opened.page.wait_for_load_state("networkidle")
        assert opened.requests == [page.as_uri()] and opened.errors == []
        assert scrolls_sideways(opened.page) == [] and low_contrast(opened.page) == []


@pytest.mark.parametrize("viewport", [PHONE, DESK], ids=["phone", "desk"])
def test_the_monitors_page_is_read_on_a_phone_without_turning_it(
    browser: Any, tmp_path: Path, viewport: dict[str, int]
) -> None:
    tracker = MetadataTracker(tmp_path)
    insert_rows(tracker, service(range(9), 40, model_version="a" * 64) + service(range(3), 40, model_version="b"))
    write_monitor(tmp_path / "page.html", tracker.monitor(timedelta(days=2), send=False, now=NOW))
    with visit(browser, (tmp_path / "page.html").as_uri(), viewport=viewport) as opened:
        assert opened.errors == [] and scrolls_sideways(opened.page) == [] and low_contrast(opened.page) == []
        wide = "[...document.querySelectorAll('.wide')].filter(box => box.scrollWidth > box.clientWidth).length"
        assert opened.page.evaluate(wide) == 0
        assert opened.page.get_by_text("real-time factor").count() == 1
        shown = "getComputedStyle(document.querySelector('[data-is=errors]'), '::before').content"
        assert ("errors" in opened.page.evaluate(shown)) == (viewport == PHONE)


def test_what_people_said_does_not_run(browser: Any, page: Path) -> None:
    with visit(browser, page.as_uri()) as opened:
        assert opened.page.title() == "pass – validation report"
        assert opened.page.evaluate("document.scripts.length + document.images.length") == 0
        assert "script" in opened.page.inner_text("body")


def test_should_markup_get_in_the_page_forbids_it_to_run(browser: Any, page: Path) -> None:
    bad = page.with_name("bad.html")
    bad.write_text(page.read_text(encoding="utf-8").replace("</body>", "<script>document.title = 1</script></body>"))
    with visit(browser, bad.as_uri()) as opened:
        assert opened.page.title() == "pass – validation report"
        assert any("Content Security Policy" in error for error in opened.errors)


def test_the_recordings_decode(browser: Any, page: Path) -> None:
    with visit(browser, page.as_uri()) as opened:
        opened.page.wait_for_function("[...document.querySelectorAll('audio')].every(a => a.readyState > 0 || a.error)")
        found = opened.page.evaluate("[...document.querySelectorAll('audio')].map(a => [a.duration, a.error])")
        assert len(found) == 3 and all(abs(length - 0.5) < 0.1 and error is None for length, error in found)
        played = opened.page.evaluate("document.querySelector('audio').play().then(() => true)")
        assert played is True


def test_contents_lead_to_their_sections(browser: Any, page: Path) -> None:
    with visit(browser, page.as_uri()) as opened:
        lost = opened.page.evaluate(
            "[...document.querySelectorAll('nav a')].filter(a => !document.querySelector(a.hash)).length"
        )
        assert lost == 0 and opened.page.locator("nav a").count() == 10


def test_on_paper_it_is_dark_on_light(browser: Any, page: Path) -> None:
    with visit(browser, page.as_uri(), viewport=DESK, dark=True) as opened:
        opened.page.emulate_media(media="print")
        assert opened.page.evaluate("getComputedStyle(document.body).color") == "rgb(0, 0, 0)"
        assert not opened.page.locator("audio").first.is_visible()


def test_the_checks_themselves_see_what_is_wrong(browser: Any, tmp_path: Path) -> None:
    bad = tmp_path / "bad.html"
    bad.write_text("<body style='background:#fff'><p style='color:#aaa'>pale</p><div style='width:900px'>wide</div>")
    with visit(browser, bad.as_uri()) as opened:
        assert "pale" in low_contrast(opened.page)[0] and "wide" in scrolls_sideways(opened.page)[0]
