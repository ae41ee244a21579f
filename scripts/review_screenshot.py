"""Makes docs/review.png: the sample's recordings as the starter model mishears them, on the page for correcting.

python scripts/review_screenshot.py                    # needs the sample (make data) and a Chromium
python scripts/review_screenshot.py --store FOLDER     # only the cases, for `mondegreen review --store FOLDER`
"""

import argparse
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from mondegreen.cases.store import DataManager
from mondegreen.config import load_params
from mondegreen.detector.detector import ErrorDetector
from mondegreen.monitoring.tracker import MetadataTracker, inference_of
from mondegreen.review.page import hypothesis_words
from mondegreen.review.security import Access
from mondegreen.review.session import ReviewState
from mondegreen.speech.transcriber import BaselineSTTModel, Transcription
from tests.review.browser import chromium, serving

CLIPS = 30  # of each condition
LONGEST = 4.0  # seconds of the clip in the picture
TARGET = Path("docs/review.png")


def make_store(folder: Path) -> DataManager:
    """Transcribes and logs recordings of the sample, as `mondegreen transcribe --log` does."""
    params = load_params()
    clips = [path for kind in ("clean", "noisy") for path in sorted(Path("data/audio", kind).glob("*.wav"))[:CLIPS]]
    model = BaselineSTTModel(params.model.base, nbest=params.transcribe.nbest)
    heard = [result for result in model.transcribe_many(clips) if isinstance(result, Transcription)]
    manager = DataManager(folder)
    tracker = MetadataTracker(folder, data_manager=manager)
    detector = ErrorDetector(params.detector)
    tracker.log_inferences([inference_of(result, detector, params.audio.max_duration) for result in heard])
    return manager


def photograph(manager: DataManager, target: Path) -> None:
    """The page of the surest of the short cases with doubtful words, which reads best."""
    params = load_params()
    below = params.review.doubtful_below
    cases = [
        case
        for case in manager.each_case()
        if case.duration and case.duration < LONGEST and any(word.doubtful for word in hypothesis_words(case, below))
    ]
    case = max(cases, key=lambda one: one.metadata["confidence"])
    state = ReviewState(manager, params, Access(), "ann")
    with serving(state) as address, chromium() as browser:
        page = browser.new_page(viewport={"width": 1000, "height": 760})
        page.goto(f"{address}/case/{case.id}")
        page.wait_for_function("document.querySelector('#audio').readyState >= 3")
        page.evaluate("document.querySelector('#audio').pause()")
        page.click("#wave", position={"x": 300, "y": 40})
        page.keyboard.press("2")
        page.evaluate("document.activeElement.blur()")
        page.wait_for_timeout(500)
        page.screenshot(path=target)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("target", nargs="?", type=Path, default=TARGET)
    parser.add_argument("--store", type=Path, help="make only the cases, here")
    options = parser.parse_args()
    if options.store:
        make_store(options.store)
    else:
        with tempfile.TemporaryDirectory() as folder:
            photograph(make_store(Path(folder)), options.target)
