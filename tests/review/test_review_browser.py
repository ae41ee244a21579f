"""A person before the page, in a real Chromium: hears, corrects by keyboard, reloads, is not alone, has a phone."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import soundfile
from playwright.sync_api import Browser, Page, expect

from mondegreen.cases.store import DataManager
from mondegreen.review.session import ReviewState
from tests.review.browser import chromium, serving
from tests.review.conftest import DOUBLE, HEARD, counts, detailed, says

pytestmark = pytest.mark.xdist_group("chromium")
MakeState = Callable[..., ReviewState]
# What axe-core calls label, button-name, link-name, list, landmark-one-main, page-has-heading-one, duplicate-id-aria,
# aria-valid-attr-value, tabindex, target-size (24 px) and color-contrast, for what these pages use.
_AUDIT = (Path(__file__).parent / "audit.js").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


def clips(store: DataManager, count: int) -> list[str]:
    """Cases with two seconds of a tone each, so that there is something to play."""
    keys = []
    for seed in range(count):
        path = store.folder.parent / f"tone-{seed}.wav"
        soundfile.write(path, np.sin(np.arange(32_000) / (5 + seed)) * 0.3, 16_000)
        keys.append(
            store.store_failed_case(
                path, HEARD, model_version="m", metadata=detailed(), error_types=["low_confidence"], error_score=0.9
            )
        )
    return keys


@contextmanager
def opened(browser: Browser, address: str, *, refusals: int = 0, **options: object) -> Iterator[Page]:
    """A browser of its own; nothing may go wrong in it unnoticed, and nothing may be fetched from elsewhere."""
    context = browser.new_context(**options)  # type: ignore[arg-type]
    page = context.new_page()
    page.set_default_timeout(10_000)
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda line: faults.append(line.text) if line.type == "error" else None)
    page.on("request", lambda asked: None if asked.url.startswith((address, "data:")) else faults.append(asked.url))
    page.goto(address)
    yield page
    context.close()
    refused = [fault for fault in faults if any(f"status of {status}" in fault for status in (403, 409, 422))]
    assert len(refused) == refusals and [fault for fault in faults if fault not in refused] == []


def press(page: Page, key: str) -> None:
    """A key that leads to another page, whose script has run."""
    page.wait_for_selector("body[data-ready]")
    with page.expect_navigation():
        page.keyboard.press(key)


def wait_until(page: Page, condition: str) -> None:
    """Asks from outside: `wait_for_function` asks again with eval, which the page's policy forbids."""
    deadline = time.monotonic() + 30
    while not page.evaluate(condition):
        assert time.monotonic() < deadline, condition
        page.wait_for_timeout(20)


def hear(page: Page) -> None:
    """Plays the clip from its start to its end, as fast as the browser can."""
    clip = page.locator("#audio")
    clip.evaluate("clip => { clip.currentTime = 0; clip.playbackRate = 16; clip.play(); }")
    wait_until(page, "document.querySelector('#hearing').checked")


def shown(page: Page) -> str:
    """The case on the page, whose script has run: a key pressed before that is lost."""
    page.wait_for_selector("body[data-ready]")
    return str(page.get_attribute("#decision", "data-case"))


def test_a_clip_is_played_corrected_by_keyboard_and_undone(
    browser: Browser, store: DataManager, make_state: MakeState
) -> None:
    keys = clips(store, 3)
    with serving(make_state()) as address, opened(browser, address) as page:
        first = shown(page)
        wait_until(page, "document.querySelector('#audio').currentTime > 0.05")  # it plays by itself
        page.keyboard.press("Space")
        assert page.evaluate("document.querySelector('#audio').paused")
        expect(page.locator("#play")).to_have_attribute("aria-label", "Play")
        page.locator("#wave").click(position={"x": 5, "y": 20})
        assert page.evaluate("document.querySelector('#audio').currentTime") < 0.2
        page.keyboard.press("ArrowRight")
        assert 0.4 < page.evaluate("document.querySelector('#audio').currentTime") < 0.8
        page.keyboard.press("l")
        assert page.evaluate("document.querySelector('#audio').playbackRate") == 0.75

        page.keyboard.press("2")
        expect(page.locator("#text")).to_have_value("please hold the line")
        page.keyboard.press("e")
        page.keyboard.type(" for 5 €")
        expect(page.locator("#spelling")).to_contain_text("5 (digit five), € (euro sign)")
        for _ in range(len(" for 5 €")):
            page.keyboard.press("Backspace")
        expect(page.locator("#spelling")).to_have_text("")
        page.keyboard.press("Escape")
        page.keyboard.press("Enter")  # a guess of the machine's, of a clip that was not heard to its end
        expect(page.locator("#said")).to_contain_text("to its end")
        hear(page)
        press(page, "Enter")
        page.keyboard.press("Enter")  # once too often, before anything was heard
        expect(page.locator("#said")).to_have_text("Stored.")
        assert counts(store, first) == ("please hold the line", "manual") and shown(page) != first
        assert store.corrections(first)[0].metadata["chosen"] == "nbest"

        press(page, "u")
        expect(page.locator("#said")).to_contain_text("Taken back")
        assert shown(page) == first and counts(store, first) == (None, None)
        expect(page.locator("#text")).to_have_value("please hold the line")
        press(page, "Enter")
        expect(page.locator("#said")).to_have_text("Stored.")
        press(page, "b")
        expect(page.locator("#said")).to_contain_text("bad audio")
        press(page, "s")
        expect(page.locator("h1")).to_have_text("Nothing waits for you")
    assert sorted(counts(store, key)[1] or "" for key in keys) == ["", "", "manual"]


