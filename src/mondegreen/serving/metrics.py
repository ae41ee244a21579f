"""What Prometheus reads at /metrics. With several workers it is the sum over all, of gauges over those that run.

Each worker writes what it counts into a file that all of them read, and reads nobody's memory: what a gauge says has to
be set whenever it may have changed, not only when somebody asks.
"""

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

if TYPE_CHECKING:
    from mondegreen.serving.batcher import Heard
    from mondegreen.serving.champion import Served
    from mondegreen.serving.spool import SpoolState

SHARED = "PROMETHEUS_MULTIPROC_DIR"  # prometheus_client's: where several processes keep their counts
_LATENCIES = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
_BATCHES = (1, 2, 4, 8, 16, 32)


class ServiceMetrics:
    """The service's own registry, so that two in one process do not meet."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._serving: tuple[str, str] | None = None  # the labels of the model that serves
        self.requests = self._counter("mondegreen_requests", "Requests by status.", "status")
        self.latency = self._histogram("mondegreen_request_seconds", "From the request to its answer.", _LATENCIES)
        self.audio = self._counter("mondegreen_audio_seconds", "Audio that was heard.")
        self.batch = self._histogram("mondegreen_batch_recordings", "Recordings heard together.", _BATCHES)
        self.inside = self._gauge("mondegreen_requests_inside", "Taken and not answered.", "livesum")
        told = "1 for the model that serves, 0 for one that did before."
        self.model = self._gauge("mondegreen_model", told, "livemax", "model", "digest")
        told = "1 while what is in production by the registry does not serve."
        self.problem = self._gauge("mondegreen_model_problem", told, "livemax")
        self.roles = self._counter("mondegreen_answered", "Recordings by who answered.", "role")
        told = "Recordings that the challenger was to hear beside the champion: heard, dropped, failed."
        self.shadow = self._counter("mondegreen_shadow", told, "state")
        told = "1 while a canary's challenger should answer and does not."
        self.canary = self._gauge("mondegreen_canary_problem", told, "livemax")
        told = "Answers on their way into the store: waiting, written, dropped, refused."
        self.answers = self._gauge("mondegreen_answers", told, "livesum", "state")

    def _counter(self, name: str, told: str, *labels: str) -> Counter:
        return Counter(name, told, labels, registry=self.registry)

    def _histogram(self, name: str, told: str, buckets: Sequence[float]) -> Histogram:
        return Histogram(name, told, buckets=buckets, registry=self.registry)

    def _gauge(self, name: str, told: str, of_workers: Literal["livesum", "livemax"], *labels: str) -> Gauge:
        return Gauge(name, told, labels, registry=self.registry, multiprocess_mode=of_workers)

    def asked(self, status: int, seconds: float) -> None:
        """A request was answered."""
        self.requests.labels(str(status)).inc()
        self.latency.observe(seconds)

    def heard(self, heard: "Heard") -> None:
        """A recording was transcribed."""
        self.audio.inc(getattr(heard.result, "duration", 0.0))
        self.batch.observe(heard.batch)
        self.roles.labels(heard.choice.role).inc()

    def serves(self, served: "Served") -> None:
        """Another model took over."""
        former, self._serving = self._serving, (served.name, served.digest[:12])
        if former:
            self.model.labels(*former).set(0)  # a label cannot be taken out of the workers' files
        self.model.labels(*self._serving).set(1)

    def show(self, spool: "SpoolState", problem: bool, canary_problem: bool) -> None:
        """What the gauges say of this process from now on."""
        self.problem.set(problem)
        self.canary.set(canary_problem)
        for state in ("waiting", "written", "dropped", "refused"):
            self.answers.labels(state).set(getattr(spool, state))

    def text(self) -> tuple[bytes, str]:
        """The page and its media type."""
        registry = self.registry
        if os.environ.get(SHARED):
            registry = CollectorRegistry()
            MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return generate_latest(registry), CONTENT_TYPE_LATEST
