"""A canary through HTTP: who is answered by whom, what the shadow hears, start and stop under traffic, what breaks."""

import itertools
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter
from sqlalchemy import select

from mondegreen.db import open_database, reading
from mondegreen.errors import RegistryError, UsageError
from mondegreen.registry.canary import Canary, over, running
from mondegreen.registry.gate import DeploymentRefusedError
from mondegreen.registry.ledger import Ledger
from mondegreen.serving.challenger import Routing, Shadow
from mondegreen.serving.champion import Served
from mondegreen.serving.spool import BESIDE, Spool
from mondegreen.serving.spool_erasure import erase_spooled
from mondegreen.speech.model_folder import model_digest
from mondegreen.speech.transcriber import BaselineSTTModel
from mondegreen.tables import InferenceRow, ShadowPairRow
from tests.registry.registered import NAME, Result, deployer, weights
from tests.serving.conftest import noise, register, settings, until
from tests.serving.conftest import running as serving
from tests.serving.test_serving import post
from tests.serving.test_spool import answer_of, away

NOBODY = "0" * 64


def drawn(share: float, shadow: float, salt: str = "s") -> Canary:
    return Canary(entry=1, version=2, champion=1, share=share, shadow=shadow, salt=salt)


@examples(max_examples=60, deadline=None)
@given(st.text(max_size=30), st.text("0123456789abcdef", min_size=64, max_size=64), st.data())
def test_a_caller_stays_where_it_is_and_larger_shares_move_nobody_back(caller: str, audio: str, data: Any) -> None:
    share = data.draw(st.floats(0, 0.5))
    shadow = data.draw(st.floats(0, 0.5))
    part = drawn(share, shadow).part(caller or None, audio)
    assert part == drawn(share, shadow).part(caller or None, audio if not caller else NOBODY)
    larger = drawn(data.draw(st.floats(share, 0.5)), data.draw(st.floats(shadow, 0.5))).part(caller or None, audio)
    assert part in ("champion", larger)
    assert drawn(1, 0).part(caller, audio) == "canary" and drawn(0, 1).part(caller, audio) == "shadow"


@pytest.mark.parametrize("salt", ["a", "b", "c"])
def test_the_shares_are_those_of_the_callers(salt: str) -> None:
    canary, count = drawn(0.05, 0.2, salt), 8000
    parts = [canary.part(f"desk {number}", NOBODY) for number in range(count)]
    for part, share in (("canary", 0.05), ("shadow", 0.2), ("champion", 0.75)):
        assert abs(parts.count(part) / count - share) < 4 * (share * (1 - share) / count) ** 0.5
    moved = [part != drawn(0.05, 0.2, salt + "!").part(f"desk {number}", NOBODY) for number, part in enumerate(parts)]
    assert sum(moved) > 0.3 * count  # another salt draws anew


def rows(table: Any) -> list[Any]:
    with reading(open_database(Path("var"))) as session:
        return list(session.scalars(select(table)))


def state(url: str) -> Any:
    return requests.get(f"{url}/readyz", timeout=10).json()["canary"]


@pytest.fixture
def challenged(deployed: Path, models: list[Path]) -> Path:
    """Version 1 is champion, version 2 challenger."""
    register(models[1])
    return deployed


def serves(url: str, caller: str, **more: Any) -> str:
    found = post(url, headers={"x-caller-id": caller}, **more)
    assert found.status_code == 200
    return str(found.headers["x-mondegreen-model"])


