"""Makes docs/mlflow-*.png: MLflow's pages of a project that has run, as `mondegreen ui` opens them.

    python scripts/mlflow_screenshots.py            after `make repro`; two runs or more make the comparison
    python scripts/mlflow_screenshots.py --project FOLDER --output FOLDER --only compare

Needs the package playwright and Chromium (Debian's, or CHROMIUM=…).
"""

import argparse
import io
import json
import os
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from mlflow import MlflowClient
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
SIZE = {"width": 1280, "height": 800}
STARTS_WITHIN, SETTLES = 120, 15  # seconds; the pages ask for more all the time, so that they are never quiet


@contextmanager
def served(project: Path) -> Iterator[dict[str, str]]:
    """MLflow's pages while they are open: the addresses that `mondegreen ui --json` names."""
    command = [sys.executable, "-c", "from mondegreen.cli.main import app; app()", "ui", "--port", "0", "--json"]
    started = subprocess.Popen(command, cwd=project, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        assert started.stdout
        found: dict[str, str] = json.loads(started.stdout.readline())
        _wait_for(re.sub(r"/#.*", "/health", found["runs"]))
        yield found
    finally:
        started.terminate()
        started.wait(60)


def _wait_for(url: str) -> None:
    end = time.monotonic() + STARTS_WITHIN
    while True:
        try:
            urllib.request.urlopen(url, timeout=5).close()
            return
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.5)


def pages(found: dict[str, str], client: MlflowClient) -> dict[str, str]:
    """Name of the picture to the address of the page; of the runs the newest with a verdict, if there is one."""
    address = re.fullmatch(r"(.*)/#/experiments/(\d+)/runs(.*)", found["runs"])
    assert address, f"{found['runs']} is no page of an experiment's runs"
    server, experiment, training = address.groups()
    runs = client.search_runs([experiment], order_by=["attributes.start_time DESC"], max_results=20)
    judged = next((run for run in runs if "verdict" in run.data.tags), runs[0])
    own = f"{server}/#/experiments/{experiment}/runs/{judged.info.run_id}"
    chosen = {"runs": found["runs"], "run": own + training, "dataset": own + training}
    chosen["model-metrics"] = f"{own}/model-metrics{training}"
    if len(runs) > 1:
        ids = quote(json.dumps([run.info.run_id for run in runs[:2]]))
        experiments = quote(json.dumps([experiment]))
        chosen["compare"] = f"{server}/#/compare-runs?runs={ids}&experiments={experiments}&{training[1:]}"
    if "model" in found:
        page = found["model"].removesuffix(training)
        name = page.rpartition("/")[2]
        newest = max(int(one.version) for one in client.search_model_versions(f"name = '{name}'"))
        chosen |= {"model": found["model"], "version": f"{page}/versions/{newest}{training}"}
    return chosen


def shoot(chosen: dict[str, str], output: Path) -> None:
    """Opens every page and keeps what it shows after some seconds."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        path = os.environ.get("CHROMIUM", "/usr/bin/chromium")
        browser: Any = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        for name, address in chosen.items():
            page = browser.new_page(viewport=SIZE)
            page.goto(address, timeout=1000 * STARTS_WITHIN)
            page.wait_for_timeout(1000 * SETTLES)
            closes = page.locator("[data-component-id='mlflow.assistant.chat_panel.close']")
            if closes.count():  # MLflow's assistant, which takes a fourth of the page
                closes.first.click()
                page.wait_for_timeout(1000)
            if name == "compare":  # first come plots of the machine's load; what differs is at the end
                for switch in page.get_by_text("Show diff only").all():
                    switch.click()
                page.get_by_text("Parameters", exact=True).last.scroll_into_view_if_needed()
                page.wait_for_timeout(1000)
            if name == "dataset":
                page.get_by_text("replay (train)").first.click()
                page.wait_for_timeout(3000)
            print(_kept(page.screenshot(), output / f"mlflow-{name}.png"))
            page.close()
        browser.close()


def _kept(png: bytes, target: Path) -> Path:
    """With 256 colours: pages of few colours lose nothing, and a third of the bytes is left."""
    Image.open(io.BytesIO(png)).convert("RGB").quantize(256).save(target, optimize=True)
    return target


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--project", type=Path, default=ROOT)
    parser.add_argument("--output", type=Path, default=ROOT / "docs")
    parser.add_argument("--only", nargs="*", help="names of pictures, such as compare")
    chosen = parser.parse_args()
    os.chdir(chosen.project)
    from mondegreen.registry.mlflow_store import connect

    with served(chosen.project) as found:
        every = pages(found, connect())
        shoot({name: every[name] for name in chosen.only or every}, chosen.output.resolve())


if __name__ == "__main__":
    main()
