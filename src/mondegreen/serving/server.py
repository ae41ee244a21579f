"""From parameters to a running service: the parts put together, bound, served, stopped without losing anything."""

import logging
import os
import socket
import threading
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from mondegreen.cases.selecting import without_erased
from mondegreen.config import Params
from mondegreen.db import reading
from mondegreen.errors import CaseError, UsageError
from mondegreen.listening import run_app
from mondegreen.monitoring.comparing import ShadowPair, log_pairs, pair_of
from mondegreen.monitoring.sampling import AuditSampling
from mondegreen.monitoring.tracker import MetadataTracker, inference_of
from mondegreen.serving.app import Server, create_app
from mondegreen.serving.batcher import Batcher
from mondegreen.serving.challenger import Challenger, Shadow
from mondegreen.serving.champion import Champion
from mondegreen.serving.followers import write_following
from mondegreen.serving.metrics import SHARED, ServiceMetrics
from mondegreen.serving.spool import Answer, Spool

if TYPE_CHECKING:
    from mondegreen.detector.detector import ErrorDetector

TOKEN = "MONDEGREEN_SERVE_TOKEN"
_GRACE = 120  # seconds for what was taken, once it is to stop
_log = logging.getLogger(__name__)
_SHOW = 0.5  # seconds after which the other workers' /metrics say what changed in this one


def serve(model: str, params: Params, store: Path, listening: socket.socket, on_ready: Callable[[str], None]) -> None:
    """Serves in this process until SIGINT or SIGTERM.

    Args:
        model: `models:/name@alias` is followed.
        store: of the cases and inferences; the spool is below it.
        on_ready: told the name of the model once requests are taken.

    Raises:
        MondegreenError: no model can be loaded.
    """
    metrics = ServiceMetrics()

    def changed(champion: Champion) -> None:
        metrics.serves(champion.current)
        try:
            write_following(spool.own, champion.following())
        except OSError as error:  # a full disk must not keep it from following
            _log.warning("`models deploy` will not see what this server answers with: %s", error)

    champion = Champion(model, params, params.serve.poll_seconds, changed)
    challenger = Challenger(champion, store)
    batcher = Batcher(challenger.choose, params.serve, params.audio.max_duration, challenger.failed, champion.settle)
    written = Store(store, params, champion.settle)
    spool = Spool(store / "serve", written, int(params.serve.spool_megabytes * 1_000_000))
    shadow = Shadow(spool, lambda: batcher.busy or bool(champion.loading), params.audio.max_duration, metrics.shadow)
    token = os.environ.get(TOKEN, "")
    server = Server(champion, challenger, batcher, shadow, spool, metrics, params.serve, token, params.audio)
    stopped = threading.Event()
    showing = threading.Thread(target=_show, args=(server, stopped), daemon=True)
    champion.start()
    challenger.start()
    showing.start()
    try:
        on_ready(champion.current.name)
        run_app(create_app(server), listening, _GRACE)
    finally:
        server.stopping = True
        stopped.set()
        champion.stop()
        challenger.stop()
        batcher.close()
        shadow.close()
        spool.close()


def _show(server: Server, stopped: threading.Event) -> None:
    """Beside other workers: whoever is asked for /metrics tells of all. A registry that is silent raises no event."""
    while os.environ.get(SHARED) and not stopped.wait(_SHOW):
        server.show()


class Store:
    """Writes answers down as `transcribe --log` does; the detector of each model is loaded when it is first needed.

    Args:
        settle: returns when there is time for it.
    """

    def __init__(self, folder: Path, params: Params, settle: Callable[[], None] = lambda: None) -> None:
        self._tracker = MetadataTracker(folder, sampling=AuditSampling(params.audit, params.seed))
        self._params, self._settle = params, settle

    def __call__(self, answers: Sequence[Answer]) -> None:
        """Raises CaseError while the database is away; what is there already is not written again."""
        self._settle()
        with reading(self._tracker.engine) as session:  # what was erased while it waited does not come back
            answers = without_erased(session, answers)
        known = self._tracker.logged([answer.request_id for answer in answers])
        detector = cache(self._detector)
        inferences = []
        for answer in answers:
            if answer.beside or answer.request_id in known:
                continue
            heard = answer.transcription
            found = inference_of(heard, detector(heard.model), self._params.audio.max_duration)
            inferences.append(found.model_copy(update=answer.model_dump(exclude={"transcription", "shadow", "beside"})))
        try:
            self._tracker.log_inferences(inferences)
        finally:  # a recording that cannot be kept is no reason to lose a pair
            log_pairs(self._tracker.engine, [self._pair(answer, detector) for answer in answers if answer.beside])

    def _pair(self, answer: Answer, detector: "Callable[[str], ErrorDetector | None]") -> ShadowPair:
        assert answer.beside
        heard = answer.beside, answer.transcription
        facts = answer.model_dump(include={"request_id", "at", "canary", "served", "shadow"})
        return pair_of(heard, [detector(one.model) for one in heard], self._params, **facts)

    def _detector(self, digest: str) -> "ErrorDetector | None":
        from mondegreen.detector.detector import ErrorDetector

        try:
            return ErrorDetector.load(self._tracker.folder / "detector", digest, self._params.detector)
        except (CaseError, UsageError):
            return None  # `monitor` and `doctor` say that it is damaged; the inference is written down all the same
