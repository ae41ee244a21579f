"""A recording as its decoders give it, block by block: libsndfile part by part, PyAV for what that cannot read."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
import soundfile

from mondegreen.config import Seconds
from mondegreen.errors import AudioError
from mondegreen.speech import foreign
from mondegreen.speech.foreign import Block
from mondegreen.speech.layout import Layout, Loss, Part, Spliced, end_before_tags

Hertz = int
Warn = Callable[[str, str], None]  # is told a stable code and a message
Lose = Callable[[Loss], None]
FORMATS = ("WAV", "WAVEX", "RF64", "FLAC", "OGG", "MP3")
_BLOCK: Seconds = 10.0
_BLOCK_SAMPLES = 4_000_000  # over all channels: a damaged header may claim a thousand of them
_READ = 4_096  # frames decoded at a time: what a decoder fails in is lost as a whole
_TOLERANCE: Seconds = 0.05
CONVERT = "Convert it, for example with `ffmpeg -i IN -ar 16000 -ac 1 OUT.wav`."
AGAIN = "Copy or record it again, or leave it out."


class _ForwardFile(soundfile.SoundFile):  # type: ignore[misc]
    """Reads on from where it is.

    soundfile seeks after every read of a seekable file, which a FLAC of unknown length cannot do, and which makes mp3
    decoding complain to stderr.
    """

    def seekable(self) -> bool:
        return False


@dataclass(frozen=True)
class Recording:
    """An open file that holds audio."""

    stream: BinaryIO
    name: str
    channel: int | None  # 1 is the first; None for all
    warn: Warn
    layout: Layout | None  # None: PyAV reads it

    def promised(self) -> Seconds | None:
        """Its length by its headers; None when they do not say."""
        total = 0.0
        for part in self.layout.parts if self.layout else ():
            if part.foreign:
                return None
            try:
                with _ForwardFile(Spliced(self.stream, part.pieces)) as file:
                    length = part.seconds or _header_seconds(file)
            except soundfile.LibsndfileError:
                return None
            if not length:
                return None
            total += length
        return total or None

    def described(self) -> tuple[Hertz, int, str]:
        """Rate, channels and codec of the first part."""
        first = self.layout.parts[0] if self.layout and self.layout.parts else None
        part = first or self._whole()
        usual = self.layout is not None and first and not first.foreign and self._readable(self.layout)
        if usual or self._is_for_libsndfile(part):
            with _ForwardFile(Spliced(self.stream, part.pieces)) as file:
                return int(file.samplerate), int(file.channels), f"{file.format} {file.subtype}"
        try:
            return foreign.described(Spliced(self.stream, part.pieces))
        except (ImportError, ValueError) as error:
            raise AudioError(f"{self.name} cannot be decoded: {error}.", CONVERT, "not_audio") from None

    def channels(self) -> int:
        """How many channels the part has that has most."""
        counts = [1]
        for part in self.layout.parts if self.layout and self._readable(self.layout) else ():
            stream = Spliced(self.stream, part.pieces)
            with suppress(soundfile.LibsndfileError, ImportError, ValueError):
                if part.foreign:
                    counts.append(foreign.described(stream)[1])
                    continue
                with _ForwardFile(stream) as file:
                    counts.append(int(file.channels))
        first = next((block.shape[1] for _, block in self.blocks(lambda loss: None)), 1)
        return max(first, *counts)

    def blocks(self, lose: Lose) -> Iterator[tuple[Hertz, Block]]:
        """Rate, and float32 (frames, channels) of about ten seconds; AudioError where there is no audio.

        Every pass decodes the file anew; `lose` is told what is missing.
        """
        for rate, block in self._parts(lose):
            if not 1_000 <= rate <= 768_000:
                raise AudioError(f"{self.name} says that its rate is {rate} Hz.", CONVERT, "not_audio")
            yield rate, block

    def _parts(self, lose: Lose) -> Iterator[tuple[Hertz, Block]]:
        """Those blocks, whatever rate the file says."""
        for loss in self.layout.losses if self.layout else ():
            lose(loss)
        alone = self.layout.parts[0] if self.layout and len(self.layout.parts) == 1 else None
        unreadable = self.layout is None or not self._readable(self.layout)
        if self.layout is None or (alone and alone.foreign) or (unreadable and (alone or not foreign.installed())):
            yield from self._foreign(alone if alone and alone.foreign else None, lose)
            return
        offset = 0.0
        for part in self.layout.parts:
            decode = self._foreign_part if part.foreign or unreadable else self._part
            for rate, block in decode(part, offset, lose):
                yield rate, block
                offset += len(block) / rate

    def _readable(self, layout: Layout) -> bool:
        """Whether libsndfile knows what the first part is written in, or need not."""
        if not layout.parts or layout.parts[0].foreign:  # without one, what is missing is all of it
            return True
        return self._kind_of(layout.parts[0]) in FORMATS

    def _kind_of(self, part: Part) -> str:
        """What libsndfile calls the kind of file that a part is; "" for one that it cannot read."""
        try:
            with _ForwardFile(Spliced(self.stream, part.pieces)) as file:
                return str(file.format)
        except soundfile.LibsndfileError:
            return ""

    def _whole(self) -> Part:
        """The file as one part, without the tags that it ends with."""
        return Part((range(end_before_tags(self.stream)),), foreign=True)

    def _is_for_libsndfile(self, part: Part) -> bool:
        """Whether it can be heard though PyAV, which would read it, is not installed."""
        return not foreign.installed() and bool(self._kind_of(part))

    def _in_place_of_pyav(self, part: Part, offset: Seconds, lose: Lose) -> Iterator[tuple[Hertz, Block]]:
        """Libsndfile knows aiff, au, caf, w64 and SPHERE as well, and gives the same samples."""
        yield from self._part(part, offset, lose)
        if part.missing:
            size = sum(map(len, part.pieces))
            lose(Loss(f"{part.missing} bytes are missing at its end", None, part.missing / size))

    def _part(self, part: Part, offset: Seconds, lose: Lose) -> Iterator[tuple[Hertz, Block]]:
        decoded, rate, promised, tolerance, fault, place = 0, 1, part.seconds or 0.0, _TOLERANCE, "", None
        try:
            with _ForwardFile(Spliced(self.stream, part.pieces)) as file:
                rate, promised = int(file.samplerate), part.seconds or _header_seconds(file)
                # The frames of an mp3 were counted; its decoder may drop one or two of the encoder's delay.
                tolerance = 4 * 1152 / rate if file.format == "MP3" else _TOLERANCE
                for block in _gathered(file):
                    decoded += len(block)
                    yield rate, block
        except soundfile.LibsndfileError as error:
            fault, place = f" ({error.error_string.strip(' .:')})", offset + decoded / rate
            for block in self._behind_damage(part, decoded, rate):
                decoded += len(block)
                yield rate, block
        missing = max(promised, part.frames) - decoded / rate
        if fault or missing > tolerance:
            place = offset + decoded / rate if place is None else place
            lose(Loss(f"a part at {place:.2f} s cannot be decoded{fault}", missing if missing > 0 else None))

    def _behind_damage(self, part: Part, decoded: int, rate: Hertz) -> Iterator[Block]:
        """What PyAV finds of a part after what libsndfile decoded of it: it steps over damage."""
        if not foreign.installed():
            return
        with suppress(ValueError):
            for other, block in foreign.blocks(Spliced(self.stream, part.pieces), lambda loss: None):
                if other != rate:
                    return
                if len(block) > decoded:
                    yield block[decoded:]
                decoded = max(0, decoded - len(block))

    def _foreign_part(self, part: Part, offset: Seconds, lose: Lose) -> Iterator[tuple[Hertz, Block]]:
        """A file of another kind among several: the others are heard without it, too."""
        if self._is_for_libsndfile(part):
            yield from self._in_place_of_pyav(part, offset, lose)
            return
        if not foreign.installed():
            lose(Loss(f"a part at {offset:.2f} s is not heard: {foreign.INSTALL}", None))
            return
        try:
            for rate, block in _merged(foreign.blocks(Spliced(self.stream, part.pieces), lose, part.missing)):
                yield rate, block
                offset += len(block) / rate
        except ValueError as error:
            lose(Loss(f"a part at {offset:.2f} s cannot be decoded ({error})", None))

    def _foreign(self, part: Part | None, lose: Lose) -> Iterator[tuple[Hertz, Block]]:
        """The whole file, or the one part that it has."""
        kind = (
            "no wav, flac, ogg or mp3 file" if self.layout is None else "written in a way that libsndfile cannot read"
        )
        part = part or self._whole()
        if self._is_for_libsndfile(part):
            yield from self._in_place_of_pyav(part, 0.0, lose)
            return
        if not foreign.installed():
            raise AudioError(f"{self.name} is {kind}.", f"If it is audio, {foreign.INSTALL}. {CONVERT}", "not_audio")
        try:
            yield from _merged(foreign.blocks(Spliced(self.stream, part.pieces), lose, part.missing))
        except ValueError as error:
            if self.layout and not self.layout.parts[0].foreign:
                raise AudioError(f"{self.name} is truncated or damaged: {error}.", AGAIN, "truncated") from None
            raise AudioError(f"{self.name} is not audio that can be decoded: {error}.", CONVERT, "not_audio") from None


def _merged(blocks: Iterator[tuple[Hertz, Block]]) -> Iterator[tuple[Hertz, Block]]:
    """Blocks of about ten seconds out of ffmpeg's, of some milliseconds each: channels are judged by the block."""
    held: list[Block] = []
    kind, frames = (0, 0), 0
    try:
        for rate, block in blocks:
            if held and (kind != (rate, block.shape[1]) or frames >= _BLOCK * rate):
                yield kind[0], np.concatenate(held)
                held, frames = [], 0
            kind, frames = (rate, block.shape[1]), frames + len(block)
            held.append(block)
    except ValueError:
        if held:
            yield kind[0], np.concatenate(held)
        raise
    if held:
        yield kind[0], np.concatenate(held)


def _gathered(file: _ForwardFile) -> Iterator[Block]:
    """Blocks of about ten seconds, and what was decoded before the decoder failed."""
    size = int(min(_BLOCK * file.samplerate, _BLOCK_SAMPLES / file.channels))
    held: list[Block] = []
    try:
        while len(block := file.read(_READ, dtype="float32", always_2d=True)):
            held.append(block)
            if len(held) * _READ >= size:
                yield np.concatenate(held)
                held = []
    except soundfile.LibsndfileError:
        if held:
            yield np.concatenate(held)
        raise
    if held:
        yield np.concatenate(held)


def _header_seconds(file: _ForwardFile) -> Seconds:
    """Length that the header promises, 0 when it does not say (libsndfile then gives a huge number)."""
    return file.frames / file.samplerate if 0 < file.frames < 2**48 else 0.0
