"""A real headless Chromium for tests of pages: Debian's package, no download, and what such tests ask of a page."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = Path(os.environ.get("CHROMIUM", "/usr/bin/chromium"))
_ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PHONE = {"width": 360, "height": 740}


@contextmanager
def launch(*arguments: str) -> Iterator[Any]:
    """Yields a browser of playwright's synchronous API; skips where there is no Chromium, and fails in CI.

    Args:
        arguments: more of Chromium's own.

    Use it in a fixture of module scope: while it is open, nothing in the same process can call `asyncio.run`, and a
    second browser cannot be opened.
    """
    reason = "" if CHROMIUM.exists() else f"no Chromium at {CHROMIUM}"
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        reason = "the Python package playwright is not installed"
    if reason:
        if os.environ.get("CI"):
            pytest.fail(f"{reason}: apt-get install -y chromium, pip install playwright")
        pytest.skip(reason)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=[*_ARGUMENTS, *arguments])
        try:
            yield browser
        finally:
            browser.close()


@dataclass
class Opened:
    """A page with what it asked for and complained about."""

    page: Any
    requests: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)  # of the console, and exceptions


@contextmanager
def visit(browser: Any, url: str, *, viewport: dict[str, int] = PHONE, dark: bool = False) -> Iterator[Opened]:
    """Opens a page in a fresh profile, by default as wide as a small phone."""
    context = browser.new_context(viewport=viewport, color_scheme="dark" if dark else "light")
    try:
        found = Opened(context.new_page())
        found.page.on("request", lambda request: found.requests.append(request.url))
        found.page.on("pageerror", lambda error: found.errors.append(str(error)))
        found.page.on("console", lambda said: found.errors.append(said.text) if said.type == "error" else None)
        found.page.goto(url)
        yield found
    finally:
        context.close()


def scrolls_sideways(page: Any) -> list[str]:
    """What stands out of the window on its right, unless a box of its own scrolls it; empty when nothing does."""
    return list(page.evaluate(_SIDEWAYS))[:5]


def low_contrast(page: Any) -> list[str]:
    """Texts that are hard to read: below WCAG's 4.5 : 1 against the background (3 : 1 from 24 px, or 18.7 px bold).

    Source: WCAG 2.2, success criterion 1.4.3.
    """
    return list(page.evaluate(_CONTRAST))


_SIDEWAYS = """() => {
  const width = document.documentElement.clientWidth;
  if (document.documentElement.scrollWidth <= width) return [];
  const boxed = node => { for (let up = node.parentElement; up; up = up.parentElement)
    if (["auto", "scroll", "hidden"].includes(getComputedStyle(up).overflowX)) return true; return false; };
  const out = [...document.body.querySelectorAll("*")]
    .filter(node => node.getBoundingClientRect().right > width + 1 && !boxed(node))
    .map(node => `${node.tagName}.${node.getAttribute("class") || ""}: ${node.textContent.trim().slice(0, 60)}`);
  return out.length ? out : [`the document is ${document.documentElement.scrollWidth} wide, the window ${width}`];
}"""

_CONTRAST = """() => {
  const canvas = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
  const rgba = color => { canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = color; canvas.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data; return [r, g, b, a / 255]; };
  const over = (top, under) => [0, 1, 2].map(i => top[i] * top[3] + under[i] * (1 - top[3]));
  const light = c => { const [r, g, b] = c.map(v => v / 255).map(
    v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  const background = node => { const layers = [];
    for (let up = node; up; up = up.parentElement) layers.push(rgba(getComputedStyle(up).backgroundColor));
    return layers.reverse().reduce((under, top) => over(top, under), dark ? [18, 18, 18] : [255, 255, 255]); };
  const found = new Set();
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const text = walk.currentNode.textContent.trim(), node = walk.currentNode.parentElement;
    if (!text || !node.getClientRects().length || node.closest("script, style, noscript")) continue;
    const style = getComputedStyle(node), under = background(node);
    const ink = node instanceof SVGElement ? style.fill : style.color;
    const [a, b] = [light(over(rgba(ink), under)), light(under)].sort((x, y) => y - x);
    const size = parseFloat(style.fontSize), large = size >= 24 || (size >= 18.66 && style.fontWeight >= 700);
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < (large ? 3 : 4.5)) found.add(`${ratio.toFixed(2)}: ${text.slice(0, 60)} (${ink})`);
  }
  return [...found];
}"""
