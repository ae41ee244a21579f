"""Training sentences: own templates, Bible verses, fortunes and random words, never a text of the real prompts."""

import gzip
import random
import re
import subprocess
import tomllib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

TEMPLATES = Path(__file__).with_name("templates.toml")
WORD_LIST = Path("/usr/share/dict/american-english")  # Debian: wamerican
FORTUNES = Path("/usr/share/games/fortunes")  # Debian: fortunes-min
DIGITS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
SHARED_WORDS = 5  # a training text that shares this many consecutive words with a prompt is dropped
MIX = {"telephone": 0.42, "everyday": 0.13, "bible": 0.12, "fortunes": 0.15, "random_words": 0.18}
MIX_OF_WORDS = {"telephone": 0.1, "everyday": 0.1, "bible": 0.4, "fortunes": 0.25, "random_words": 0.15}  # rarer words

Generator = Callable[[random.Random], str]


def spoken_label(text: str) -> str:
    """The CTC label of a text: upper-case words of A-Z and apostrophe, single digits spelled."""
    spelled = re.sub(r"\d", lambda match: f" {DIGITS[int(match.group())]} ", text.replace("’", "'"))
    words = re.sub(r"[^A-Z' ]", " ", spelled.upper()).split()
    return " ".join(word for word in (raw.strip("'") for raw in words) if word)


def ngrams(words: list[str], size: int) -> Iterator[tuple[str, ...]]:
    return (tuple(words[start : start + size]) for start in range(len(words) - size + 1))


def asterisk_prompts(path: Path) -> dict[str, str]:
    """Texts by key from `key: text` lines, plain or gzipped, as Debian's asterisk-core-sounds-en ships them."""
    raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    pairs = (line.split(":", 1) for line in raw.decode("utf-8").splitlines() if ":" in line and line[0] != ";")
    return {key.strip(): re.sub(r"\[.*?\]", "", text).strip() for key, text in pairs}  # [...] is no speech


class PromptFilter:
    """Says whether a text is too close to a prompt on which the model will be judged.

    A text is too close when it equals a prompt sentence, is contained in one, contains one of three words or
    more, or shares five consecutive words with one.
    """

    def __init__(self, prompts: Iterable[str]) -> None:
        self._sentences: set[tuple[str, ...]] = set()
        self._pieces: set[tuple[str, ...]] = set()
        for prompt in prompts:
            # The whole prompt counts too: sentences may follow each other without a full stop.
            for sentence in [prompt, *re.split(r"[.!?;:]+", prompt)]:
                words = spoken_label(sentence).split()
                if words:
                    self._sentences.add(tuple(words))
                for size in range(1, SHARED_WORDS + 1):
                    self._pieces.update(ngrams(words, size))

    @classmethod
    def from_asterisk(cls, path: Path) -> "PromptFilter":
        return cls(asterisk_prompts(path).values())

    def too_close(self, text: str) -> bool:
        words = spoken_label(text).split()
        if len(words) < SHARED_WORDS and tuple(words) in self._pieces:
            return True
        if any(gram in self._pieces for gram in ngrams(words, SHARED_WORDS)):
            return True
        return any(gram in self._sentences for size in (3, 4) for gram in ngrams(words, size))


@dataclass(frozen=True)
class TextSources:
    """Sentence pools of the packages; the templates need none."""

    bible: list[str]
    fortunes: list[str]
    words: list[str]

    @classmethod
    def from_packages(cls) -> "TextSources":
        verses = subprocess.run(["bible", "-f", "gen1:1-rev22:21"], capture_output=True, text=True, check=True).stdout
        bible = re.sub(r"^\S+\s", "", verses, flags=re.MULTILINE).replace("[", "").replace("]", "")
        fortunes = "\n".join((FORTUNES / name).read_text("utf-8") for name in ("fortunes", "literature", "riddles"))
        words = [word for word in WORD_LIST.read_text("utf-8").split() if re.fullmatch(r"[a-z]{2,9}('s)?", word)]
        return cls(clauses(bible), clauses(fortunes), words)


def clauses(text: str) -> list[str]:
    """Pieces of 3-14 words between strong punctuation, letters only: what fits in one to six seconds."""
    flat = re.sub(r"\s+", " ", re.sub(r"\n%\n|\n\s*--.*", ". ", text))
    pieces = (piece.strip(' "-,') for piece in re.split(r"[.!?;:()]+|--|, (?=and|but|for|that|which)", flat))
    letters_only = (piece for piece in pieces if re.fullmatch(r"[A-Za-z][A-Za-z', -]+", piece))
    plain = [piece for piece in letters_only if not re.search(r"[A-Z]{3}", piece)]
    return [piece for piece in plain if 3 <= len(piece.split()) <= 14]


def fill(template: str, slots: dict[str, list[str]], rng: random.Random) -> str:
    while match := re.search(r"\{(\w+)\}", template):
        template = template[: match.start()] + rng.choice(slots[match.group(1)]) + template[match.end() :]
    return template[0].upper() + template[1:]


def generators(sources: TextSources) -> dict[str, Generator]:
    grammar = tomllib.loads(TEMPLATES.read_text("utf-8"))
    running_text = " ".join(sources.fortunes + sources.bible)
    frequent = sorted(set(re.findall(r"\b[a-z]{2,9}\b", running_text)))

    def random_words(rng: random.Random) -> str:
        # Mostly words of running text, some of the dictionary: real words first, rare letter pairs too.
        pools = rng.choices([frequent or sources.words, sources.words], [3, 1], k=rng.randint(3, 9))
        return " ".join(rng.choice(pool) for pool in pools)

    return {
        "telephone": lambda rng: fill(rng.choice(grammar["telephone"]), grammar["slots"], rng),
        "everyday": lambda rng: fill(rng.choice(grammar["everyday"]), grammar["slots"], rng),
        "bible": lambda rng: rng.choice(sources.bible),
        "fortunes": lambda rng: rng.choice(sources.fortunes),
        "random_words": random_words,
    }


def sample_texts(
    seed: str,
    count: int,
    sources: TextSources,
    prompts: PromptFilter,
    most_words: int = 16,
    mix: dict[str, float] = MIX,
) -> list[str]:
    """`count` different texts of 2 to `most_words` words; the same seed and packages give the same list."""
    rng, makers, seen = random.Random(seed), generators(sources), set()
    texts: list[str] = []
    while len(texts) < count:
        text = makers[rng.choices(list(mix), list(mix.values()))[0]](rng)
        label = spoken_label(text)
        if label in seen or not 2 <= len(label.split()) <= most_words or prompts.too_close(text):
            continue
        seen.add(label)
        texts.append(text)
    return texts
