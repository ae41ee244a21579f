"""From a recording that lies in the spool to what was heard: of all channels mixed, of one, or of each by itself.

`audio.channel` says which, as for `mondegreen transcribe`. Each channel that is heard by itself is an answer of its own
in the store, under the request's id and its number, with the recording in a folder of its own.
"""

import asyncio
import os
import shutil
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from starlette.requests import Request

from mondegreen.config import Channel, Fraction, Seconds, ServeParams
from mondegreen.errors import AudioError
from mondegreen.serving.batcher import Heard, Hearing
from mondegreen.serving.openai_api import Asked, RefusedError
from mondegreen.serving.spool import Answer, Spool
from mondegreen.speech.audio import duration_of, named_channels
from mondegreen.speech.channels import channel_digest, channel_of, named_channel
from mondegreen.speech.transcriber import Failure

_PLAINLY = 2.0  # times serve.timeout: a machine that was busy may hear the next recording twice as fast
_HELPS = "Send shorter recordings, or have serve.timeout raised"


def seconds_of(recording: Path, params: ServeParams, max_missing_share: Fraction) -> Seconds:
    """Its length. Raises RefusedError: it is no audio, or there is too much of it."""
    try:
        seconds = duration_of(recording, max_missing_share=max_missing_share)
    except AudioError as error:
        raise RefusedError(400, f"file: {str(error).replace(str(recording), recording.name)}", "file") from None
    if seconds > params.max_seconds:
        raise RefusedError(
            413, f"file: {seconds:.0f} seconds; {params.max_seconds:.0f} are taken (serve.max_seconds).", "file"
        )
    return seconds


def parts_of(recording: Path, channel: Channel, spool: Spool, request_id: str, asked: Asked) -> list[Path]:
    """Under which names it is heard, such as `call.wav#2`. Raises RefusedError: one name was given to several channels.

    Args:
        recording: in the spool, under `request_id`.
        channel: audio.channel.
    """
    names = named_channels(recording, channel)
    if len(names) == 1:
        return names
    if asked.channel:
        raise RefusedError(
            400,
            f"channel: the recording has {len(names)}, and each is heard by itself (audio.channel). Leave it out, or "
            "send one a request.",
            "channel",
        )
    kept = names[:1]
    try:
        for name in names[1:]:
            number = channel_of(name)[1]
            place = spool.place(f"{request_id}#{number}", recording.name)
            kept.append(named_channel(place, number))
            _copy(recording, place)
    except OSError:  # of a full disk, say, which they would go on filling
        for part in kept[1:]:
            spool.forget(part)
        raise
    return kept


def _copy(recording: Path, place: Path) -> None:
    """The same recording once more: what is written down takes its own with it."""
    try:
        os.link(recording, place)
    except OSError:  # a disk without links
        shutil.copyfile(recording, place)


def check_expected(seconds: Seconds, expected: Seconds | None, timeout: Seconds) -> None:
    """Raises RefusedError where it is plain that nobody would wait until a recording was heard.

    Args:
        seconds: its length.
        expected: how long it is heard; None: nobody knows.
    """
    if expected and expected > _PLAINLY * timeout:
        said = f"file: {seconds:.0f} seconds, which take about {expected:.0f} to hear by the last long recording; "
        raise RefusedError(413, f"{said}{timeout:g} are allowed (serve.timeout). {_HELPS}.", "file")


async def await_heard(request: Request, futures: Sequence[Hearing], timeout: Seconds) -> list[Heard]:
    """Waits for the transcripts; for no longer than is allowed, and not for a client that is gone.

    Raises:
        RefusedError: one of the two; or the audio has a fault that only decoding finds.
    """
    results = asyncio.gather(*map(asyncio.wrap_future, futures))
    # Looked at in any case: asyncio logs what nobody has as an error, also that somebody waits no more.
    results.add_done_callback(lambda done: done.cancelled() or done.exception())
    gone = asyncio.create_task(_disconnected(request))
    try:
        waiting: set[asyncio.Future[Any]] = {results, gone}
        done, _ = await asyncio.wait(waiting, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        if results in done:
            return _whole(results.result())
        if gone in done:
            raise RefusedError(499, "The client is gone.")
        raise _late(futures, timeout)
    finally:
        for future in futures:
            future.cancel()
        results.cancel()
        gone.cancel()


def _late(futures: Sequence[Hearing], timeout: Seconds) -> RefusedError:
    """Asking again helps who waited for others, not a recording that was heard for most of the time."""
    began = min((future.began for future in futures if future.began is not None), default=None)
    heard = 0.0 if began is None else time.monotonic() - began
    said = f"no transcript within {timeout:g} seconds (serve.timeout)"
    if heard < timeout / 2:
        return RefusedError(504, f"There is {said}: others were heard before. Ask later.")
    # OpenAI's clients ask again after a 504, unless they are told not to.
    never = {"x-should-retry": "false"}
    return RefusedError(504, f"file: {said}, {heard:.0f} of which it was heard. {_HELPS}.", "file", never)


def _whole(heard: list[Heard]) -> list[Heard]:
    for one in heard:
        if isinstance(one.result, Failure):
            path = one.result.path
            raise RefusedError(400, f"file: {one.result.error.replace(path, Path(path).name)}", "file")
    return heard


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def answers_of(request_id: str, asked: Asked, heard: Sequence[Heard], digest: str) -> list[Answer]:
    """What is kept of a request.

    Args:
        digest: sha256 of the file.
    """
    return [_answer(f"{request_id}#{number}" if number > 1 else request_id, asked, one, digest)
            for number, one in enumerate(heard, 1)]  # fmt: skip


def _answer(request_id: str, asked: Asked, heard: Heard, digest: str) -> Answer:
    result = heard.transcription
    number = channel_of(result.path)[1]
    return Answer(
        request_id=request_id,
        at=datetime.now(UTC),
        served=heard.served.name,
        audio_sha256=channel_digest(digest, number),
        transcription=result,
        caller=asked.caller,
        speaker=asked.speaker,
        recording=asked.recording or (None if number is None else digest),
        channel=asked.channel or (None if number is None else str(number)),
        role=heard.choice.role,
        canary=heard.choice.canary,
        batch=heard.batch,
    )
