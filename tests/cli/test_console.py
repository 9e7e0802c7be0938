from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable
from contextlib import suppress

import pytest
from rich.console import Console

from tio2nn.cli import console
from tio2nn.wording import size

LONG = "a/very/long/path/" * 20 + "structure0001.xsf:3: expected [an energy], got [bold]none[/bold]"


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """What a terminal on stderr would receive."""
    screen = io.StringIO()
    shown = Console(file=screen, force_terminal=True, width=100)
    monkeypatch.setattr(console, "stderr", lambda: shown)
    return screen


@pytest.mark.parametrize(
    ("write", "expected"),
    [(console.say, LONG), (console.warn, f"warning: {LONG}"), (console.error, LONG)],
)
def test_a_message_is_one_line_on_stderr_as_it_is(
    write: Callable[[str], None], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write(LONG)
    out, err = capsys.readouterr()
    assert (out, err) == ("", expected + "\n")


def test_a_result_is_one_line_on_stdout_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    console.print_line(LONG)
    assert capsys.readouterr() == (LONG + "\n", "")


def test_a_table_of_results_is_padded_but_does_not_end_in_spaces(capsys: pytest.CaptureFixture[str]) -> None:
    console.print_table(["part", "what"], [("structures", "24"), ("x", "")])
    out, err = capsys.readouterr()
    assert out == "part        what\nstructures  24\nx\n"
    assert err == ""


def test_a_table_for_people_goes_to_stderr_with_numbers_to_the_right(
    capsys: pytest.CaptureFixture[str],
) -> None:
    console.table("errors", ["", "RMSE"], [["energy", "1.25"], ["x", "100.75"]])
    out, err = capsys.readouterr()
    assert out == ""
    title, _, first, second = (line.rstrip() for line in err.splitlines())
    assert title == "errors"
    assert first.startswith("energy")
    assert len(first) == len(second)


def test_facts_show_names_and_values_even_if_they_look_like_markup(
    capsys: pytest.CaptureFixture[str],
) -> None:
    console.facts([("compositions", "O2Ti [red]"), ("forces", "none")])
    out, err = capsys.readouterr()
    assert out == ""
    assert [line.split() for line in err.splitlines()] == [
        ["compositions", "O2Ti", "[red]"],
        ["forces", "none"],
    ]


def test_progress_is_silent_where_stderr_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with console.track("reading", 3) as advance:
        advance(3)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("total", [0, 3])
def test_progress_is_shown_on_a_terminal(total: int, terminal: io.StringIO) -> None:
    with console.track("reading structures", total) as advance:
        advance(1)
        advance(2)
    assert "reading structures" in terminal.getvalue()


def test_training_writes_a_line_for_each_tenth_where_stderr_is_no_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with console.epochs(40) as show:
        for epoch in range(1, 41):
            show(1, epoch, "RMSE 2.00 meV/atom")
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 10
    assert lines[-1] == "member 1, epoch 40/40: RMSE 2.00 meV/atom"


def test_training_tells_the_time_that_it_still_takes(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    monkeypatch.setattr(console.time, "monotonic", lambda: now)
    with console.epochs(20) as show:
        for epoch in range(11, 21):
            show(1, epoch, "RMSE")
            now += 10.0
    shown = [line.partition("RMSE")[2] for line in capsys.readouterr().err.splitlines()]
    assert shown == [
        "; about 1 min 20 s left",
        "; about 1 min 0 s left",
        "; about 40.0 s left",
        "; about 20.0 s left",
        "",
    ]


def test_training_writes_the_last_epoch_of_few(capsys: pytest.CaptureFixture[str]) -> None:
    with console.epochs(3) as show:
        for epoch in range(1, 4):
            show(2, epoch, "")
    assert [line.split(":")[0] for line in capsys.readouterr().err.splitlines()] == [
        f"member 2, epoch {epoch}/3" for epoch in (1, 2, 3)
    ]


def test_training_shows_every_member_of_a_committee_on_a_terminal(terminal: io.StringIO) -> None:
    with console.epochs(3) as show:
        show(1, 3, "")
        show(2, 1, "validation 5.00 meV/atom")
    assert "member 1" in terminal.getvalue()
    assert "member 2" in terminal.getvalue()
    assert "validation 5.00 meV/atom" in terminal.getvalue()


def test_native_messages_are_hidden_only_inside_even_after_an_error(
    capfd: pytest.CaptureFixture[str],
) -> None:
    os.write(2, b"before\n")
    with suppress(ValueError), console.native_messages_hidden():
        os.write(2, b"hidden\n")
        raise ValueError
    os.write(2, b"after\n")
    assert capfd.readouterr().err == "before\nafter\n"


def test_hiding_native_messages_keeps_what_python_had_not_flushed(capfd: pytest.CaptureFixture[str]) -> None:
    sys.stderr.write("python ")
    with console.native_messages_hidden():
        os.write(2, b"hidden\n")
    assert capfd.readouterr().err == "python "


@pytest.mark.parametrize(
    ("n_bytes", "expected"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (999.9, "1 kB"),
        (12_345, "12.3 kB"),
        (999_900, "1 MB"),
        (3.7e9, "3.7 GB"),
        (5e15, "5e+03 TB"),
    ],
)
def test_a_size_has_three_digits_and_a_unit(n_bytes: float, expected: str) -> None:
    assert size(n_bytes) == expected


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0.04, "0.0 s"),
        (59.94, "59.9 s"),
        (59.97, "1 min 0 s"),
        (72, "1 min 12 s"),
        (3599.7, "1 h 0 min"),
        (7500, "2 h 5 min"),
    ],
)
def test_a_duration_is_written_for_people(seconds: float, expected: str) -> None:
    assert console.duration(seconds) == expected


def test_facts_in_a_file_are_neither_wrapped_nor_filled_up(capsys: pytest.CaptureFixture[str]) -> None:
    console.facts([("structures", LONG), ("forces", "none"), ("cutoff", "")])
    assert capsys.readouterr().err == f"structures  {LONG}\nforces      none\ncutoff\n"
