"""One function over many shards of work: in this process, or on a Ray of one machine or many.

The function is opened once a worker, where it loads its model, and then gets a shard at a time. Ray Data starts the
workers, holds back what they cannot take yet, and gives a shard to another one when its own dies. RAY_ADDRESS names
the cluster; without it a Ray of this machine is started. Needs the extra `ray`, which is imported on first use.
"""

import hashlib
import importlib
import io
import logging
import os
import pickle
import signal
import socket
import sys
import tarfile
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar, cast

from mondegreen.config import ComputeParams, Seconds
from mondegreen.errors import CloudError, MondegreenError, UsageError, told
from mondegreen.files import extract, lock

Work = TypeVar("Work")
Result = TypeVar("Result")
OpenWorker = Callable[[Path | None], Callable[[Work], Result]]

_START: Seconds = 300.0  # that a Ray may take to begin
_TRIES = 3  # rounds, and so workers that one shard may take with it
_PACKAGE = Path(__file__).parent
_QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_BACKEND_LOG_LEVEL": "fatal"}


@dataclass(frozen=True)
class FailedShard:
    """A shard that gave no result: its function raised, or its workers died."""

    why: str


def map_shards(
    open_worker: "OpenWorker[Work, Result]",
    shards: Sequence[Work],
    settings: ComputeParams,
    folder: Path | None = None,
    shared: Sequence[str] = (),
    one_a_machine: bool = False,
) -> "Iterator[tuple[int, Result | FailedShard]]":
    """The place of each shard and what came of it, as they are done: in their order here, in any order on Ray.

    Args:
        open_worker: called once a worker with its copy of `folder`; gives the function of one shard. On Ray it is
            pickled, as shards and results are; a shard may be begun again after its worker died.
        folder: what every worker needs, such as the model; it is sent to them.
        shared: files of this machine that every worker must see under the same name, such as the first recording.
        one_a_machine: a worker takes all cores of the smallest machine, whatever `settings` gives it: for what workers
            of one machine would share.

    Raises:
        MondegreenError: a worker cannot be opened.
        UsageError: the extra `ray` is not installed.
        CloudError: no Ray answers at RAY_ADDRESS.
    """
    if not shards:
        return iter(())
    if settings.engine == "ray":
        return _over_ray(open_worker, shards, settings, folder, tuple(shared), one_a_machine)
    return _here(open_worker, shards, folder)


def _here(
    open_worker: "OpenWorker[Work, Result]", shards: Sequence[Work], folder: Path | None
) -> "Iterator[tuple[int, Result | FailedShard]]":
    worker = open_worker(folder)
    for number, shard in enumerate(shards):
        yield number, _result(worker, shard)


def _result(worker: Callable[[Work], Result], shard: Work) -> Result | FailedShard:
    try:
        return worker(shard)
    except Exception as error:  # whatever a shard meets, the others are still done; who asked says what was not
        return FailedShard(told(error))


def _over_ray(
    open_worker: "OpenWorker[Work, Result]",
    shards: Sequence[Work],
    settings: ComputeParams,
    folder: Path | None,
    shared: tuple[str, ...],
    one_a_machine: bool,
) -> "Iterator[tuple[int, Result | FailedShard]]":
    """In rounds: what was lost with a worker or a machine is done in the next one, with workers that live."""
    ray = connected()
    if one_a_machine:
        settings = settings.model_copy(update={"cpus": _cores_of_the_smallest(ray), "gpus": 0.0})
    packed = _Packed.of(folder, ray) if folder else None
    given = (open_worker, packed, code_digest(), str(Path.cwd()), shared)
    missing = dict(enumerate(shards))
    for number in range(_TRIES):
        before = len(missing)
        try:
            for row in _round(ray, missing, settings, given):
                result = pickle.loads(row["result"])  # of our own workers; a Ray runs whatever its users send it anyway
                if isinstance(result, MondegreenError):
                    raise result
                if missing.pop(row["number"], None) is not None:
                    yield row["number"], cast("Result | FailedShard", result)
        except ray.exceptions.RayError as error:
            if number + 1 == _TRIES or len(missing) == before:
                why = str(error).strip().rpartition("\n")[2].strip()
                advice = "Is the same mondegreen[ray] on every machine? The same command goes on."
                raise MondegreenError(f"Ray ended the run: {why}.", advice) from error
        if not missing:
            return
    for number in sorted(missing):
        yield number, FailedShard(f"it was begun {_TRIES} times, and each time its worker died; was the memory full?")


