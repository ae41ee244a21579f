"""Language models in files: ARPA, also compressed by gzip, as KenLM and SRILM write it, and a compact form of our own.

The compact form is a safetensors file: its arrays are mapped into memory, and nothing in it can run.
"""

import gzip
import json
import math
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from mondegreen.config import Params
from mondegreen.errors import UsageError
from mondegreen.files import write_bytes
from mondegreen.scoring.phrases import LM_FILE
from mondegreen.speech.ngram import BEGIN, END, SPECIAL, UNKNOWN, NGramModel, Order, fault_of, keyed, ngrams

ALPHA, BETA = 0.5, 1.0  # of a file that says nothing of them
_NEXT = "Write it again with the tool that made it, or name another file."
_NEVER = -99.0  # how ARPA writes the logarithm of 0
_LN10 = math.log(10)
_TYPES = {"I64": np.int64, "F32": np.float32, "U8": np.uint8}


class _Header(BaseModel):
    """What stands beside the arrays of a compact file."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    format: str
    orders: int
    alpha: float = Field(ge=0, le=10)
    beta: float = Field(ge=-100, le=100)
    facts: str


_FORMAT = "mondegreen language model 1"


def is_arpa(path: Path) -> bool:
    return path.name.lower().endswith((".arpa", ".arpa.gz"))


def read_lm(path: Path) -> NGramModel:
    """A model of either form.

    Raises:
        UsageError: it is missing, damaged, or none: with the line of an ARPA file.
    """
    if not path.is_file():
        raise UsageError(
            f"{path} does not exist.", "Name a language model: words.lm, or an ARPA file (.arpa, .arpa.gz)."
        )
    return _read_arpa(path) if is_arpa(path) else _read_compact(path)


def write_lm(path: Path, model: NGramModel) -> None:
    """Writes a model so that `read_lm` finds the same; ARPA, which keeps neither alpha nor beta, by the name's end."""
    if is_arpa(path):
        text = "\n".join(_arpa_lines(model)).encode() + b"\n"
        return write_bytes(path, gzip.compress(text, mtime=0) if path.suffix.lower() == ".gz" else text)
    header = _Header(format=_FORMAT, orders=model.order, alpha=model.alpha, beta=model.beta, facts=model.facts)
    arrays = {"words": np.frombuffer("\n".join(model.words).encode(), dtype=np.uint8)}
    for number, order in enumerate(model.orders, 1):
        arrays |= {f"{number}.{name}": np.ascontiguousarray(values) for name, values in vars(order).items()}
    return write_bytes(path, save(arrays, {"model": header.model_dump_json()}))


def _read_compact(path: Path) -> NGramModel:
    try:
        with safe_open(path, framework="np") as file:  # which looks at the header whole
            header = _Header.model_validate_json((file.metadata() or {}).get("model", ""))
        arrays = _mapped(path)
        words = tuple(arrays["words"].tobytes().decode().split("\n"))
        orders = [
            Order(*(arrays[f"{number}.{name}"] for name in ("keys", "log_probs", "backoffs")))
            for number in range(1, header.orders + 1)
        ]
    except (SafetensorError, ValidationError, KeyError, ValueError, OSError) as error:
        raise UsageError(f"{path} is no language model: {_short(error)}.", _NEXT) from None
    model = NGramModel(words, tuple(orders), header.alpha, header.beta, header.facts)
    if header.format != _FORMAT or (fault := fault_of(model)):
        raise UsageError(f"{path} is no language model: {fault if header.format == _FORMAT else header.format}.", _NEXT)
    return model


def _mapped(path: Path) -> dict[str, npt.NDArray[Any]]:
    """The arrays of a safetensors file without a copy: each page is read when it is first asked for."""
    content = np.memmap(path, dtype=np.uint8, mode="r")
    start = 8 + int.from_bytes(content[:8].tobytes(), "little")
    table = json.loads(content[8:start].tobytes())
    found = {}
    for name, entry in table.items():
        if name != "__metadata__":
            first, last = entry["data_offsets"]
            found[name] = np.asarray(content[start + first : start + last]).view(_TYPES[entry["dtype"]])
    return found


def _short(error: Exception) -> str:
    return type(error).__name__ if isinstance(error, ValidationError) else str(error).splitlines()[0].rstrip(".")


class _Arpa:
    """The lines of an ARPA file, and where one is wrong."""

    def __init__(self, path: Path) -> None:
        self.path, self.number = path, 0
        self._lines = self._read()

    def _read(self) -> Iterator[str]:
        opened = gzip.open if self.path.suffix.lower() == ".gz" else open
        try:
            with opened(self.path, "rb") as stream:
                for self.number, line in enumerate(stream, 1):
                    yield line.decode("utf-8").strip(" \t\r\n")
        except UnicodeDecodeError:
            self.wrong("it is not UTF-8")
        except (EOFError, zlib.error, OSError) as error:
            self.wrong(f"the file cannot be read on ({error})")

    def wrong(self, problem: str, line: int = 0) -> NoReturn:
        raise UsageError(f"{self.path}:{line or self.number}: {problem}.", _NEXT)

    def next(self) -> str:
        """The next line that is not empty."""
        for line in self._lines:
            if line:
                return line
        self.wrong("the file ends here, and \\end\\ did not come")


