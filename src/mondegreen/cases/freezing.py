"""Which cases a dataset version takes, each with its audio, and why others are left out."""

import hashlib
import io
import os
import shutil
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from mondegreen.cases.card import AUDITED, EMPTY, MISSING_AUDIO, Contents, LeftOutCase
from mondegreen.cases.queries import Audited
from mondegreen.cases.store import DataManager
from mondegreen.config import AudioParams, Seconds
from mondegreen.errors import AudioError, CaseError, VocabularyError
from mondegreen.records import FailedCase
from mondegreen.speech.audio import SAMPLE_RATE, load_audio
from mondegreen.speech.text import Labeller

TrackCases = Callable[[Sequence[FailedCase]], Iterable[FailedCase]]

_CORRUPT = "corrupt_audio"


class Freezer:
    """Checks cases one by one and places the audio of the good ones in `target`/audio.

    Args:
        data_manager: has the audio of the new cases.
        present: data/failed_cases as it is, whose audio was checked before.
        before: its rows.
        allowed: the max_missing_share by which its audio was checked; None: nobody knows.
        target: the folder of the new version.
        audio: what a recording may be: max_duration and max_missing_share are read.
        labeller: writes labels as training will; None leaves the alphabet unchecked.
        audited: recordings that judge the service, so that none of them may teach.
    """

    def __init__(
        self,
        data_manager: DataManager,
        present: Path,
        before: Sequence[FailedCase],
        allowed: float | None,
        target: Path,
        audio: AudioParams,
        labeller: Labeller | None,
        audited: Audited,
    ) -> None:
        self._audited = audited
        self._manager, self._present, self._target = data_manager, present, target
        self._known = {case.sha256: case for case in before}
        self._audio, self._labeller = audio, labeller
        self._stricter = allowed is None or allowed > audio.max_missing_share
        self._placed: dict[str, tuple[str, Seconds]] = {}  # path and duration by sha256
        self._refused: dict[str, tuple[str, str]] = {}  # reason and message by sha256

    def freeze(self, cases: Sequence[FailedCase], track: TrackCases) -> Contents:
        """Raises OSError when the disk refuses."""
        (self._target / "audio").mkdir(parents=True)
        contents = Contents()
        for case in track(cases):
            reason, message = self._check_audit(case) or self._check_text(case) or self._check_audio(case)
            if reason:
                contents.left_out.append(LeftOutCase(id=case.id, reason=reason, message=message))
            else:
                path, duration = self._placed[case.sha256]
                contents.kept.append(case.model_copy(update={"path": path, "duration": duration}))
        return contents

    def _check_audit(self, case: FailedCase) -> tuple[str, str] | None:
        drawn = self._audited.holds(case.sha256, case.recording)
        return (AUDITED, "its recording is in the audit sample, which judges and never teaches") if drawn else None

    def _check_text(self, case: FailedCase) -> tuple[str, str] | None:
        try:
            silent = not (self._labeller.encode(case.text, "its correction") if self._labeller else case.text.strip())
        except VocabularyError as error:
            return "vocabulary", error.problem
        return (EMPTY, "its correction has no words") if silent else None

    def _check_audio(self, case: FailedCase) -> tuple[str, str]:
        if case.sha256 not in self._placed and case.sha256 not in self._refused:
            try:
                self._placed[case.sha256] = self._keep(case.sha256) or self._take(case.sha256)
            except AudioError as error:
                self._refused[case.sha256] = error.reason, error.problem
            except CaseError as error:
                self._refused[case.sha256] = MISSING_AUDIO, error.problem
        return self._refused.get(case.sha256, ("", ""))

    def _keep(self, sha256: str) -> tuple[str, Seconds] | None:
        """Takes over what the present version has: data/ was found unchanged, so a stricter rule alone looks again."""
        known = self._known.get(sha256)
        if known is None or not (source := self._present / known.path).is_file():
            return None
        if known.duration > (longest := self._audio.max_duration):
            raise AudioError(f"it is {known.duration:.1f} s long, {longest:g} s are allowed", "", "too_long")
        if self._stricter:
            load_audio(source, max_missing_share=self._audio.max_missing_share)
        target = self._target / "audio" / source.name
        try:
            os.link(source.resolve(), target)
        except OSError:  # another file system, or one without links
            shutil.copyfile(source, target)
        return f"audio/{source.name}", known.duration

    def _take(self, sha256: str) -> tuple[str, Seconds]:
        path = self._manager.blobs.path(sha256)
        content = path.read_bytes()
        if hashlib.sha256(content).hexdigest() != sha256:
            raise AudioError(f"the bytes of {path} are not those that were stored", "", _CORRUPT)
        stream = io.BytesIO(content)
        stream.name = f"recording {sha256[:16]}"
        waveform = load_audio(stream, self._audio.max_duration, max_missing_share=self._audio.max_missing_share)
        name = f"audio/{sha256}{path.suffix}"
        (self._target / name).write_bytes(content)
        return name, round(len(waveform) / SAMPLE_RATE, 6)
