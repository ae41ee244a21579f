"""Makes docs/report.png from build/report.html: the page on a phone, by day and by night.

    mondegreen report && python scripts/report_screenshot.py

It needs Debian's package chromium and the Python packages of the extra dev.
"""

import argparse
import io
import sys
from pathlib import Path
from typing import Any

from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.browser import PHONE, launch, visit

ROOT = Path(__file__).resolve().parent.parent
GAP = 16  # pixels between two views
COLOURS = 96  # keeps the picture small
VIEWS = (("body", False), ("#rates", False), ("#figures", True), ("#damaged", True))  # what stands at the top; dark


def shot(browser: Any, url: str, anchor: str, dark: bool) -> Image.Image:
    """One screenful of a phone."""
    with visit(browser, url, viewport=PHONE, dark=dark) as opened:
        opened.page.eval_on_selector(anchor, "node => window.scrollTo(0, node.getBoundingClientRect().top - 12)")
        opened.page.wait_for_timeout(300)
        return Image.open(io.BytesIO(opened.page.screenshot()))


def beside(views: list[Image.Image]) -> Image.Image:
    """The views in a row."""
    width = sum(view.width for view in views) + GAP * (len(views) - 1)
    whole = Image.new("RGB", (width, max(view.height for view in views)), "#8a8f98")
    left = 0
    for view in views:
        whole.paste(view, (left, 0))
        left += view.width + GAP
    return whole


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--page", type=Path, default=ROOT / "build" / "report.html")
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "report.png")
    chosen = parser.parse_args()
    if not chosen.page.exists():
        raise SystemExit(f"{chosen.page} does not exist: run `mondegreen report` first")
    with launch() as browser:
        views = [shot(browser, chosen.page.resolve().as_uri(), anchor, dark) for anchor, dark in VIEWS]
    picture = beside(views).quantize(COLOURS, dither=Image.Dither.NONE)
    picture.save(chosen.output, optimize=True)
    print(f"{chosen.output}: {picture.width} x {picture.height}, {chosen.output.stat().st_size // 1000} kB")


if __name__ == "__main__":
    main()