def test_an_unchanged_text_takes_listening_and_a_key_of_its_own(
    browser: Browser, store: DataManager, make_state: MakeState
) -> None:
    clips(store, 2)
    with serving(make_state()) as address, opened(browser, address) as page:
        first = shown(page)
        for key in ("Enter", "h"):
            page.keyboard.press(key)
            expect(page.locator("#said")).to_contain_text("Nobody has heard this clip to its end")
        hear(page)
        page.keyboard.press("Enter")
        expect(page.locator("#said")).to_contain_text("Was it heard rightly?")
        assert shown(page) == first and counts(store, first) == (None, None)
        page.reload()
        assert shown(page) == first  # what was heard stays heard
        press(page, "h")
        expect(page.locator("#said")).to_have_text("Stored.")
    assert counts(store, first) == (HEARD.lower(), "manual") and store.corrections(first)[0].metadata["heard"]


def test_a_reload_keeps_the_case_and_what_was_written(
    browser: Browser, store: DataManager, make_state: MakeState
) -> None:
    clips(store, 3)
    with serving(make_state()) as address, opened(browser, address, refusals=1) as page:
        first = shown(page)
        page.keyboard.press("e")
        page.keyboard.press("Control+a")
        page.keyboard.type("half a sen")
        page.reload()
        assert shown(page) == first
        expect(page.locator("#text")).to_have_value("half a sen")
        page.keyboard.press("?")
        expect(page.locator("#keys")).to_be_visible()
        page.keyboard.press("Escape")
        expect(page.locator("#keys")).to_be_hidden()
        page.keyboard.press("e")
        page.keyboard.press("Alt+1")  # keys of their own in the field
        expect(page.locator("#text")).to_have_value(HEARD.lower())
        page.keyboard.press("Control+a")
        page.keyboard.press("Delete")
        press(page, "Enter")
        expect(page.locator(".notice")).to_contain_text("If nothing was said")
        press(page, "Enter")
        expect(page.locator("#said")).to_have_text("Stored.")
    assert counts(store, first) == ("", "manual")


def test_what_was_typed_is_kept_until_it_is_stored(browser: Browser, store: DataManager, make_state: MakeState) -> None:
    clips(store, 2)
    kept = "Object.keys(sessionStorage).filter(key => key.startsWith('draft:')).length"
    with serving(make_state()) as address, opened(browser, address, refusals=1) as page:
        first = shown(page)
        page.fill("#text", "half a sentence")
        page.evaluate("document.querySelector('#decision [name=csrf]').value = 'of a server before'")
        with page.expect_navigation():
            page.click("#decision [value=text]")
        page.click("a >> text=Back")
        assert shown(page) == first and counts(store, first) == (None, None)
        expect(page.locator("#text")).to_have_value("half a sentence")
        press(page, "Enter")
        expect(page.locator("#said")).to_have_text("Stored.")
        assert page.evaluate(kept) == 0
    assert counts(store, first) == ("half a sentence", "manual")