def _cores_of_the_smallest(ray: Any) -> float:
    """Of the machines that have any: who asks for so many is alone on it, and has one beside it on one twice as big."""
    cores = [machine["Resources"].get("CPU", 0.0) for machine in ray.nodes() if machine["Alive"]]
    return min(filter(None, cores), default=1.0)


def _round(ray: Any, shards: dict[int, Any], settings: ComputeParams, given: tuple[Any, ...]) -> Iterator[Any]:
    """Every shard is begun once; those whose worker died are not among the results."""
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = context.print_on_execution_start = False
    context.max_errored_blocks = -1
    rows = [{"number": number, "shard": pickle.dumps(shard)} for number, shard in shards.items()]
    room = max(1, int(ray.cluster_resources().get("CPU", 1) / settings.cpus))
    fewest = min(room, len(rows), settings.workers or room)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # max_task_retries has no other place until Ray 2.64, which is not allowed yet
        results = ray.data.from_items(rows, override_num_blocks=len(rows)).map(
            _RayWorker,
            fn_constructor_args=given,
            compute=ray.data.ActorPoolStrategy(
                min_size=fewest,
                max_size=settings.workers,
                max_tasks_in_flight_per_actor=1,  # a shard that kills its worker takes none along that waits there
            ),
            num_cpus=settings.cpus,
            num_gpus=settings.gpus,
            max_task_retries=0,  # Ray's own tries may all fall on a machine that is gone
        )
    # Without reading ahead, or what is done would be handed on only after the next: a killed driver would lose it.
    blocks = results.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0)
    return (row for block in blocks for row in block.to_pylist())


def seen_here(names: Iterable[str], most: int = 1) -> list[str]:
    """The first of these files that are on this machine, for `shared` of `map_shards`."""
    return list(islice((name for name in names if Path(name).exists()), most))


def in_parts(items: Sequence[Work], size: int) -> list[Sequence[Work]]:
    """The items, `size` at a time, as shards of `map_shards`."""
    return [items[start : start + size] for start in range(0, len(items), size)]


def in_order(results: Iterator[tuple[int, Result]]) -> Iterator[Result]:
    """The results by their places; what comes early waits."""
    waiting: dict[int, Result] = {}
    following = 0
    for number, result in results:
        waiting[number] = result
        while following in waiting:
            yield waiting.pop(following)
            following += 1


class _RayWorker:
    """An actor of Ray: opens the worker, hands it a shard at a time.

    What cannot be opened is every shard's result, because Ray would start the actor again for ever.
    """

    def __init__(
        self,
        open_worker: "OpenWorker[Any, Any]",
        packed: "_Packed | None",
        code: str,
        project: str,
        shared: tuple[str, ...],
    ) -> None:
        self._problem: MondegreenError | None = None
        try:
            with suppress(OSError):
                os.chdir(project)
            if unseen := [name for name in shared if not Path(name).exists()]:
                raise MondegreenError(
                    f"{unseen[0]} is not on {socket.gethostname()}, where a worker is to read or write beside it.",
                    "Share the folder under the same path, or use a bucket.",
                )
            if code_digest() != code:
                raise MondegreenError(
                    f"The worker on {socket.gethostname()} runs another mondegreen than the one that asks.",
                    "Install the same version (or start the same image) everywhere.",
                )
            self._worker = open_worker(packed.unpacked() if packed else None)
        except MondegreenError as error:
            self._problem = MondegreenError(error.problem, error.next_step)
        except Exception as error:
            self._problem = MondegreenError(f"A worker cannot begin: {type(error).__name__}: {error}")

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        result = self._problem or _result(self._worker, pickle.loads(row["shard"]))
        return {"number": row["number"], "result": pickle.dumps(result)}


def code_digest() -> str:
    """SHA-256 over the modules of the package: another one may give other texts."""
    found = hashlib.sha256()
    for path in sorted(_PACKAGE.rglob("*.py")):
        found.update(path.relative_to(_PACKAGE).as_posix().encode() + b"\0" + path.read_bytes())
    return found.hexdigest()


