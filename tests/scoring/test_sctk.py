"""Counts, alignments and MAPSSWE beside NIST's own programs, sclite and sc_stats (Debian's package `sctk`)."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from mondegreen.cli.main import app
from mondegreen.scoring.alternatives import best_reading
from mondegreen.scoring.significance import NistAlignment, align, mapsswe, segment_differences
from mondegreen.scoring.wer import ErrorCounts, count_words
from tests.scoring.examples import VOCABULARY, misheard

SPEAKERS, EACH, SYSTEMS = 5, 10, 33  # 33 systems on 50 utterances: 1,650 alignments, 528 pairs of systems
CORPORA = (0, 1)

pytestmark = pytest.mark.skipif(
    shutil.which("sctk") is None and not os.environ.get("CI"), reason="Debian's package sctk is not installed"
)


class Corpus:
    """References and what several systems heard, as .trn files, with what sclite and sc_stats say of them."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder = folder
        generator = np.random.default_rng(seed)
        self.ids = [f"s{number % SPEAKERS}-u{number:03}" for number in range(SPEAKERS * EACH)]
        self.references = [self._text(generator, 0.06) for _ in self.ids]
        self.systems = [self._system(generator, rate) for rate in np.linspace(0.02, 0.95, SYSTEMS)]
        self._write(folder / "ref.trn", self.references)
        names = []
        for number, texts in enumerate(self.systems):
            self._write(folder / f"{number}.trn", texts)
            names += ["-h", f"{number}.trn", "trn", f"sys{number:02}"]
        command = ["sctk", "sclite", "-i", "spu_id", "-r", "ref.trn", *names, "-o", "sgml", "stdout"]
        self.sgml = _output(command, folder, b"")
        _output(["sctk", "sc_stats", "-p", "-t", "mapsswe", "-v", "-n", "all"], folder, self.sgml.encode())
        self.statistics = (folder / "all.stats.mapsswe").read_text()

    @staticmethod
    def _text(generator: np.random.Generator, empty: float) -> str:
        length = 0 if generator.random() < empty else generator.integers(1, 16)
        return " ".join(VOCABULARY[index] for index in generator.integers(len(VOCABULARY), size=length))

    def _system(self, generator: np.random.Generator, rate: float) -> list[str]:
        """Heard texts; some are empty, some hold words where nothing was said, some have nothing to do with it."""
        heard = []
        for reference in self.references:
            luck = generator.random()
            text = misheard(generator, reference.split(), float(rate))
            if luck < 0.04 or (not reference and luck > 0.5):
                text = self._text(generator, 0.5)
            heard.append("" if 0.04 <= luck < 0.08 else text)
        return heard

    def _write(self, path: Path, texts: list[str]) -> None:
        path.write_text("".join(f"{text} ({key})\n" for key, text in zip(self.ids, texts, strict=True)))

    def theirs(self) -> list[list[NistAlignment]]:
        """sclite's alignments, a list a system, in the order of `ids`."""
        found = []
        for system in self.sgml.split("<SYSTEM ")[1:]:
            paths = dict(re.findall(r'<PATH id="\((.*?)\)".*?>\n(.*?)\n</PATH>', system, re.DOTALL))
            found.append([_parsed(paths[key]) for key in self.ids])
        return found

    def ours(self) -> list[list[NistAlignment]]:
        return [align(list(zip(self.references, heard, strict=True))) for heard in self.systems]


def _output(command: list[str], folder: Path, given: bytes) -> str:
    done = subprocess.run(command, cwd=folder, input=given, capture_output=True, timeout=60, check=True)
    return done.stdout.decode()


def _parsed(path: str) -> NistAlignment:
    """`C,"a","a":I,,"b":…`"""
    words: list[int] = []
    inserted = [0]
    for step in path.split(":") if path else []:
        if step[0] == "I":
            inserted[-1] += 1
        else:
            words.append("CSD".index(step[0]))
            inserted.append(0)
    return NistAlignment(tuple(words), tuple(inserted))


