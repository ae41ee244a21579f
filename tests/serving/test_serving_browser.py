"""A browser's own fetch: a page of the same origin is answered, one of another origin gets nothing."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.browser import launch
from tests.serving.conftest import noise, running, settings

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("chromium")]
ASK = """async ([address, wav]) => {
  const names = (await (await fetch(address + '/v1/models')).json()).data.map(one => one.id)
  const form = new FormData()
  form.append('model', names[0])
  form.append('file', new Blob([new Uint8Array(wav)], {type: 'audio/wav'}), 'call.wav')
  const answer = await fetch(address + '/v1/audio/transcriptions', {method: 'POST', body: form})
  return [answer.status, typeof (await answer.json()).text, answer.headers.get('x-request-id')]
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with launch() as found:
        yield found


def test_a_browser_fetches_a_transcript_from_its_own_origin_only(
    browser: Any, models: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with running(settings(), str(models[0]), tmp_path / "var") as url:
        page = browser.new_page()
        page.goto(f"{url}/healthz")
        status, kind, request_id = page.evaluate(ASK, ["", list(noise(0.3))])
        assert (status, kind) == (200, "string") and request_id
        page.goto(f"{url.replace('127.0.0.1', 'localhost')}/healthz")
        with pytest.raises(Exception, match="Failed to fetch"):
            page.evaluate(ASK, [url, list(noise(0.3))])
        page.close()
