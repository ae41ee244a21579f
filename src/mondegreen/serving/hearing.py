"""From a recording that lies in the spool to what was heard: of all channels mixed, of one, or of each by itself.

`audio.channel` says which, as for `mondegreen transcribe`. Each channel that is heard by itself is an answer of its own
in the store, under the request's id and its number, with the recording in a folder of its own.
"""

import asyncio
import os
import shutil
from collections.abc import Sequence
from concurrent.futures import Future
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from starlette.requests import Request

from mondegreen.config import Channel, Seconds, ServeParams
from mondegreen.errors import AudioError
from mondegreen.serving.batcher import Heard
from mondegreen.serving.openai_api import Asked, RefusedError
from mondegreen.serving.spool import Answer, Spool
from mondegreen.speech.audio import duration_of, named_channels
from mondegreen.speech.channels import channel_digest, channel_of, named_channel
from mondegreen.speech.transcriber import Failure


def seconds_of(recording: Path, params: ServeParams) -> Seconds:
    """Its length. Raises RefusedError: it is no audio, or there is too much of it."""
    try:
        seconds = duration_of(recording)
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


async def await_heard(request: Request, futures: "Sequence[Future[Heard]]", timeout: Seconds) -> list[Heard]:
    """Waits for the transcripts; for no longer than is allowed, and not for a client that is gone.

    Raises:
        RefusedError: one of the two; or the audio has a fault that only decoding finds.
    """
    results = asyncio.gather(*map(asyncio.wrap_future, futures))
    gone = asyncio.create_task(_disconnected(request))
    try:
        waiting: set[asyncio.Future[Any]] = {results, gone}
        done, _ = await asyncio.wait(waiting, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        if results in done:
            return _whole(results.result())
        if gone in done:
            raise RefusedError(499, "The client is gone.")
        raise RefusedError(504, f"No transcript within {timeout:g} seconds (serve.timeout). Ask later.")
    finally:
        for future in futures:
            future.cancel()
        results.cancel()
        gone.cancel()


def _whole(heard: list[Heard]) -> list[Heard]:
    for one in heard:
        if isinstance(one.result, Failure):
            raise RefusedError(400, f"file: {one.result.error}", "file")
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
    )