@dataclass(frozen=True)
class _Packed:
    """A folder in Ray's object store, which machines hand on to each other."""

    name: str
    sha256: str
    content: Any  # an ObjectRef

    @classmethod
    def of(cls, folder: Path, ray: Any) -> "_Packed":
        content = io.BytesIO()
        with tarfile.open(fileobj=content, mode="w", dereference=True) as archive:  # the hub's folders are links
            archive.add(folder, folder.name)
        return cls(folder.name, hashlib.sha256(content.getbuffer()).hexdigest(), ray.put(content.getvalue()))

    def unpacked(self) -> Path:
        """The folder on this machine, once for all of its workers."""
        home = Path(tempfile.gettempdir(), f"mondegreen-{os.getuid()}", self.sha256)
        with lock(home.with_suffix(".lock")):
            if not home.is_dir():
                part = Path(tempfile.mkdtemp(dir=home.parent))
                content = importlib.import_module("ray").get(self.content)
                with tarfile.open(fileobj=io.BytesIO(content)) as archive:
                    extract(archive, part)
                part.replace(home)
        return home / self.name


def connected() -> Any:
    """Ray's module, connected to RAY_ADDRESS or to a Ray of this machine that ends with this process."""
    address = os.environ.get("RAY_ADDRESS") or "local"  # Ray itself would look for one that was once started here
    quiet = "RAY_BACKEND_LOG_LEVEL" not in os.environ
    for name, value in _QUIET.items():  # Ray reads them when it is imported
        os.environ.setdefault(name, value)
    try:
        ray: Any = importlib.import_module("ray")
        importlib.import_module("ray.data")
    except ImportError:
        raise UsageError(
            "Ray is not installed.", 'Run `pip install "mondegreen[ray]"`, or choose engine local.'
        ) from None
    if ray.is_initialized():
        return ray
    if address not in ("auto", "local"):
        _check_listens(address)
    with _no_stderr() if quiet else warnings.catch_warnings():
        try:
            with _within(_START):
                ray.init(address=address, include_dashboard=False if address == "local" else None,
                         configure_logging=False, log_to_driver=False, logging_level=logging.CRITICAL)  # fmt: skip
        except _TooLongError:
            raise _stuck(address) from None
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise _no_ray(address, str(error)) from None
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    # What a dying worker's machine says would stand among the answers on stdout; we say it by shard.
    printing: Any = importlib.import_module("ray._private.worker")
    printing._worker_logs_enabled = False
    return ray


class _TooLongError(BaseException):
    """Nothing that is retried or handled on the way."""


@contextmanager
def _within(seconds: Seconds) -> Iterator[None]:
    """Raises _TooLongError after so long: in the main thread, where alone it can be done.

    Another thread could not start Ray instead: what it starts is killed when that thread ends.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def over(number: int, frame: FrameType | None) -> None:
        raise _TooLongError

    former = signal.signal(signal.SIGALRM, over)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, former)


def _stuck(address: str) -> CloudError:
    where = "of this machine" if address == "local" else f"at {address}"
    return CloudError(
        f"The Ray {where} did not begin within {_START:g} s.",
        "Where processes of a Ray were killed, the rest of it may be in the way: `ray stop --force` ends every Ray of "
        "a machine. Then run it again.",
    )


def _check_listens(address: str) -> None:
    """Within seconds, where Ray itself would try for minutes."""
    host, _, port = address.rpartition(":")
    if "://" in address or not port.isdigit():
        raise UsageError(f"RAY_ADDRESS={address} is no address of a Ray.", "Write host:6379, auto or local.")
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except OSError as error:
        raise _no_ray(address, str(error)) from None


def _no_ray(address: str, why: str) -> CloudError:
    return CloudError(
        f"No Ray answers at {address}: {why}.",
        "`ray status` on the head node shows it. A cluster with a token wants RAY_AUTH_MODE=token and RAY_AUTH_TOKEN "
        "(or ~/.ray/auth_token); without RAY_ADDRESS a Ray of this machine is started.",
    )


@contextmanager
def _no_stderr() -> Iterator[None]:
    """Ray's core writes past Python's streams; what matters comes as an exception."""
    sys.stderr.flush()
    kept = os.dup(2)
    with Path(os.devnull).open("wb") as nothing:
        os.dup2(nothing.fileno(), 2)
    try:
        yield
    finally:
        sys.stderr.flush()
        os.dup2(kept, 2)
        os.close(kept)