def test_each_caller_is_heard_by_its_version_as_by_that_one_alone(challenged: Path, models: list[Path]) -> None:
    alone = [BaselineSTTModel(str(folder)) for folder in models]
    clips = [noise(0.4 + 0.1 * number, number) for number in range(4)]
    texts = [[one.transcribe_bytes(clip).text for clip in clips] for one in alone]
    assert texts[0] != texts[1]
    with serving(settings(batch_wait_ms=100)) as url:
        assert state(url) is None
        canary = deployer().start_canary(0.4, 0.4)
        desks = four_of_each(canary)
        until(lambda: (state(url) or {}).get("version") == 2 and "canary" in {who(url, desk) for desk in desks})
        asked = [(desk, clip) for desk in desks for clip in range(4)]

        def ask(one: tuple[str, int]) -> Any:
            return post(url, clips[one[1]], headers={"x-caller-id": one[0]})

        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(ask, asked))
        for (desk, clip), heard in zip(asked, found, strict=True):
            part = canary.part(desk, NOBODY)
            version = 2 if part == "canary" else 1
            assert heard.headers["x-mondegreen-model"] == f"{NAME}/{version}"
            assert heard.json()["text"] == texts[version - 1][clip]
        shadows = sum(canary.part(desk, NOBODY) == "shadow" for desk, _ in asked)
        until(lambda: heard_or_dropped(url) >= shadows)
        until(lambda: len(rows(ShadowPairRow)) == counted(url, "heard"))
        assert 'mondegreen_answered_total{role="canary"}' in requests.get(f"{url}/metrics", timeout=10).text
    inferences = {row.request_id: row for row in until(lambda: rows(InferenceRow))}
    for row in inferences.values():
        if row.canary:
            part = canary.part(row.caller, row.audio_sha256)
            assert (row.role, row.canary) == ("canary" if part == "canary" else "champion", canary.entry)
            assert row.served == f"{NAME}/{2 if part == 'canary' else 1}"
    pairs = rows(ShadowPairRow)
    assert pairs
    for pair in pairs:
        caller = inferences[pair.request_id].caller
        assert canary.part(caller, NOBODY) == "shadow" and pair.canary == canary.entry
        assert (pair.served, pair.shadow) == (f"{NAME}/1", f"{NAME}/2") and pair.comparable
        assert pair.served_score == inferences[pair.request_id].error_score and pair.shadow_score is not None
    assert not list(Path("var/serve").rglob("*.wav"))


def four_of_each(canary: Canary) -> list[str]:
    """Callers, as many in each part: of the first dozen, one draw in a hundred leaves a part empty."""
    found: dict[str, list[str]] = {"canary": [], "shadow": [], "champion": []}
    for number in itertools.count():
        found[canary.part(f"desk {number}", NOBODY)].append(f"desk {number}")
        if all(len(part) >= 4 for part in found.values()):
            return [desk for part in found.values() for desk in part[:4]]
    raise AssertionError


def who(url: str, desk: str) -> str:
    return "canary" if serves(url, desk) == f"{NAME}/2" else "champion"


def counted(url: str, name: str) -> int:
    lines = requests.get(f"{url}/metrics", timeout=10).text.splitlines()
    found = [line for line in lines if line.startswith(f'mondegreen_shadow_total{{state="{name}"}}')]
    return int(float(found[0].split()[-1])) if found else 0


def heard_or_dropped(url: str) -> int:
    return counted(url, "heard") + counted(url, "dropped")


def test_it_starts_and_stops_under_traffic_and_ends_with_a_deployment(challenged: Path) -> None:
    with serving(settings()) as url:
        assert serves(url, "ann") == f"{NAME}/1"
        deployer().start_canary(1.0, 0.0)
        until(lambda: serves(url, "ann") == f"{NAME}/2")
        # Who asks for the champion, or for a version, gets that one.
        assert serves(url, "ann", fields={"model": f"{NAME}@champion"}) == f"{NAME}/1"
        assert serves(url, "ann", fields={"model": f"{NAME}/1"}) == f"{NAME}/1"
        assert deployer().stop_canary(reason="seen") is not None
        until(lambda: serves(url, "ann") == f"{NAME}/1" and state(url) is None)
        assert deployer().stop_canary() is None
        deployer().start_canary(1.0, 0.0)
        until(lambda: serves(url, "ann") == f"{NAME}/2")
        deployer().deploy_model(2)
        until(lambda: state(url) is None and serves(url, "ann") == f"{NAME}/2")
        ledger = Ledger.open(Path("var"), NAME)
        assert running(ledger) is None
        deployer().rollback()  # @challenger is nobody now, so it does not begin again
        until(lambda: serves(url, "ann") == f"{NAME}/1")
    assert {row.role for row in rows(InferenceRow)} == {"champion", "canary"}


