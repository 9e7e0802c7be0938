from __future__ import annotations

import csv
import resource
import time
from dataclasses import replace
from pathlib import Path

import pytest
from trials import CANDIDATE, COMMAND, make_trial

from tio2nn.errors import InputError
from tio2nn.job_part import JobPart
from tio2nn.tuning.ledger import Ledger, of_part
from tio2nn.tuning.trials import DIVERGED, FAILED, STARTED


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "ledger.csv"


def opened(file: Path) -> Ledger:
    return Ledger(file, COMMAND)


def lines_of(file: Path) -> list[str]:
    return file.read_text(encoding="utf-8").splitlines()


def test_a_new_ledger_gives_back_what_another_was_given(file: Path) -> None:
    trials = [
        make_trial(1),
        make_trial(2, 1e-300, nodes=32),
        make_trial(3, None, DIVERGED, nodes=64, message='the loss, "of" epoch 1 is nan'),
    ]
    ledger = opened(file)
    for trial in trials:
        ledger.add("settings", trial)
    again = opened(file)
    assert [again.find("settings", trial.candidate, trial.trial) for trial in trials] == trials


def test_a_trial_is_renumbered_for_the_search_that_asks(file: Path) -> None:
    opened(file).add("settings", make_trial(1))
    assert opened(file).find("settings", CANDIDATE, 9) == make_trial(9)


def test_only_the_same_candidate_under_the_same_settings_is_found(file: Path) -> None:
    ledger = opened(file)
    ledger.add("settings", make_trial())
    assert ledger.find("others", CANDIDATE, 1) is None
    for change in ({"layers": 3}, {"nodes": 8}, {"learning_rate": 1e-4}, {"dropout": 0.0}, {"epochs": 21}):
        assert ledger.find("settings", replace(CANDIDATE, **change), 1) is None


def test_a_failed_trial_is_tried_again_and_then_the_other_outcome_counts(file: Path) -> None:
    ledger = opened(file)
    ledger.add("settings", make_trial(1, None, FAILED, message="out of memory"))
    assert opened(file).find("settings", CANDIDATE, 1) is None
    ledger.add("settings", make_trial(1))
    ledger.add("settings", make_trial(1, None, FAILED, message="out of memory"))
    assert opened(file).find("settings", CANDIDATE, 1) == make_trial(1)


# --- lines are appended -------------------------------------------------------------------------------------


def test_a_line_is_appended_and_the_others_keep_their_bytes(file: Path) -> None:
    ledger = opened(file)
    before, number = b"", file.stat().st_ino if file.exists() else None
    for nodes in (1, 2, 3):
        ledger.add("settings", make_trial(nodes=nodes))
        content = file.read_bytes()
        assert content.startswith(before)
        assert number in (None, file.stat().st_ino)
        before, number = content, file.stat().st_ino
    opened(file).add("settings", make_trial(nodes=4))
    assert file.read_bytes().startswith(before)
    assert file.stat().st_ino == number


@pytest.mark.parametrize("left", [1, 30, -1])
def test_a_last_line_that_is_cut_off_does_not_count_and_is_replaced(file: Path, left: int) -> None:
    ledger = opened(file)
    ledger.add("settings", make_trial(nodes=1))
    whole = file.read_bytes()
    ledger.add("settings", make_trial(nodes=2))
    added = file.read_bytes()[len(whole) :]
    file.write_bytes(whole + added[:left])
    again = opened(file)
    first, second = (replace(CANDIDATE, nodes=nodes) for nodes in (1, 2))
    assert again.find("settings", first, 1) is not None
    assert again.find("settings", second, 1) is None
    again.add("settings", make_trial(nodes=2))
    assert file.read_bytes() == whole + added


