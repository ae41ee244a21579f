"""NIST's mapping files, beside NIST's own filter."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from mondegreen.errors import UsageError
from mondegreen.scoring.alternatives import best_reading
from mondegreen.scoring.spellings import mapped, read_glm
from tests.scoring.examples import hypothesis

RULES = """;; a comment
* name "test.glm"
* format = 'NIST1'
* max_nrules = '100'
* copy_no_hit = 'T'
* case_sensitive = 'F'
UH => %HESITATION / [ ] __ [ ]
UM => / [ ] __ [ ]
CAN NOT => CANNOT / [ ] __ [ ]
CANNOT => TWICE / [ ] __ [ ]
A => X / [ ] __ [ ]
A B => Y / [ ] __ [ ]
[MR.] => MISTER / [ ] __ [ ]
OKAY => OK
ING => IN' / __ [ ]
B => BEE / [c ] __
"""
FILTER = Path("/usr/lib/sctk/bin/rfilter1")


def glm(folder: Path, text: str = RULES) -> Path:
    path = folder / "test.glm"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.skipif(not FILTER.exists() and shutil.which("sctk") is None, reason="Debian's package sctk is missing")
def test_texts_are_what_nists_filter_makes_of_them(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    words = ["uh", "um", "can", "not", "cannot", "a", "A", "b", "c", "mr.", "okay", "okayed", "going", "Ing", "line"]
    texts = [" ".join(generator.choice(words, size=generator.integers(0, 12))) for _ in range(500)]
    padded = "".join(f" {text} \n" for text in texts)
    path = glm(tmp_path)
    nist = subprocess.run([FILTER, path], input=padded, capture_output=True, text=True, check=True).stdout
    rules = read_glm(path)
    assert [rules.apply(text) for text in texts] == [" ".join(line.split()) for line in nist.split("\n")[:-1]]


@pytest.mark.parametrize(
    ("heard", "left"),
    [
        ("Um, please hold.", ", please hold."),
        ("please hold, um.", "please hold, ."),
        ("“I CAN NOT.” he said", "“I CANNOT.” he said"),
        ('"Um," he said', '"," he said'),
        ("he said «Can not»", "he said «CANNOT»"),
        ("don’t um… go", "do not … go"),
        ("an um.box", "an um.box"),
    ],
)
def test_signs_and_curly_apostrophes_of_a_recogniser_keep_no_rule_from_fitting(
    tmp_path: Path, heard: str, left: str
) -> None:
    rules = "UM => / [ ] __ [ ]\nCAN NOT => CANNOT / [ ] __ [ ]\nDON'T => do not / [ ] __ [ ]\n"
    assert read_glm(glm(tmp_path, rules)).apply(heard) == left


def test_a_choice_is_made_for_what_was_said(tmp_path: Path) -> None:
    rules = read_glm(glm(tmp_path, "HE'S => {HE'S / HE IS / HE HAS} / [ ] __ [ ]\nUH => {UH / @} / [ ] __ [ ]\n"))
    for said, heard in (("he has gone", "he's gone"), ("he's gone", "he is gone"), ("gone uh he is", "gone he's")):
        reference = rules.apply(said)
        text = mapped(hypothesis("a", heard), reference, rules, "spoken").text
        assert best_reading(reference, text.lower(), "spoken").words.errors == 0, (said, heard)
    wrong = mapped(hypothesis("a", "he's gone"), rules.apply("she was here"), rules, "spoken").text
    assert "{" not in wrong and wrong.split()[-1] == "gone"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (";; nothing\n", "holds no rule"),
        ("a => b\nno rule here\n", r"test\.glm:2: 'no rule here' is no rule"),
        ("=> b\n", r"test\.glm:1"),
        ("* format = 'NIST2'\na => b\n", r"test\.glm:1: .* cannot be followed"),
        ("* copy_no_hit = 'F'\na => b\n", r"test\.glm:1: .* cannot be followed"),
    ],
)
def test_what_cannot_be_followed_names_the_line(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(UsageError, match=problem):
        read_glm(glm(tmp_path, text))


def test_case_counts_where_the_file_says_so(tmp_path: Path) -> None:
    assert read_glm(glm(tmp_path, "OK => okay\n")).apply("ok OK") == "okay okay"
    assert read_glm(glm(tmp_path, "* case_sensitive = 'T'\nOK => okay\n")).apply("ok OK") == "ok okay"
