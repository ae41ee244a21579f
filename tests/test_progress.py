"""What a running command says on stderr."""

import io
import logging
import re
import sys
from contextlib import closing

import pytest

from mondegreen.progress import Bar, adding, progress, track, waiting


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def _terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Not a fixture: pytest puts its own stderr back between a test's set-up and the test."""
    found = Terminal()
    monkeypatch.setattr(sys, "stderr", found)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    return found


def _text(terminal: Terminal) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", terminal.getvalue())


def test_a_terminal_gets_a_bar_with_rate_and_remaining_time(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = _terminal(monkeypatch)
    with progress("transcribing", 4) as advance:
        for done in (1, 2, 4):
            advance(done)
    assert re.search(r"transcribing .* 4/4 +[0-9.]+/s ETA 0:00:00", _text(terminal))


def test_a_long_item_moves_the_bar_before_it_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = _terminal(monkeypatch)
    with progress("transcribing", 2) as advance:
        advance(1)
        advance.within(0.5, "0:05:00 of 0:10:00")
        advance.within(0.9, "0:09:00 of 0:10:00")
    text = _text(terminal)
    assert re.search(r"transcribing, 0:09:00 of 0:10:00 .* 1/2 +[0-9.]+/s ETA", text)


def test_without_a_terminal_nothing_is_shown_and_the_log_has_a_line(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO), progress("transcribing", 3) as advance:
        advance(3)
    assert re.fullmatch(r"transcribing: 3 done in [0-9.]+ s", caplog.messages[0])
    assert capsys.readouterr().err == ""


def test_the_items_of_a_list_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = _terminal(monkeypatch)
    assert list(track(["a", "b"], "prepare")) == ["a", "b"]
    assert "2/2" in _text(terminal)


def test_who_tells_how_many_more_are_done_is_added_up() -> None:
    seen: list[int] = []
    add = adding(seen.append)
    for more in (2, 3):
        add(more)
    assert seen == [2, 5]


def test_unlike_steps_show_the_time_taken_and_lines_above(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = _terminal(monkeypatch)
    with closing(Bar(steady=False)) as bar:
        bar.print("training [1/2]")
        bar.show("train", 1, 3)
    text = _text(terminal)
    assert "training [1/2]" in text and "1/3 0:00:0" in text and "ETA" not in text


def test_what_counts_nothing_shows_the_time_that_it_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = _terminal(monkeypatch)
    with waiting("checking and deploying 3"):
        pass
    text = _text(terminal)
    assert re.search(r"checking and deploying 3 .* 0:00:00", text) and "0/" not in text and "ETA" not in text


def test_without_a_terminal_who_waits_says_nothing(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO), waiting("checking and deploying 3"):
        pass
    assert capsys.readouterr() == ("", "") and not caplog.messages


def test_pieces_of_a_download_are_counted_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = _terminal(monkeypatch)
    with closing(Bar(in_bytes=True)) as bar:
        bar.show("pulling a", 1_000_000, 2_000_000, "a")
        bar.show("pulling b", 500_000, 2_000_000, "b")
    assert "1.0/2.0 MB" in _text(terminal) and "pulling b" in _text(terminal)