@pytest.mark.parametrize("n_bytes", [0, 1, 40])
def test_a_ledger_that_was_killed_at_its_first_line_begins_anew(file: Path, n_bytes: int) -> None:
    opened(file).add("settings", make_trial())
    whole = file.read_bytes()
    file.write_bytes(whole[:n_bytes])
    again = opened(file)
    assert again.find("settings", CANDIDATE, 1) is None
    again.add("settings", make_trial())
    assert file.read_bytes() == whole


def test_a_full_disk_leaves_no_part_of_a_line(file: Path) -> None:
    ledger = opened(file)
    ledger.add("settings", make_trial(nodes=1))
    whole = file.read_bytes()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(whole) + 10, before[1]))
    try:
        with pytest.raises(OSError, match="File too large") as caught:
            ledger.add("settings", make_trial(nodes=2))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert caught.value.filename == str(file)
    assert file.read_bytes() == whole
    ledger.add("settings", make_trial(nodes=2))
    assert opened(file).find("settings", replace(CANDIDATE, nodes=2), 1) is not None


def test_a_link_is_not_written_through(file: Path, tmp_path: Path) -> None:
    target = tmp_path / "other"
    target.write_bytes(b"")
    file.symlink_to(target)
    with pytest.raises(InputError, match="symbolic link"):
        opened(file).add("settings", make_trial())
    assert target.read_bytes() == b""


def test_hundreds_of_trials_cost_as_many_lines(file: Path) -> None:
    ledger, others = opened(file), [opened(of_part(file, JobPart(k, 4))) for k in (1, 2, 3, 4)]
    written = 0
    begin = time.process_time()
    for number in range(1, 301):
        others[number % 4].add("settings", make_trial(number, nodes=number))
        ledger.refresh()
        written += 1
        assert ledger.find("settings", replace(CANDIDATE, nodes=number), number) is not None
    seconds = time.process_time() - begin
    assert sum(len(lines_of(other.path)) for other in others) == written + len(others)
    # 0.1 s here; a ledger that is read and written as a whole for each line takes some hundred times as long
    assert seconds < 5.0


# --- several of them ----------------------------------------------------------------------------------------


def test_each_worker_reads_what_the_others_write_whatever_the_order(file: Path) -> None:
    first, second = (opened(of_part(file, JobPart(k, 2))) for k in (1, 2))
    assert first.path.name == "ledger-1-of-2.csv"
    slow, fast = make_trial(seconds=9.0), make_trial(seconds=1.0)
    second.add("settings", slow)
    first.refresh()
    assert first.find("settings", CANDIDATE, 1) == slow
    first.add("settings", fast)
    second.refresh()
    for ledger in (first, second, opened(file)):
        # the same outcome twice: that of the first file counts, whoever was faster
        assert ledger.find("settings", CANDIDATE, 1) == fast


def test_a_line_that_another_worker_is_writing_is_read_when_it_is_whole(file: Path) -> None:
    mine, others = opened(file), of_part(file, JobPart(2, 2))
    opened(others).add("settings", make_trial())
    whole = others.read_bytes()
    others.write_bytes(whole[:-5])
    mine.refresh()
    assert mine.find("settings", CANDIDATE, 1) is None
    others.write_bytes(whole)
    mine.refresh()
    assert mine.find("settings", CANDIDATE, 1) == make_trial()


def test_what_was_begun_is_an_event_but_no_outcome(file: Path) -> None:
    ledger = opened(file)
    ledger.add("settings", make_trial(1, None, STARTED), "search", 1)
    ledger.add("settings", make_trial(2, nodes=8))
    (line,) = opened(file).lines
    assert (line.search, line.event, line.trial.status, line.ledger) == ("search", 1, STARTED, file)
    assert opened(file).find("settings", CANDIDATE, 1) is None


def test_an_expected_ledger_is_there_for_every_machine_that_looks_for_it(file: Path) -> None:
    ledger, other = opened(file), of_part(file, JobPart(2, 3))
    ledger.expect(other)
    content = other.read_bytes()
    opened(other).add("settings", make_trial())
    assert other.read_bytes().startswith(content)
    ledger.expect(other)
    ledger.refresh()
    assert ledger.find("settings", CANDIDATE, 1) == make_trial()


