"""What `mondegreen cases` needs before it can store or list: transcripts, moments."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from mondegreen.errors import AudioError, UsageError

_GROUP = 32  # files taken together, so that a long list shows its first transcripts early
_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def names_one(audio: Sequence[Path], text: str | None, correction: str | None) -> None:
    """Raises UsageError where one text would be said to be heard in several recordings."""
    for option, given in (("--text", text), ("--correction", correction)):
        if given is not None and len(audio) > 1:
            raise UsageError(f"One {option} is given for {len(audio)} recordings.", "Add them one by one.")


def heard(
    audio: Sequence[Path], text: str | None, model: str | None, model_version: str
) -> Iterator[tuple[Path, str | AudioError, str]]:
    """Each recording with what was heard in it (or why nothing could be), and the version of the model that heard it.

    Args:
        text: what was heard in the one recording; None to transcribe now.
        model: that transcribes; None for model.base of params.yaml.
        model_version: "" for the digest of the model that transcribes, if one does.
    """
    if text is not None:
        for path in audio:
            yield path, text, model_version
        return
    from mondegreen.config import Params, load_params
    from mondegreen.speech.transcriber import BaselineSTTModel, Failure

    if model is None and not Path("params.yaml").is_file():
        raise UsageError("No model is named, and there is no params.yaml here.", "Give one: --model NAME, or --text.")
    params = load_params() if Path("params.yaml").is_file() else Params()
    stt = BaselineSTTModel(
        model or params.model.base,
        batch_seconds=params.transcribe.batch_seconds,
        nbest=0,
        max_duration=params.audio.max_duration,
    )
    for start in range(0, len(audio), _GROUP):
        group = audio[start : start + _GROUP]
        for path, result in zip(group, stt.transcribe_many(group), strict=True):
            failed = isinstance(result, Failure)
            found = AudioError(result.error, reason=result.reason) if isinstance(result, Failure) else result.text
            yield path, found, "" if failed else model_version or stt.digest


def moment(written: str | None, option: str) -> datetime | None:
    """A time ago (90m, 24h, 7d, 2w) or a date and time of this machine's zone, as an aware datetime.

    Raises:
        UsageError: neither.
    """
    if written is None:
        return None
    try:
        if written[-1:] in _UNITS:
            return datetime.now(UTC) - timedelta(**{_UNITS[written[-1]]: float(written[:-1])})
        return datetime.fromisoformat(written).astimezone(UTC)
    except (ValueError, OverflowError):
        raise UsageError(
            f"{option} {written} is no time.", "Write 90m, 24h, 7d or 2w for so long ago, or a date: 2026-11-23T09:30."
        ) from None