@pytest.fixture(scope="module", params=CORPORA)
def corpus(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return Corpus(tmp_path_factory.mktemp("sctk"), request.param)


def test_alignments_and_counts_equal_sclites(corpus: Corpus) -> None:
    ours, theirs = corpus.ours(), corpus.theirs()
    assert sum(map(len, theirs)) == SYSTEMS * SPEAKERS * EACH
    assert any(not text for text in corpus.references) and any(not text for text in corpus.systems[0])
    assert ours == theirs


def test_compare_counts_as_sclite_where_it_is_asked_to(corpus: Corpus) -> None:
    """Which system is A and which B, by file: `mondegreen compare 10.trn 30.trn -r ref.trn --sclite --json`."""
    files = [str(corpus.folder / name) for name in ("10.trn", "30.trn", "ref.trn")]
    done = CliRunner().invoke(app, ["compare", *files[:2], "-r", files[2], "--sclite", "--json"])
    assert done.exit_code == 0, done.stderr
    found = json.loads(done.stdout)
    for side, system in (("a", 10), ("b", 30)):
        total = sum((alignment.counts for alignment in corpus.theirs()[system]), ErrorCounts(0, 0, 0, 0))
        ours = found[side]["metrics"]["wer"]
        for kind in ("substitutions", "deletions", "insertions", "reference_length", "errors"):
            assert ours[kind] == getattr(total, kind)


def test_error_totals_are_sclites_but_where_its_weights_prefer_more_errors(corpus: Corpus) -> None:
    """Five substitutions weigh 20, three deletions and three insertions 18: sclite then counts six errors for five."""
    pairs = same = alike = 0
    for heard, theirs in zip(corpus.systems, corpus.theirs(), strict=True):
        for reference, text, alignment in zip(corpus.references, heard, theirs, strict=True):
            fewest = count_words(reference, text)
            assert fewest.errors <= alignment.counts.errors
            assert fewest.reference_length == alignment.counts.reference_length
            pairs += 1
            same += fewest.errors == alignment.counts.errors
            alike += fewest == alignment.counts
    assert same / pairs > 0.99 and alike / pairs > 0.85


def test_mapsswe_equals_that_of_sc_stats(corpus: Corpus) -> None:
    line = re.compile(
        r"systems: sys(\d+) sys(\d+)\) \(# segs: (\d+)\).*\(mean: +(\S+)\) \(std dev: +\S+\) \(Z Stat: +(\S+)\)"
    )
    found = line.findall(corpus.statistics)
    assert len(found) == SYSTEMS * (SYSTEMS - 1) // 2
    alignments = corpus.ours()
    for first, second, segments, mean, z in found:
        pairs = zip(alignments[int(first)], alignments[int(second)], strict=True)
        differences = [value for pair in pairs for value in segment_differences(*pair)]
        ours = mapsswe(np.array(differences, dtype=np.int64))
        assert ours.segments == int(segments)
        assert ours.mean_difference == pytest.approx(float(mean), abs=0.00051)
        assert (ours.z or 0.0) == pytest.approx(float(z), abs=0.00051)


def test_a_corpus_of_nothing_but_insertions(tmp_path: Path) -> None:
    (tmp_path / "ref.trn").write_text("(a-1)\n(a-2)\n")
    (tmp_path / "hyp.trn").write_text("one two (a-1)\n(a-2)\n")
    command = ["sctk", "sclite", "-i", "spu_id", "-r", "ref.trn", "-h", "hyp.trn", "trn", "-o", "pralign", "stdout"]
    counts = re.findall(r"Scores: \(#C #S #D #I\) (\d+) (\d+) (\d+) (\d+)", _output(command, tmp_path, b""))
    assert counts == [("0", "0", "0", "2"), ("0", "0", "0", "0")]
    assert count_words("", "one two") == ErrorCounts(0, 0, 2, 0) and count_words("", "") == ErrorCounts.zero()


def _choice(generator: np.random.Generator, depth: int = 0) -> str:
    """A few words, some of them optional or a choice, which may hold choices."""
    parts = []
    for _ in range(generator.integers(1, 5)):
        luck, word = generator.random(), VOCABULARY[generator.integers(len(VOCABULARY))]
        if luck < 0.2 and depth < 2:
            ways = [_choice(generator, depth + 1) for _ in range(generator.integers(1, 4))]
            parts.append("{ " + " / ".join([*ways, *(["@"] if luck < 0.08 else [])]) + " }")
        else:
            parts.append(f"({word})" if luck < 0.35 else "@" if luck < 0.4 else word)
    return " ".join(parts)


def test_choices_and_optional_words_are_read_as_sclite_reads_them(tmp_path: Path) -> None:
    generator = np.random.default_rng(5)
    pairs = []
    for number in range(400):
        reference = _choice(generator)
        said = re.sub(r"[{}/@()]", " ", reference).split()
        kept = [word for word in said if generator.random() < 0.6]
        pairs.append((f"a-{number:03}", reference, misheard(generator, kept, 0.3)))
    (tmp_path / "ref.trn").write_text("".join(f"{reference} ({key})\n" for key, reference, _ in pairs))
    (tmp_path / "hyp.trn").write_text("".join(f"{heard} ({key})\n" for key, _, heard in pairs))
    command = "sctk sclite -D -i spu_id -r ref.trn -h hyp.trn trn -o pralign stdout"
    printed = _output(command.split(), tmp_path, b"")
    found = re.findall(r"id: \((\S+)\)\nScores: \(#C #S #D #I\) (\d+) (\d+) (\d+) (\d+)", printed)
    theirs = {key: tuple(map(int, counts)) for key, *counts in found}
    assert len(theirs) == len(pairs)
    for key, reference, heard in pairs:
        ours = best_reading(reference, heard).words
        assert (ours.hits, ours.substitutions, ours.deletions, ours.insertions) == theirs[key], (reference, heard)
