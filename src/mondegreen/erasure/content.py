"""Recognising what is erased in a file: by an id, by a recording's bytes, on pages by what was said as well."""

import html
import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

from mondegreen.cases.selecting import Selection, digests_of
from mondegreen.files import sha256_file
from mondegreen.tables import search_words

_ID = 16  # hexadecimal digits of a case's id; an utterance's are the first ones of its recording's digest
_HEX = re.compile(rb"[0-9a-f]{16,}")
_TAG = re.compile(r"<[^>]{0,200}>")
_WORDS, _CHARACTERS = 3, 12  # a shorter text is said by many: where no id stands beside it, it says nothing of anybody
GONE = object()  # what `pruned` makes of a part that goes as a whole


class Content:
    """What is erased, as files hold it.

    Args:
        selection: of cases and recordings.
        texts: what was heard and written in the cases.
        sizes: bytes of the recordings, so that few files have to be hashed.
    """

    def __init__(self, selection: Selection, texts: Collection[str], sizes: Collection[int]) -> None:
        whole = set(selection.recordings) - set(selection.muted)  # of the muted ones the texts stay
        self._rows = {key[:_ID].encode() for key in {*selection.cases, *digests_of(whole)}}
        self._audio = self._rows | {key[:_ID].encode() for key in digests_of(selection.muted)}
        self._recordings, self._sizes = set(selection.recordings), set(sizes)
        phrases = (" ".join(search_words(written)) for written in texts)
        self._phrases: dict[str, set[str]] = {}  # by their first words, so that a page is looked through once
        for phrase in phrases:
            if len(phrase) >= _CHARACTERS and len(words := phrase.split()) >= _WORDS:
                self._phrases.setdefault(" ".join(words[:_WORDS]), set()).add(phrase)
        names = (" ".join(search_words(name)) for name in (selection.speaker, selection.caller))
        self._names = [f" {name} " for name in names if name]

    def in_rows(self, content: bytes | str) -> bool:
        """Whether an id of a case or recording that goes as a whole stands in it."""
        return _holds(content, self._rows)

    def of_audio(self, content: bytes | str) -> bool:
        """Whether the id of any recording that goes stands in it."""
        return _holds(content, self._audio)

    def is_recording(self, path: Path) -> bool:
        """Whether the file is one of the recordings, whatever it is called."""
        return path.stat().st_size in self._sizes and sha256_file(path) in self._recordings

    def on_page(self, content: str) -> bool:
        """Whether a page shows or plays any of it."""
        if self.of_audio(content):
            return True
        if not self._phrases and not self._names:
            return False
        words = search_words(html.unescape(_TAG.sub(" ", content)))
        text = f" {' '.join(words)} "
        if any(name in text for name in self._names):
            return True
        starts = {" ".join(words[at : at + _WORDS]) for at in range(len(words))} & self._phrases.keys()
        return any(f" {phrase} " in text for start in starts for phrase in self._phrases[start])

    def pruned(self, tree: Any) -> Any:
        """JSON without what is erased: an element of a list goes as a whole when an id stands anywhere in it but in a
        list of its own. GONE when nothing is left."""
        if isinstance(tree, list):
            return [kept for item in tree if (kept := self.pruned(item)) is not GONE]
        if isinstance(tree, dict):
            if self._hit(tree):
                return GONE
            return {key: self.pruned(value) for key, value in tree.items()}
        return GONE if self._hit(tree) else tree

    def _hit(self, tree: Any) -> bool:
        if isinstance(tree, dict):
            return any(self.in_rows(key) or self._hit(value) for key, value in tree.items())
        return isinstance(tree, str) and self.in_rows(tree)


def _holds(content: bytes | str, ids: set[bytes]) -> bool:
    if not ids:
        return False
    raw = content.encode(errors="surrogatepass") if isinstance(content, str) else content
    return any(found[0][:_ID] in ids for found in _HEX.finditer(raw))
