"""The service through HTTP: OpenAI's client, exact batches, what is refused, hot swap, every answer stored once."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, get_args

import openai
import pytest
import requests
from sqlalchemy import select

from mondegreen.config import ServeParams
from mondegreen.db import open_database, reading
from mondegreen.records import Word
from mondegreen.scoring.phrases import PhraseList, list_of, read_phrases
from mondegreen.serving.batcher import Batcher
from mondegreen.serving.challenger import Routing
from mondegreen.serving.champion import Served
from mondegreen.serving.openai_api import ResponseFormat, render
from mondegreen.speech.kneser_ney import language_model
from mondegreen.speech.ngram_files import read_lm, write_lm
from mondegreen.speech.transcriber import BaselineSTTModel, Transcription
from mondegreen.tables import CaseRow, InferenceRow
from tests.registry.registered import NAME, deployer
from tests.serving.conftest import noise, register, running, settings, until


def post(url: str, content: bytes = noise(0.5), name: str = "call.wav", **fields: Any) -> requests.Response:
    given = {"model": NAME, **fields.pop("fields", {})}
    return requests.post(
        f"{url}/v1/audio/transcriptions", files={"file": (name, content)}, data=given, timeout=60, **fields
    )


def stored(store: Path = Path("var")) -> list[Any]:
    with reading(open_database(store)) as session:
        return list(session.scalars(select(InferenceRow)))


def test_openais_own_client_gets_what_the_model_hears(deployed: Path, models: list[Path]) -> None:
    alone = BaselineSTTModel(str(models[0])).transcribe_bytes(noise(2.0))
    with running(settings()) as url:
        client = openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)
        assert [model.id for model in client.models.list()] == [NAME, f"{NAME}@champion", f"{NAME}/1"]

        def ask(**given: Any) -> Any:
            return client.audio.transcriptions.create(model=NAME, file=("call.wav", noise(2.0)), **given)

        assert ask().text == alone.text
        assert ask(response_format="text").strip() == alone.text
        verbose = ask(response_format="verbose_json", timestamp_granularities=["word", "segment"], language="en")
        assert (verbose.text, verbose.duration) == (alone.text, 2.0)
        assert [word.word for word in verbose.words] == alone.text.split()
        assert " ".join(segment.text for segment in verbose.segments) == alone.text
        assert ask(response_format="vtt").startswith("WEBVTT\n\n00:00:0")
        assert ask(response_format="srt").startswith("1\n00:00:0")
        with pytest.raises(openai.BadRequestError, match="prompt: a CTC model takes none"):
            ask(prompt="Dear all")
        with pytest.raises(openai.NotFoundError, match="no model 'whisper-1' here"):
            client.audio.transcriptions.create(model="whisper-1", file=("call.wav", noise(0.5)))
    assert len(until(stored)) == 5


def test_a_batch_gives_each_request_what_it_would_get_alone(deployed: Path, models: list[Path]) -> None:
    stt = BaselineSTTModel(str(models[0]))
    clips = [noise(0.3 + 0.17 * seed, seed) for seed in range(12)]
    with running(settings(batch_wait_ms=200)) as url, ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda clip: post(url, clip, fields={"response_format": "verbose_json"}), clips))
        shared = requests.get(f"{url}/metrics", timeout=10).text
    for clip, answer in zip(clips, answers, strict=True):
        alone = stt.transcribe_bytes(clip)
        assert answer.json()["text"] == alone.text
        assert answer.json()["confidence"] == pytest.approx(alone.confidence, abs=2e-4)
    assert 'mondegreen_batch_recordings_bucket{le="1.0"} 12.0' not in shared
    assert any(row.batch > 1 for row in until(stored))


def test_what_shared_a_batch_says_how_many_they_were_in_both_halves(tmp_path: Path) -> None:
    begun, others = threading.Event(), threading.Event()

    class Waiting:
        phrases = None

        def transcribe_many(self, paths: list[Path]) -> list[Path]:
            begun.set()
            others.wait(30)
            return paths

    batcher = Batcher(lambda asker: Routing(Served(NAME, Waiting())), ServeParams(), 30.0)  # type: ignore[arg-type]
    first = batcher.submit(tmp_path, 1.0)
    begun.wait(30)
    futures = [batcher.submit(tmp_path, 1.0) for _ in range(5)]
    others.set()
    assert [future.result(30).batch for future in [first, *futures]] == [1, 5, 5, 5, 5, 5]
    batcher.close()


def test_no_text_depends_on_another_callers_phrases_that_count_nothing(tmp_path: Path) -> None:
    begun, others = threading.Event(), threading.Event()

    class Listed:
        """Hears the phrases that count for it."""

        def __init__(self, phrases: PhraseList) -> None:
            self.phrases, self.with_phrases = phrases, Listed

        def transcribe_many(self, paths: list[Path]) -> list[list[str]]:
            begun.set()
            others.wait(30)
            return [[item.phrase for item in self.phrases.active] for _ in paths]

    served: Any = Served(NAME, Listed(list_of(["mayer"], "the server")))  # type: ignore[arg-type]
    batcher = Batcher(lambda asker: Routing(served), ServeParams(), 30.0)
    batcher.submit(tmp_path, 1.0)
    begun.wait(30)
    off: list[Any] = [{"phrase": "mayer", "weight": 0}]
    asked = [off, None, None, ["zoe", "ann"], ["ann", "zoe"], ["ann", "zoe"]]  # of three, two share a half
    lists = [None if each is None else list_of(each, "a request") for each in asked]
    futures = [batcher.submit(tmp_path, 1.0, None, each) for each in lists]
    others.set()
    heard: list[Any] = [future.result(30).result for future in futures]
    assert heard == [[], *2 * [["mayer"]], ["zoe", "ann", "mayer"], *2 * [["ann", "zoe", "mayer"]]]
    batcher.close()


def test_a_cue_of_webvtt_shows_every_sign() -> None:
    words = [Word(text=text, start=0.1, end=0.5, confidence=1.0) for text in ("AT&T", "<unk>")]
    heard = Transcription(
        path="a.wav", text="AT&T <unk>", confidence=1.0, duration=1.0, words=words, nbest=[], model="m",
        real_time_factor=1.0,
    )  # fmt: skip
    bodies = {form: render([heard], form, "en")[0] for form in get_args(ResponseFormat)}
    assert "\nAT&amp;T &lt;unk&gt;\n" in str(bodies["vtt"]) and "\nAT&T <unk>\n" in str(bodies["srt"])
    assert bodies["text"] == "AT&T <unk>\n"


def test_a_request_adds_phrases_to_the_servers_list_for_itself_alone(deployed: Path, models: list[Path]) -> None:
    plain = BaselineSTTModel(str(models[0]))
    Path("phrases.yaml").write_text("strength: 0.3\nphrases: [ours]\n")
    ours = read_phrases(Path("phrases.yaml"))
    more: list[Any] = [{"phrase": "theirs", "weight": 2, "case": "keep"}]
    lists = [ours, ours.with_more(list_of(more, "a request")), ours, ours.with_more(list_of(["Zustand"], "a request"))]
    alone = [plain.with_phrases(each) for each in lists]
    with running(settings(phrases="phrases.yaml", batch_wait_ms=200)) as url, ThreadPoolExecutor(4) as pool:
        asked = [{}, {"phrases": json.dumps(more)}, {}, {"phrases": "Zustand\n"}]
        answers = list(pool.map(lambda fields: post(url, noise(2.0), fields=fields), asked))
    texts = [answer.json()["text"] for answer in answers]
    assert texts == [each.transcribe_bytes(noise(2.0)).text for each in alone]
    assert texts[0].startswith("OURS") and "theirs" in texts[1]
    assert [answer.headers["x-mondegreen-digest"] for answer in answers] == [each.digest for each in alone]
    assert sorted(row.model_version for row in until(stored)) == sorted(each.digest for each in alone)


def test_the_servers_language_model_is_heard_by_beside_a_requests_phrases(deployed: Path, models: list[Path]) -> None:
    write_lm(Path("words.lm"), language_model([["OURS", "TOO"], ["TOO", "OURS"]], 2, (0,))[0].at(2.0, 4.0))
    plain = BaselineSTTModel(str(models[0]))
    heard = plain.with_lm(read_lm(Path("words.lm")))
    both = heard.with_phrases(list_of(["theirs"], "a request"))
    with running(settings(lm="words.lm")) as url:
        answers = [post(url, noise(2.0), fields=fields) for fields in ({}, {"phrases": "theirs"})]
    texts = [stt.transcribe_bytes(noise(2.0)).text for stt in (heard, both)]
    assert [answer.json()["text"] for answer in answers] == texts
    assert len({plain.transcribe_bytes(noise(2.0)).text, *texts}) == 3
    assert [answer.headers["x-mondegreen-digest"] for answer in answers] == [heard.digest, both.digest]


@pytest.mark.parametrize(
    ("fields", "status", "said"),
    [
        ({"model": ""}, 400, f"The field model is missing; models: {NAME}, {NAME}@champion, {NAME}/1."),
        ({"language": "de"}, 400, "this model hears 'en'"),
        ({"temperature": "0.5"}, 400, "temperature: nothing is drawn"),
        ({"stream": "true"}, 400, "stream: the transcript comes in one piece"),
        ({"response_format": "diarized_json"}, 400, "is not one of json, text"),
        ({"timestamp_granularities[]": "phone"}, 400, "neither word nor segment"),
        ({"beam": "3"}, 400, "beam is not a field"),
        ({"channel": "second"}, 400, "chooses none"),
        ({"speaker": "a\nb"}, 400, "odd ones"),
        ({"phrases": "Zustand\n4711"}, 400, "DIGIT FOUR"),
        ({"phrases": "[1"}, 400, "begins as a JSON list and is none"),
        ({"phrases": '[{"phrase": "a", "weight": -1}]'}, 400, "phrases: number 1: "),
        ({"phrases": "\n".join(f"A{chr(65 + i % 26) * (1 + i // 26)}" for i in range(101))}, 400, "101; 100 are taken"),
    ],
)
def test_a_field_that_would_change_nothing_is_refused_by_name(
    service: str, fields: dict[str, str], status: int, said: str
) -> None:
    answer = post(service, fields=fields)
    assert answer.status_code == status and said in answer.json()["error"]["message"]
    assert answer.json()["error"]["param"] in fields


@pytest.fixture
def service(deployed: Path) -> Any:
    with running(settings(max_megabytes=1, max_seconds=10)) as url:
        yield url


def test_bodies_that_are_too_much_or_nothing_are_refused_and_leave_nothing(service: str) -> None:
    url = f"{service}/v1/audio/transcriptions"
    assert post(service, b"no audio at all").status_code == 400
    assert post(service, noise(11, rate=8000)).status_code == 413
    assert post(service, bytes(2_000_000)).status_code == 413
    endless = (bytes(100_000) for _ in range(100))
    kind = {"content-type": "multipart/form-data; boundary=x"}
    assert requests.post(url, data=endless, headers=kind, timeout=60).status_code in (400, 413)
    assert requests.post(url, data={"model": NAME}, timeout=60).status_code == 400
    assert requests.get(url, timeout=60).status_code == 405
    assert requests.get(f"{service}/v2", timeout=60).json()["error"]["type"] == "invalid_request_error"
    assert not [
        path
        for path in Path("var/serve").rglob("*")
        if path.is_file() and path.suffix != ".lock" and "audio" in path.parts
    ]
    assert post(service).status_code == 200


def test_a_token_is_asked_for_and_another_sites_page_is_not_served(
    deployed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running(settings()) as url:
        assert post(url, headers={"sec-fetch-site": "cross-site"}).status_code == 403
    monkeypatch.setenv("MONDEGREEN_SERVE_TOKEN", "sésame")
    with running(settings()) as url:
        assert post(url).status_code == 401
        assert post(url, headers={"authorization": "Bearer wrong"}).status_code == 401
        assert post(url, headers={"authorization": "Bearer sésame".encode()}).status_code == 200
        assert requests.get(f"{url}/healthz", timeout=10).status_code == 200


def test_too_many_at_once_are_told_when_to_come_again(deployed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free = threading.Event()
    hear = BaselineSTTModel.transcribe_many

    def slow(self: BaselineSTTModel, paths: Any) -> Any:
        free.wait(30)
        return hear(self, paths)

    monkeypatch.setattr(BaselineSTTModel, "transcribe_many", slow)
    with running(settings(max_waiting=2, timeout=60)) as url, ThreadPoolExecutor(2) as pool:
        first = [pool.submit(post, url) for _ in range(2)]
        until(lambda: "mondegreen_requests_inside 2.0" in requests.get(f"{url}/metrics", timeout=10).text)
        third = post(url)
        assert (third.status_code, third.headers["retry-after"]) == (429, "1")
        free.set()
        assert [answer.result().status_code for answer in first] == [200, 200]
        until(lambda: post(url).status_code == 200)


def test_a_client_that_hangs_up_frees_its_place(deployed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free = threading.Event()
    hear = BaselineSTTModel.transcribe_many
    monkeypatch.setattr(BaselineSTTModel, "transcribe_many", lambda self, paths: (free.wait(30), hear(self, paths))[1])
    with running(settings(max_waiting=1)) as url:
        with pytest.raises(requests.ReadTimeout):
            requests.post(
                f"{url}/v1/audio/transcriptions",
                files={"file": ("a.wav", noise(0.5))},
                data={"model": NAME},
                timeout=0.5,
            )
        until(lambda: "mondegreen_requests_inside 0.0" in requests.get(f"{url}/metrics", timeout=10).text)
        free.set()
        assert post(url).status_code == 200
    assert len(stored()) == 1


def test_a_deployment_and_a_rollback_take_over_without_a_pause(deployed: Path, models: list[Path]) -> None:
    with running(settings()) as url:

        def serves() -> str:
            answer = post(url)
            assert answer.status_code == 200
            return str(answer.headers["x-mondegreen-model"])

        assert serves() == f"{NAME}/1"
        register(models[1])
        deployer().deploy_model(2)
        until(lambda: serves() == f"{NAME}/2")
        deployer().rollback(reason="to see it")
        until(lambda: serves() == f"{NAME}/1")
    rows = until(lambda: stored())
    assert {row.served for row in rows} == {f"{NAME}/1", f"{NAME}/2"}
    assert len({row.request_id for row in rows}) == len(rows)


def test_what_cannot_be_loaded_changes_nothing_but_what_readyz_says(deployed: Path, models: list[Path]) -> None:
    with running(settings()) as url:
        database = deployed / "mlruns" / "mlflow.db"
        database.rename(database.with_suffix(".away"))
        problem = until(lambda: requests.get(f"{url}/readyz", timeout=10).json()["problem"])
        assert "there is no" in problem and "mlflow.db" in problem
        assert post(url).headers["x-mondegreen-model"] == f"{NAME}/1"
        assert "mondegreen_model_problem 1.0" in requests.get(f"{url}/metrics", timeout=10).text
    with running(settings()) as url:  # it starts from the verified backup
        assert post(url).status_code == 200
        assert requests.get(f"{url}/readyz", timeout=10).json()["problem"]
        database.with_suffix(".away").rename(database)
        until(lambda: requests.get(f"{url}/readyz", timeout=10).json()["problem"] is None)
        assert post(url).headers["x-mondegreen-model"] == f"{NAME}/1"


def test_answers_wait_on_disk_while_the_database_is_away_and_are_stored_once(
    deployed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running(settings()) as url:
        monkeypatch.setenv("MONDEGREEN_DATABASE_URL", "postgresql://nobody@127.0.0.1:1/none")
        for seed in range(3):
            assert post(url, noise(0.4, seed), fields={"speaker": "ann", "user": "desk 3"}).status_code == 200
        until(lambda: requests.get(f"{url}/readyz", timeout=10).json()["store"])
    monkeypatch.delenv("MONDEGREEN_DATABASE_URL")
    assert stored() == []
    with running(settings()) as url:
        until(lambda: len(stored()) == 3)
        until(lambda: requests.get(f"{url}/readyz", timeout=10).json()["answers_waiting"] == 0)
    rows = stored()
    assert {(row.speaker, row.caller, row.served) for row in rows} == {("ann", "desk 3", f"{NAME}/1")}
    with reading(open_database(Path("var"))) as session:
        cases = list(session.scalars(select(CaseRow)))
    kept = {row.case_id or row.audit_id for row in rows}  # misheard, or drawn for the audit
    assert {case.id for case in cases} == kept - {None}
    assert not list(Path("var/serve").rglob("*.wav"))
