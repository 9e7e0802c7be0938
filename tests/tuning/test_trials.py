from __future__ import annotations

import csv
import math
from dataclasses import replace
from pathlib import Path

import pytest
from projects import PARAMETERS
from trials import COMMAND, make_trial

from tio2nn.errors import InputError
from tio2nn.tuning.trials import (
    DIVERGED,
    FAILED,
    best_of,
    ranked,
    read_best,
    write_best,
    write_trials,
)


def test_forces_count_as_much_as_energies_whatever_their_unit() -> None:
    assert make_trial().score == 12.5
    first = make_trial(1, 10.0, validation_force_rmse_eV_per_A=0.2)
    assert first.score == pytest.approx(2.0**0.5)
    assert first.describe().endswith("validation RMSE 10.00 meV/atom, 0.2000 eV/Å")
    second = make_trial(2, 11.0, validation_force_rmse_eV_per_A=0.17)
    assert ranked([first, second]) == (second, first)


def test_a_percent_of_the_stress_counts_a_quarter() -> None:
    def score(energy: float, force: float | None, stress: float) -> float:
        return make_trial(
            1, energy, validation_force_rmse_eV_per_A=force, validation_stress_rmse_meV_per_A3=stress
        ).score

    assert score(10.0, 0.2, 3.0) == pytest.approx((10.0 * 0.2 * 3.0**0.25) ** (1 / 2.25))
    assert score(10.0, None, 3.0) == pytest.approx((10.0 * 3.0**0.25) ** (1 / 1.25))
    # 10 % less of the energies outweigh 30 % more of the stress, but not 60 %
    assert score(9.0, 0.2, 3.9) < score(10.0, 0.2, 3.0) < score(9.0, 0.2, 4.8)
    shown = make_trial(1, 10.0, validation_force_rmse_eV_per_A=0.2, validation_stress_rmse_meV_per_A3=3.0)
    assert shown.describe().endswith("validation RMSE 10.00 meV/atom, 0.2000 eV/Å, 3.00 meV/Å³")


@pytest.mark.parametrize(
    ("forces", "stress", "least"),
    # 1.96 standard errors of energies of 50 structures, 19.6 %, of the score
    [(None, None, 1.196), (0.2, None, 1.098), (0.2, 3.0, 1.0898), (None, 3.0, 1.1616)],
)
def test_another_trial_must_be_better_by_more_than_chance(
    forces: float | None, stress: float | None, least: float
) -> None:
    known = {"validation_force_rmse_eV_per_A": forces, "validation_stress_rmse_meV_per_A3": stress}
    own, better = make_trial(1, **known), make_trial(2, nodes=8, **known)
    power = math.log(better.score / make_trial(2, 25.0, nodes=8, **known).score) / math.log(0.5)
    for factor, expected in ((0.999, own), (1.001, better)):
        rmse = 12.5 / (factor * least) ** (1.0 / power)
        better = make_trial(2, rmse, nodes=8, **known)
        found = best_of([own, better], own.candidate, 50)
        assert found.trial == expected.trial


@pytest.mark.parametrize(("n_others", "least"), [(1, 1.196), (11, 1.2838), (100, 1.3481)])
def test_the_best_of_many_trials_must_be_better_by_more(n_others: int, least: float) -> None:
    own = make_trial(1)
    others = [make_trial(2 + k, 12.5, nodes=8) for k in range(n_others - 1)]
    # of other lengths, or without a result: not compared
    others += [make_trial(500, epochs=5), make_trial(501, None, FAILED)]
    for factor, expected in ((0.999, 1), (1.001, 400)):
        better = make_trial(400, 12.5 / (factor * least), nodes=4)
        assert best_of([own, *others, better], own.candidate, 50).trial == expected


def test_the_best_is_first_and_what_did_not_complete_last() -> None:
    trials = [
        make_trial(1, None, DIVERGED),
        make_trial(2, 7.0),
        make_trial(3, 5.0),
        make_trial(4, 7.0),
        make_trial(5, None, FAILED),
    ]
    assert [trial.trial for trial in ranked(reversed(trials))] == [3, 2, 4, 1, 5]
    assert math.isinf(trials[0].score)


def test_the_table_is_in_the_order_of_the_search(tmp_path: Path) -> None:
    path = tmp_path / "trials.csv"
    write_trials(path, [make_trial(3), make_trial(1), make_trial(2, None, DIVERGED, message="a, b")])
    with path.open(encoding="utf-8", newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert [row["trial"] for row in rows] == ["1", "2", "3"]
    assert float(rows[0]["validation_mae_meV_per_atom"]) == 12.5 / 3
    assert (rows[1]["validation_rmse_meV_per_atom"], rows[1]["message"]) == ("", "a, b")


def test_a_trial_is_described_in_one_line() -> None:
    assert make_trial(4).describe() == (
        "4: 2 × 16 nodes, learning rate 0.0005, dropout 0.1, 20 epochs: validation RMSE 12.50 meV/atom"
    )
    lost = make_trial(4, None, FAILED, message="out of memory").describe()
    assert lost.endswith("20 epochs: failed, out of memory")


# --- best.json ----------------------------------------------------------------------------------------------


def test_what_the_best_trial_changes_can_be_read_back(tmp_path: Path) -> None:
    path = tmp_path / "best.json"
    document = write_best(path, make_trial(), {"strategy": "grid"})
    assert document["strategy"] == "grid"
    assert document["validation_rmse_meV_per_atom"] == 12.5
    changed = PARAMETERS.with_overrides(**read_best(path, COMMAND))
    assert changed.network == replace(PARAMETERS.network, hidden_layers=(16, 16), dropout=0.1)
    assert changed.training == replace(PARAMETERS.training, learning_rate=5e-4)


@pytest.mark.parametrize(
    ("text", "got"),
    [
        ("{", "expected"),
        ("[]", "expected a section network"),
        ('{"network": {"hidden_layers": [8], "dropout": 0.0}}', "expected a section training"),
        ('{"network": {"hidden_layers": [8]}, "training": {"learning_rate": 0.1}}', "section network"),
        (
            '{"network": {"hidden_layers": [8], "dropout": 2}, "training": {"learning_rate": 0.1}}',
            "dropout: expected .*, got 2",
        ),
    ],
)
def test_a_best_trial_without_settings_is_refused(tmp_path: Path, text: str, got: str) -> None:
    path = tmp_path / "best.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=rf"^{path}:.*{got}"):
        read_best(path, COMMAND)
    path.unlink()
    with pytest.raises(InputError, match="no such file"):
        read_best(path, COMMAND)