# --- what is no ledger --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "damage",
    [
        lambda line: line[:20],
        lambda line: line + ",",
        lambda line: line.replace(",completed,", ",finished,"),
        lambda line: line.replace(",12.5,", ",,"),
        lambda line: line.replace(",12.5,", ",nan,"),
        lambda line: line.replace(",16,", ",many,"),
        lambda line: '"' + line,
        lambda line: "\0" * len(line),
        lambda _: "",
    ],
)
@pytest.mark.parametrize("place", [1, 3])
def test_a_damaged_line_is_refused_with_its_number(file: Path, place: int, damage: object) -> None:
    ledger = opened(file)
    for number in (1, 2, 3):
        ledger.add("settings", make_trial(number))
    lines = lines_of(file)
    assert callable(damage)
    lines[place] = damage(lines[place])
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    before = file.read_bytes()
    with pytest.raises(
        InputError, match=r'expected .*, got: .*; delete it and run "tio2nn tune -C p" again'
    ) as e:
        opened(of_part(file, JobPart(1, 2)))
    assert (e.value.file, e.value.line) == (str(file), 1 + place)
    assert "\n" not in str(e.value)
    assert file.read_bytes() == before


@pytest.mark.parametrize("content", [b"\xff\xfe\x00binary", b'settings,"', b"a,b\n1,2\n", b"\n"])
def test_another_file_is_no_ledger(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    with pytest.raises(InputError, match="; delete it and run") as caught:
        opened(file)
    assert str(caught.value).startswith(f"{file}:")
    assert "\n" not in str(caught.value)
    assert file.read_bytes() == content


_STRESS = "validation_stress_rmse_meV_per_A3"


@pytest.mark.parametrize(
    "missing",
    [
        (_STRESS,),
        (_STRESS, "search", "event"),
        (_STRESS, "search", "event", "validation_force_rmse_eV_per_A"),
    ],
)
def test_a_ledger_of_an_earlier_version_is_read_and_continued(file: Path, missing: tuple[str, ...]) -> None:
    trial, other = make_trial(), make_trial(2, nodes=8)
    opened(file).add("settings", trial)
    rows = list(csv.reader(lines_of(file)))
    kept = [k for k, name in enumerate(rows[0]) if name not in missing]
    with file.open("w", encoding="utf-8", newline="") as handle:
        csv.writer(handle).writerows([row[k] for k in kept] for row in rows)
    old = opened(file)
    assert old.find("settings", CANDIDATE, 1) == trial
    old.add("settings", other)
    new = opened(file)
    assert new.find("settings", CANDIDATE, 1) == trial
    assert new.find("settings", other.candidate, 2) == other
    assert len(lines_of(file)) == 3


def test_a_shared_search_of_an_earlier_version_goes_on(file: Path) -> None:
    opened(file).add("settings", make_trial(), "search", 1)
    rows = list(csv.reader(lines_of(file)))
    kept = [k for k, name in enumerate(rows[0]) if name != _STRESS]
    with file.open("w", encoding="utf-8", newline="") as handle:
        csv.writer(handle).writerows([row[k] for k in kept] for row in rows)
    opened(file).add("settings", make_trial(2, nodes=8), "search", 2)
    found = opened(file).lines
    assert [(line.search, line.event) for line in found] == [("search", 1), ("search", 2)]


def test_errors_of_stresses_are_kept(file: Path) -> None:
    trial = make_trial(1, validation_stress_rmse_meV_per_A3=1.25)
    opened(file).add("settings", trial)
    assert opened(file).find("settings", CANDIDATE, 1) == trial


def test_a_ledger_that_cannot_be_read_is_named(file: Path) -> None:
    file.mkdir()
    with pytest.raises(InputError, match="cannot read the file") as caught:
        opened(file)
    assert caught.value.file == str(file)
    file.rmdir()
