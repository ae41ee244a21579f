"""The pages as a site: it builds, and what it shows comes from nowhere else."""

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_site_builds_from_all_pages_and_fetches_nothing(tmp_path: Path) -> None:
    command = ["mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path)]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    pages = {path.stem for path in (ROOT / "docs").glob("*.md")}
    assert pages <= {path.stem for path in tmp_path.glob("*.html")}
    for page in tmp_path.glob("*.html"):
        fetched = re.findall(r'(?:src|<link[^>]*href)="(https?://[^"]*)"', page.read_text(encoding="utf-8"))
        assert not fetched, f"{page.name} fetches {fetched}"
