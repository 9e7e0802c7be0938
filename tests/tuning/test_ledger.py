from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import pytest
from test_trials import CANDIDATE, COMMAND, make_trial

from tio2nn.errors import InputError
from tio2nn.job_part import JobPart
from tio2nn.tuning.ledger import Ledger, of_part
from tio2nn.tuning.trials import DIVERGED, FAILED, STARTED


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "ledger.csv"


def test_a_new_ledger_gives_back_what_another_was_given(file: Path) -> None:
    trials = [
        make_trial(1),
        make_trial(2, 1e-300, nodes=32),
        make_trial(3, None, DIVERGED, nodes=64, message='the loss, "of" epoch 1 is nan'),
    ]
    ledger = Ledger(file, COMMAND)
    for trial in trials:
        ledger.add("settings", trial)
    again = Ledger(file, COMMAND)
    assert [again.find("settings", trial.candidate, trial.trial) for trial in trials] == trials


def test_a_trial_is_renumbered_for_the_search_that_asks(file: Path) -> None:
    Ledger(file, COMMAND).add("settings", make_trial(1))
    assert Ledger(file, COMMAND).find("settings", CANDIDATE, 9) == make_trial(9)


def test_only_the_same_candidate_under_the_same_settings_is_found(file: Path) -> None:
    ledger = Ledger(file, COMMAND)
    ledger.add("settings", make_trial())
    assert ledger.find("others", CANDIDATE, 1) is None
    for change in ({"layers": 3}, {"nodes": 8}, {"learning_rate": 1e-4}, {"dropout": 0.0}, {"epochs": 21}):
        assert ledger.find("settings", replace(CANDIDATE, **change), 1) is None


def test_a_failed_trial_is_tried_again_and_then_replaced(file: Path) -> None:
    ledger = Ledger(file, COMMAND)
    ledger.add("settings", make_trial(1, None, FAILED, message="out of memory"))
    assert Ledger(file, COMMAND).find("settings", CANDIDATE, 1) is None
    ledger.add("settings", make_trial(1))
    assert Ledger(file, COMMAND).find("settings", CANDIDATE, 1) == make_trial(1)
    assert len(file.read_text(encoding="utf-8").splitlines()) == 2


@pytest.mark.parametrize("cut", [0, 1])
def test_a_torn_ledger_is_refused_with_its_line(file: Path, cut: int) -> None:
    ledger = Ledger(file, COMMAND)
    for nodes in (1, 2, 3):
        ledger.add("settings", make_trial(nodes=nodes))
    lines = file.read_text(encoding="utf-8").splitlines()
    lines[1 + cut] = lines[1 + cut][:20]
    file.write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(
        InputError, match=r'expected a trial, got: .*; delete it and run "tio2nn tune -C .*" again'
    ) as caught:
        Ledger(file, COMMAND)
    assert (caught.value.file, caught.value.line) == (str(file), 2 + cut)


@pytest.mark.parametrize("content", [b"\xff\xfe\x00binary", b'settings,"', b"", b"a,b\n1,2\n"])
def test_another_file_is_no_ledger(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    with pytest.raises(InputError, match="; delete it and run") as caught:
        Ledger(file, COMMAND)
    assert str(caught.value).startswith(f"{file}:")
    assert "\n" not in str(caught.value)
    assert file.read_bytes() == content


def test_a_ledger_of_a_search_that_knew_no_forces_is_read(file: Path) -> None:
    trial = make_trial()
    Ledger(file, COMMAND).add("settings", trial)
    rows = list(csv.reader(file.read_text(encoding="utf-8").splitlines()))
    at = rows[0].index("validation_force_rmse_eV_per_A")
    with file.open("w", encoding="utf-8", newline="") as handle:
        csv.writer(handle).writerows([*row[:at], *row[at + 1 :]] for row in rows)
    assert Ledger(file, COMMAND).find("settings", CANDIDATE, 1) == trial