def _read_arpa(path: Path) -> NGramModel:
    lines = _Arpa(path)
    while (line := lines.next()) != "\\data\\":
        if line.startswith("\\"):
            lines.wrong(f"{line} stands before \\data\\")
    sizes = list[int]()
    while (line := lines.next()).startswith("ngram"):
        parts = line[5:].replace("=", " ").split()
        if len(parts) != 2 or parts[0] != str(len(sizes) + 1) or not parts[1].isdecimal():
            lines.wrong(f"{line!r} is not `ngram {len(sizes) + 1}=` and a number")
        sizes.append(int(parts[1]))
    if not sizes or not sizes[0]:
        lines.wrong("no words are announced: `ngram 1=` and their number is missing")
    words, orders = _words(lines, line, sizes[0], len(sizes) == 1)
    ids = {word: index for index, word in enumerate(words)}
    for length, size in enumerate(sizes[1:], 2):
        orders.append(_longer(lines, lines.next(), length, size, ids, orders, length == len(sizes)))
    if (line := lines.next()) != "\\end\\":
        lines.wrong(f"{line[:60]!r} where \\end\\ should be: there are more {len(sizes)}-grams than were announced")
    return NGramModel(tuple(words), tuple(orders), ALPHA, BETA)


def _rows(lines: _Arpa, head: str, length: int, size: int, last: bool) -> Iterator[tuple[list[str], float, float]]:
    """The n-grams of one order: words, and natural logarithms of probability and back-off weight."""
    if head != f"\\{length}-grams:":
        lines.wrong(f"{head[:60]!r} where \\{length}-grams: should be")
    for _ in range(size):
        line = lines.next()
        fields = [field for field in line.replace("\t", " ").split(" ") if field]
        if line.startswith("\\") or len(fields) not in (length + 1, length + 2):
            lines.wrong(f"{line[:60]!r} is no {length}-gram with its numbers: {size} were announced")
        try:
            log_prob, backoff = float(fields[0]), float(fields[length + 1]) if len(fields) > length + 1 else 0.0
        except ValueError:
            lines.wrong(f"{line[:60]!r} holds something else than a number")
        if math.isnan(log_prob) or log_prob > 0 or not math.isfinite(backoff):
            lines.wrong(f"{line[:60]!r}: no logarithm of a probability")
        if last and len(fields) > length + 1 and backoff:
            lines.wrong(f"{line[:60]!r}: the longest n-grams have no back-off weight")
        yield fields[1 : length + 1], max(log_prob, _NEVER) * _LN10, backoff * _LN10


def _words(lines: _Arpa, head: str, size: int, last: bool) -> tuple[list[str], list[Order]]:
    found: dict[str, tuple[float, float]] = {}
    for (word,), log_prob, backoff in _rows(lines, head, 1, size, last):
        word = word.lower() if word.lower() in SPECIAL else word  # SRILM's and others' <UNK>
        if word in found:
            lines.wrong(f"{word!r} stands twice")
        found[word] = log_prob, backoff
    for needed in (BEGIN, END):
        if needed not in found:
            lines.wrong(f"the words have no {needed}: the model does not know where a sentence begins and ends")
    # A closed vocabulary says nothing of other words: each of them is as rare as the rarest.
    found.setdefault(UNKNOWN, (min(log_prob for log_prob, _ in found.values() if log_prob > _NEVER * _LN10), 0.0))
    words = [*SPECIAL, *(word for word in found if word not in SPECIAL)]
    log_probs, backoffs = (
        np.array(column, dtype=np.float32) for column in zip(*map(found.__getitem__, words), strict=True)
    )
    return words, [Order(np.arange(len(words)), log_probs, backoffs)]


def _longer(
    lines: _Arpa, head: str, length: int, size: int, ids: dict[str, int], orders: list[Order], last: bool
) -> Order:
    rows, numbers, where = np.empty((size, length), np.int64), np.empty((2, size), np.float32), np.empty(size, np.int64)
    for index, (words, *values) in enumerate(_rows(lines, head, length, size, last)):
        for place, word in enumerate(words):
            known = ids.get(word, ids.get(word.lower(), -1) if word.lower() in SPECIAL else -1)
            if known < 0:
                lines.wrong(f"{word!r} is not among the 1-grams")
            rows[index, place] = known
        numbers[:, index], where[index] = values, lines.number
    keys, unknown = keyed(rows, orders, len(ids))
    if unknown is not None:
        shown = " ".join(list(ids)[index] for index in rows[unknown])
        lines.wrong(f"{shown!r} begins with words that are no {length - 1}-gram of the file", int(where[unknown]))
    order = np.argsort(keys, kind="stable")
    keys = keys[order]
    if len(double := np.flatnonzero(keys[1:] == keys[:-1])):
        lines.wrong("the n-gram stands twice", int(where[order[double[0] + 1]]))
    return Order(keys, *numbers[:, order])


def _arpa_lines(model: NGramModel) -> Iterator[str]:
    yield "\\data\\"
    for length, order in enumerate(model.orders, 1):
        yield f"ngram {length}={len(order.keys)}"
    for length, order in enumerate(model.orders, 1):
        yield f"\n\\{length}-grams:"
        columns = (column.astype(np.float64) / _LN10 for column in (order.log_probs, order.backoffs))
        for ids, log_prob, backoff in zip(ngrams(model, length), *map(list, columns), strict=True):
            text = " ".join(model.words[index] for index in ids)
            log_prob = _NEVER if ids == (model.ids[BEGIN],) else log_prob
            yield f"{log_prob:.8g}\t{text}" + (f"\t{backoff:.8g}" if length < model.order else "")
    yield "\n\\end\\"


def lm_in(folder: Path) -> NGramModel | None:
    """The language model that is a part of a model; raises UsageError where it cannot be read."""
    return read_lm(folder / LM_FILE) if (folder / LM_FILE).is_file() else None


def pipeline_lm(params: Params) -> NGramModel | None:
    """The one that base model and candidate both hear by (transcribe.lm); None where none is named.

    Raises:
        UsageError: as `read_lm` does.
    """
    return read_lm(Path(params.transcribe.lm)) if params.transcribe.lm else None