def test_a_challenger_that_cannot_be_loaded_answers_nobody_and_it_is_said(
    challenged: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with serving(settings()) as url:
        deployer().start_canary(1.0, 0.0)
        until(lambda: serves(url, "ann") == f"{NAME}/2")
        deployer().stop_canary()
        until(lambda: state(url) is None)
        whole = weights(2).read_bytes()
        weights(2).write_bytes(b"")
        deployer().start_canary(0.0, 1.0)  # a shadow needs no proof
        problem = until(lambda: (state(url) or {}).get("problem"))
        assert "not those that were registered" in problem and problem in caplog.text
        assert serves(url, "ann") == f"{NAME}/1"
        assert requests.get(f"{url}/readyz", timeout=10).json()["ready"] is True
        assert "mondegreen_canary_problem 1.0" in requests.get(f"{url}/metrics", timeout=10).text
        weights(2).write_bytes(whole)
        until(lambda: state(url)["problem"] is None)
    assert [row for row in rows(InferenceRow) if row.canary is None]


def test_a_challenger_that_breaks_while_it_hears_loses_nobodys_request(
    challenged: Path, models: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    hear, digest = BaselineSTTModel.transcribe_many, model_digest(models[1])

    def breaking(self: BaselineSTTModel, paths: Any) -> Any:
        if self.digest == digest:
            raise RuntimeError("out of memory")
        return hear(self, paths)

    with serving(settings()) as url:
        deployer().start_canary(1.0, 0.0)
        until(lambda: serves(url, "ann") == f"{NAME}/2")
        monkeypatch.setattr(BaselineSTTModel, "transcribe_many", breaking)
        assert serves(url, "ann") == f"{NAME}/1"
        assert "broke: RuntimeError: out of memory" in state(url)["problem"]
        time.sleep(0.3)  # it is not tried again in this canary
        assert serves(url, "ann") == f"{NAME}/1" and state(url)["problem"]
    last = max(rows(InferenceRow), key=lambda row: row.id)
    assert (last.role, last.canary) == ("champion", None)


class Slow:
    """A model that takes until it is let go."""

    digest = "slow"

    def __init__(self) -> None:
        self.free, self.taken = threading.Event(), 0

    def transcribe_many(self, paths: Any) -> Any:
        self.taken += 1
        self.free.wait(20)
        raise RuntimeError("of no use")


@pytest.mark.parametrize(
    ("busy", "away", "longest", "heard"),
    [(False, "", 30.0, 1), (True, "", 30.0, 0), (False, "away", 30.0, 0), (False, "", 0.5, 0)],
)
def test_the_shadow_waits_for_nothing_and_is_dropped_first(
    tmp_path: Path, busy: bool, away: str, longest: float, heard: int
) -> None:
    spool = Spool(tmp_path, lambda answers: None, 10**9)
    spool.state.problem = away
    counts = Counter("shadow", "", ["state"], registry=CollectorRegistry())
    model = Slow()
    shadow = Shadow(spool, lambda: busy, longest, counts)
    choice = Routing(Served("stt/1", model), canary=1, shadow=Served("stt/2", model))  # type: ignore[arg-type]
    began = time.monotonic()
    for number in range(40):
        shadow.take(answer_of(spool, f"r{number}"), choice)
    assert time.monotonic() - began < 2.0  # nobody waited for a model that takes 20 s
    until(lambda: model.taken == heard)
    model.free.set()
    shadow.close()
    done = {name: counts.labels(name)._value.get() for name in ("heard", "dropped", "failed")}
    assert done["failed"] >= heard and sum(done.values()) == 40 and done["dropped"] >= 20
    assert not list(tmp_path.rglob("*-shadow*"))
    spool.close()


def test_a_full_disk_takes_the_shadow_and_nobodys_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> Path:
        raise OSError(28, "No space left on device")

    spool = Spool(tmp_path, lambda answers: None, 10**9)
    counts = Counter("shadow", "", ["state"], registry=CollectorRegistry())
    shadow = Shadow(spool, lambda: False, 30.0, counts)
    answer = answer_of(spool, "r0")
    with monkeypatch.context() as patch:
        patch.setattr(Spool, "place", full)
        shadow.take(answer, Routing(Served("stt/1", Slow()), canary=1, shadow=Served("stt/2", Slow())))  # type: ignore[arg-type]
    assert counts.labels("dropped")._value.get() == 1
    shadow.close()
    spool.close()


def test_erasing_takes_the_recording_that_a_shadow_heard_too(tmp_path: Path) -> None:
    spool = Spool(tmp_path, away, 10**9)
    answer = answer_of(spool, "r0")
    kept = spool.place("r0" + BESIDE, "call.wav")
    Path(answer.transcription.path).rename(kept)
    heard = answer.transcription.model_copy(update={"path": str(kept)})
    spool.add(answer.model_copy(update={"transcription": heard, "beside": heard, "shadow": "stt/2", "canary": 1}))
    spool.close()
    assert kept.is_file() and erase_spooled(tmp_path, lambda _: True, ()).answers == 1
    assert not list(tmp_path.rglob("*.wav"))


def unproven(_: Path, models: list[Path]) -> None:
    verdict = Result(model_digest=model_digest(models[1]), outcome="inconclusive", passed=False)
    deployer().register_model(NAME, models[1], verdict, tags={"regression": "pass"})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("prepare", "shares", "error", "said"),
    [
        (lambda *_: None, (0.1, 0.1), RegistryError, "Nobody is @challenger"),
        (unproven, (0.1, 0.1), DeploymentRefusedError, "answers nobody. Its verdict is `inconclusive`"),
        (unproven, (0.6, 0.6), UsageError, "at most 1 together"),
        (unproven, (0.0, 0.0), UsageError, "more than 0"),
    ],
)
def test_what_is_refused_starts_nothing(
    deployed: Path,
    models: list[Path],
    prepare: Callable[..., None],
    shares: tuple[float, float],
    error: type,
    said: str,
) -> None:
    prepare(deployed, models)
    with pytest.raises(error, match=said):
        deployer().start_canary(*shares)
    ledger = Ledger.open(Path("var"), NAME)
    assert running(ledger) is None
    if prepare is unproven:
        assert deployer().start_canary(0.0, 0.3).share == 0.0  # nobody is answered by it
        with pytest.raises(UsageError, match="--force without a reason"):
            deployer().start_canary(0.1, 0.0, force=True)
        with pytest.raises(UsageError, match="Nobody can override proof"):
            deployer().start_canary(0.1, 0.0, override=["proof"], reason="two friendly callers")
        with pytest.raises(DeploymentRefusedError, match="all the same: --override verdict --reason"):
            deployer().start_canary(0.1, 0.0, override=["regression"], reason="two friendly callers")
        forced = deployer().start_canary(0.1, 0.0, override=["verdict"], reason="two friendly callers")
        assert running(ledger) == forced and not over(forced, ledger)
        assert ledger.entries()[-1].forced and "inconclusive" in ledger.entries()[-1].details["overridden"][0]


def test_it_can_be_stopped_while_mlflow_is_away_and_keeps_its_draw(challenged: Path) -> None:
    first = deployer().start_canary(0.1, 0.1)
    second = deployer().start_canary(0.3, 0.1)
    assert second.salt == first.salt and second.entry > first.entry
    (challenged / "mlruns" / "mlflow.db").rename(challenged / "away.db")
    assert deployer().stop_canary(entry=first.entry) is None
    stopped = deployer().stop_canary(entry=second.entry, reason="night")
    assert stopped is not None and stopped.version == 2
