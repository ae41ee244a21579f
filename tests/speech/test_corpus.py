"""Finding recordings and references below a user's data folder, and dealing them out to the splits."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mondegreen.errors import LeakageError, UsageError
from mondegreen.records import Utterance
from mondegreen.scoring.normalizer import normalize
from mondegreen.speech.corpus import assign_splits, check_leakage, discover, enough_speakers


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode())


def utterance(path: str, **fields: str) -> Utterance:
    base = {"condition": "clean", "speaker": "", "recording": path, "reference": path, "split": "train"}
    return Utterance.model_validate(
        {"id": path, "path": path, "sha256": path, "duration": 1.0, "domain": "target", **base, **fields}
    )


@pytest.mark.parametrize(
    ("name", "condition"),
    [("audio/clean/a.wav", "clean"), ("noisy/deep/a.FLAC", "noisy"), ("a.ogg", "all"), ("audio/a.mp3", "all")],
)
def test_condition_is_the_folder(tmp_path: Path, name: str, condition: str) -> None:
    touch(tmp_path, name)
    assert [item.condition for item in discover(tmp_path)] == [condition]


def test_other_folders_and_files_are_not_scanned(tmp_path: Path) -> None:
    touch(tmp_path, "clean/a.wav", "regression/s/audio/b.wav", "failed_cases/c.wav", "clean/.d.wav", "clean/notes.txt")
    assert [item.path.name for item in discover(tmp_path)] == ["a.wav"]


def test_retention_is_its_own_domain_with_its_own_references(tmp_path: Path) -> None:
    touch(tmp_path, "clean/a.wav", "retention/audio/b.flac")
    (tmp_path / "retention/references.csv").write_text("path,text,condition\naudio/b.flac,Hello there,synthetic\n")
    target, retention = discover(tmp_path)
    assert (target.domain, target.reference) == ("target", "")
    assert (retention.domain, retention.reference, retention.condition) == ("retention", "Hello there", "synthetic")


def test_copies_without_source_share_the_recording_by_name(tmp_path: Path) -> None:
    touch(tmp_path, "clean/a.wav", "noisy/a.wav", "noisy/bob/a.wav")
    assert [item.recording for item in discover(tmp_path)] == ["a", "a", "bob/a"]


def test_source_up_to_the_semicolon_is_the_recording(tmp_path: Path) -> None:
    touch(tmp_path, "clean/a.wav")
    (tmp_path / "references.csv").write_text("path,text,source\nclean/a.wav,Hi,tape 7; music at 3.1 dB\n")
    assert discover(tmp_path)[0].recording == "tape 7"


def test_one_source_for_all_of_retention_is_not_one_recording(tmp_path: Path) -> None:
    touch(tmp_path, "retention/a.flac", "retention/b.flac")
    (tmp_path / "retention/references.csv").write_text(
        "path,text,source\na.flac,Hi,a synthesiser\nb.flac,Ho,a synthesiser\n"
    )
    assert [item.recording for item in discover(tmp_path)] == ["retention/a", "retention/b"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("path,words\na.wav,Hi\n", "references.csv:1: field text"),
        ("", "references.csv:1: field path"),
        ("path,text\nb.wav,Hi\n", "references.csv:2: field path: there is no recording b.wav (did you mean a.wav?)"),
        (
            "path,text\na.wav,Hi\nA.WAV,Ho\n",
            ":3: field path: A.WAV means the recording a.wav",
        ),
        (
            "path,speaker,text,client_id\na.wav,,Hi,\n",
            "1: field speaker: the columns 'speaker' and 'client_id' mean",
        ),
        ("path,text\na.wav,Hi\n./a.wav,Ho\n", "references.csv:3: field path: a.wav stands in line 2"),
        ("path,text\na.wav,Yes, please\n", "references.csv:2: field text: there are more fields"),
        ("path,text\na.wav\n", "references.csv:2: field text: it is empty or missing"),
        ("path,text\n,Hi\n", "references.csv:2: field path: it is empty or missing"),
        ('path,text\na.wav,"Hi\n', "references.csv:"),
        (b"path,text\na.wav,\xef\xf0\xe8\xe2\xe5\xf2\n", "references.csv:2: field the whole line: it is not UTF-8"),
    ],
)
def test_bad_references_name_file_line_and_field(tmp_path: Path, content: str | bytes, message: str) -> None:
    touch(tmp_path, "a.wav")
    (tmp_path / "references.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UsageError) as error:
        discover(tmp_path)
    assert message in str(error.value)


def test_byte_order_mark_and_carriage_returns_are_fine(tmp_path: Path) -> None:
    touch(tmp_path, "a.wav")
    (tmp_path / "references.csv").write_bytes("\ufeffpath,text\r\na.wav,Hi\r\n".encode())
    assert discover(tmp_path)[0].reference == "Hi"


@pytest.mark.parametrize("make", [False, True])
def test_no_recordings_is_an_error(tmp_path: Path, make: bool) -> None:
    folder = tmp_path / "data"
    if make:
        folder.mkdir()
    with pytest.raises(UsageError):
        discover(folder)


rows = st.lists(
    st.builds(
        lambda number, condition, speaker, recording, reference, domain, digest: utterance(
            f"{number}",
            condition=condition,
            speaker=speaker,
            recording=recording,
            reference=reference,
            domain=domain,
            sha256=digest,
        ),
        st.integers(0, 10_000),
        st.sampled_from(["clean", "noisy"]),
        st.sampled_from(["", *(f"s{i}" for i in range(15))]),
        st.integers(0, 40).map(lambda i: f"r{i}"),
        st.integers(-5, 40).map(lambda i: f"Text, {i}!" if i >= 0 else ""),
        st.sampled_from(["target", "target", "target", "retention"]),
        st.integers(0, 200).map(str),
    ),
    max_size=50,
    unique_by=lambda row: row.path,
)


@settings(max_examples=150, deadline=None)
@given(rows, st.integers(0, 5), st.booleans())
def test_nothing_stands_in_two_splits(corpus: list[Utterance], seed: int, by_speaker: bool) -> None:
    result = assign_splits(corpus, seed=seed, dev=0.15, test=0.45, by_speaker=by_speaker, text=normalize)
    check_leakage(result, normalize)
    assert not [row for row in result if row.domain == "retention" and row.split == "train"]
    assert not [row for row in result if not row.reference and row.split != "train"]
    assert {row.path for row in corpus if row.reference} <= {row.path for row in result}
    assert result == assign_splits(corpus, seed=seed, dev=0.15, test=0.45, by_speaker=by_speaker, text=normalize)
    if by_speaker:
        homes = {(row.speaker, row.split) for row in result if row.domain == "target" and row.speaker}
        assert len(homes) == len({speaker for speaker, _ in homes})


def test_shares_are_kept_in_each_condition() -> None:
    corpus = [utterance(f"{c}{i}", condition=c) for c in ("clean", "noisy") for i in range(100)]
    result = assign_splits(corpus, seed=1, dev=0.15, test=0.45, by_speaker=False, text=normalize)
    for condition in ("clean", "noisy"):
        splits = [row.split for row in result if row.condition == condition]
        assert [splits.count(s) for s in ("train", "dev", "test")] == [40, 15, 45]


def test_retention_is_dev_and_test_in_the_given_shares() -> None:
    corpus = [utterance(f"{i}", domain="retention") for i in range(60)]
    result = assign_splits(corpus, seed=1, dev=0.15, test=0.45, by_speaker=False, text=normalize, retention_dev=1 / 3)
    splits = [row.split for row in result]
    assert [splits.count(s) for s in ("train", "dev", "test")] == [0, 20, 40]


def test_another_seed_deals_otherwise() -> None:
    corpus = [utterance(f"{i}") for i in range(40)]
    one, two = (assign_splits(corpus, seed=s, dev=0.2, test=0.4, by_speaker=False, text=normalize) for s in (1, 2))
    assert [row.split for row in one] != [row.split for row in two]


def test_the_speaker_is_the_unit_only_when_there_are_enough() -> None:
    corpus = [utterance(f"{i}", speaker=f"s{i % 9}") for i in range(30)]
    assert enough_speakers(corpus, 9)
    assert not enough_speakers(corpus, 10)


@pytest.mark.parametrize("shared", [{"sha256": "x"}, {"recording": "x"}, {"reference": "The same text"}])
def test_leakage_names_both_files(shared: dict[str, str]) -> None:
    corpus = [utterance("one.wav", **shared), utterance("two.wav", split="test", **shared)]
    with pytest.raises(LeakageError, match=r"one\.wav.*two\.wav"):
        check_leakage(corpus, normalize)