def test_what_was_typed_outlives_a_skip_and_somebody_elses_decision(
    browser: Browser, store: DataManager, make_state: MakeState
) -> None:
    clips(store, 2)
    with serving(make_state()) as address, opened(browser, address, refusals=1) as page:
        first = shown(page)
        page.fill("#text", "half a sentence")
        page.keyboard.press("Escape")
        press(page, "s")
        assert shown(page) != first
        page.goto(f"{address}/case/{first}")
        expect(page.locator("#text")).to_have_value("half a sentence")
        says(store, first, "ben", "words of his")
        press(page, "Enter")
        expect(page.locator("#refused")).to_contain_text("meanwhile")
        page.goto(f"{address}/case/{first}")
        expect(page.locator("#text")).to_have_value("half a sentence")
        press(page, "Enter")
        expect(page.locator("#said")).to_have_text("Stored.")
        assert page.evaluate("Object.keys(sessionStorage).filter(key => key.startsWith('draft:')).length") == 0
    assert counts(store, first) == ("half a sentence", "manual")


def test_a_text_is_read_in_its_own_direction(browser: Browser, store: DataManager, make_state: MakeState) -> None:
    clips(store, 1)
    arabic = {"nbest": [{"text": text, "score": -1.0} for text in ("مرحبا بكم", "مرحبا لكم")]}
    path = store.folder.parent / "tone-0.wav"
    key = store.store_failed_case(path, "مرحبا بكم", model_version="arabic", metadata=arabic)
    with serving(make_state()) as address, opened(browser, address) as page:
        page.goto(f"{address}/case/{key}")
        for place in ("#heard", "#text", ".choices .text"):
            assert page.evaluate(f"getComputedStyle(document.querySelector('{place}')).direction") == "rtl", place
        assert page.evaluate("getComputedStyle(document.querySelector('h2')).direction") == "ltr"
        page.fill("#text", "hello")
        assert page.evaluate("getComputedStyle(document.querySelector('#text')).direction") == "ltr"


def test_two_people_at_once_and_a_third_who_settles(
    browser: Browser, store: DataManager, make_state: MakeState
) -> None:
    keys = clips(store, 2)
    with serving(make_state(DOUBLE, reviewer="")) as address:
        with opened(browser, address) as ann, opened(browser, address) as ben:
            for page, name in ((ann, "ann"), (ben, "ben")):
                page.fill("#name", name)
                press(page, "Enter")
            first = shown(ann)
            assert ben.locator("h1").inner_text() == "Nothing waits for you"  # ann has one open and the next one ready
            for page, word in ((ann, "old"), (ben, "gold")):
                for _ in keys:
                    page.goto(address)
                    page.fill("#text", f"please {word} the line")
                    press(page, "Enter")
                    expect(page.locator("#said")).to_contain_text("Stored.")
        assert {counts(store, key) for key in keys} == {(None, None)} and first in keys
        with opened(browser, address) as cas:
            cas.fill("#name", "cas")
            press(cas, "Enter")
            cas.click("nav >> text=Disagreements")
            expect(cas.locator(".figures")).to_contain_text("25.0 %")
            cas.click("article:first-of-type >> text=Listen and settle")
            settled = shown(cas)
            hear(cas)
            cas.keyboard.press("2")
            press(cas, "Enter")
    assert counts(store, settled) == ("please gold the line", "manual")
    assert store.corrections(settled)[0].author == "cas"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_page_fits_a_phone_and_speaks_to_a_screen_reader(
    browser: Browser, store: DataManager, make_state: MakeState, scheme: str
) -> None:
    keys = clips(store, 3)
    says(store, keys[0], "ann", "please hold the line", params=DOUBLE)
    says(store, keys[0], "ben", "please fold the vine", params=DOUBLE)
    options = {"viewport": {"width": 360, "height": 740}, "color_scheme": scheme, "reduced_motion": "reduce"}
    with serving(make_state(DOUBLE)) as address, opened(browser, address, **options) as page:
        for path in ("/", f"/case/{keys[0]}", "/history", "/disagreements", "/name"):
            page.goto(address + path)
            assert page.evaluate("document.documentElement.scrollWidth") <= 360, path
            assert page.evaluate(_AUDIT) == [], path
        page.goto(address)
        page.keyboard.press("?")
        assert page.evaluate(_AUDIT) == []
        page.keyboard.press("Escape")
        stops = []
        for _ in range(30):  # the keyboard reaches everything in the order of the page
            page.keyboard.press("Tab")
            stops.append(page.evaluate("document.activeElement.id || document.activeElement.textContent.trim()"))
        wanted = ["To the content", "play", "wave", "speed", "1 take over", "text", "Accept ↵", "help"]
        places = [stops.index(name) for name in wanted]
        assert places == sorted(places)
