"""How often the encoding of an older table is told right: sentences out of the translations of a Linux's programs.

    python -m benchmarks.code_pages            # reads /usr/share/locale/*/LC_MESSAGES/*.mo

Prints for each encoding how many tables of one and of three sentences (eight words each at most) are read rightly, are
refused, or are read wrongly.
"""

import gettext
import random
import re
from collections import Counter
from contextlib import suppress
from pathlib import Path

from mondegreen.code_pages import readings
from mondegreen.ideographs import unescaped

LOCALES = Path("/usr/share/locale")
TABLES = 100  # of each language
LANGUAGES = {
    **dict.fromkeys(("fr", "de", "es", "it", "pt", "da", "sv"), ("cp1252", "cp850", "mac_roman")),
    **dict.fromkeys(("pl", "cs", "hu"), ("cp1250", "cp852", "iso8859_2")),
    "tr": ("cp1254",), "lt": ("cp1257",), "ru": ("cp1251", "koi8_r", "cp866", "mac_cyrillic", "iso8859_5"),
    "uk": ("cp1251", "koi8_u"), "bg": ("cp1251",), "sr": ("cp1251",), "be": ("cp1251",), "mk": ("cp1251",),
    "el": ("cp1253", "cp737"), "he": ("cp1255", "cp862"), "ar": ("cp1256",), "fa": ("cp1256",), "th": ("cp874",),
    "ja": ("cp932", "euc_jp", "iso2022_jp"), "zh_CN": ("gb18030",), "zh_TW": ("cp950",), "ko": ("cp949",),
}  # fmt: skip


def sentences(language: str) -> list[str]:
    """The first words of the lines of its translations, without what programs fill in, where some are beyond ASCII."""
    found = set()
    for path in sorted((LOCALES / language / "LC_MESSAGES").glob("*.mo")):
        with path.open("rb") as stream, suppress(UnicodeDecodeError):
            catalog = gettext.GNUTranslations(stream)._catalog  # type: ignore[attr-defined]
            for line in (line for text in catalog.values() for line in text.split("\n")):
                plain = re.sub(r"[%{<].*?[a-z>}]|[^\w\s,.!?:\u0300-\u0e4e'-]", " ", line).split()
                if len(plain) > 1:
                    found.add(" ".join(plain[:8]))
    return sorted(line for line in found if not line.isascii())


def outcome(text: str, encoding: str) -> str:
    try:
        content = text.encode(encoding)
    except UnicodeEncodeError:
        return ""
    if content.isascii():
        escaped = unescaped(content)
        return "wrong" if escaped is None or escaped[1] != text else "right"
    found = readings(content)
    return "refused" if len(found) != 1 else "right" if found[0].text == text else "wrong"


def main() -> None:
    draw = random.Random(1)
    for count in (1, 3):
        counts: dict[str, Counter[str]] = {}
        for language, encodings in LANGUAGES.items():
            lines = sentences(language)
            for _ in range(TABLES if lines else 0):
                rows = "".join(f'clean/c{number}.wav,"{draw.choice(lines)}"\n' for number in range(count))
                for encoding in encodings:
                    counts.setdefault(encoding, Counter())[outcome("path,text\n" + rows, encoding)] += 1
        for encoding, found in counts.items():
            print(count, encoding, *(f"{kind} {found[kind]}" for kind in ("right", "refused", "wrong")))
        total = sum(counts.values(), Counter[str]())
        print(count, "all", *(f"{kind} {total[kind]}" for kind in ("right", "refused", "wrong")))


if __name__ == "__main__":
    main()
