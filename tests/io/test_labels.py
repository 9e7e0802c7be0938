"""Which names are those of reference labels, and what is said of others."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tio2nn.errors import InputError
from tio2nn.io.extxyz import iter_extxyz
from tio2nn.io.labels import ReadOptions
from tio2nn.io.read import read_structures
from tio2nn.structures.structure import Structure

FRAME = (
    '2\nLattice="5 0 0 0 5 0 0 0 5" Properties=species:S:1:pos:R:3:COLUMN:R:3 KEYS\n'
    "Cu 0 0 0 0.5 0 0\nCu 0 0 2.5 -0.5 0 0\n"
)


def read(keys: str, column: str = "forces", **options: str) -> Structure | InputError:
    text = FRAME.replace("KEYS", keys).replace("COLUMN", column)
    (item,) = iter_extxyz(text, name="x", file="x.xyz", options=ReadOptions(**options))  # type: ignore[arg-type]
    return item


def structure(keys: str, column: str = "forces", **options: str) -> Structure:
    item = read(keys, column, **options)
    assert isinstance(item, Structure), item
    return item


@pytest.mark.parametrize(
    "key",
    [
        *(
            "Energy",
            "ENERGY",
            "TotEnergy",
            "Total_Energy",
            "tot_energy",
            "Etot",
            "E0",
            "free_energy",
            "energy_dft",
        ),
        *("qm_energy", "QM_energy", "PBE_energy", "dftEnergy", "E_DFT", "energy-ref", "vasp_total_energy"),
    ],
)
def test_usual_spellings_of_the_energy_are_read(key: str) -> None:
    assert structure(f"{key}=-7.3").energy == -7.3


@pytest.mark.parametrize(
    "column",
    [
        "dft_force",
        "Forces",
        "DFT_force",
        "ref_force",
        "REF_force",
        "force",
        "FORCES",
        "qm_Forces",
        "forces_ref",
    ],
)
def test_usual_spellings_of_the_forces_are_read(column: str) -> None:
    found = structure("energy=-7.3", column)
    assert found.forces is not None
    assert found.forces[0, 0] == 0.5
    assert found.extras.remarks == ()


def test_forces_may_stand_in_three_columns() -> None:
    text = FRAME.replace("COLUMN:R:3", "fx:R:1:fy:R:1:fz:R:1").replace("KEYS", "energy=-1")
    (item,) = iter_extxyz(text, name="x", file="x.xyz")
    assert isinstance(item, Structure)
    assert item.forces is not None
    assert item.forces[1].tolist() == [-0.5, 0.0, 0.0]


@pytest.mark.parametrize("key", ["gap_energy", "mace_energy", "energy_per_atom", "cut_off_energy"])
def test_other_energies_are_named_with_the_option_that_reads_them(key: str) -> None:
    found = structure(f"{key}=-7.3 step=4")
    assert found.energy is None
    assert found.extras.no_energy == (
        f"expected a total energy, got none; found '{key}': choose with --energy-key KEY"
    )
    assert structure(f"{key}=-7.3", energy_key=key).energy == -7.3
    assert structure(f"{key}=-7.3 dft_energy=-8").energy == -8


@pytest.mark.parametrize("column", ["gap_force", "mace_forces"])
def test_forces_of_other_models_are_named_with_the_option_that_reads_them(column: str) -> None:
    found = structure("energy=-7.3", column)
    assert found.forces is None
    assert found.extras.remarks == (
        f"columns '{column}' not read as reference forces; to read them, use --forces-key KEY",
    )
    assert structure("energy=-7.3", column, forces_key=column).forces is not None


def test_own_predictions_are_not_offered_as_labels() -> None:
    found = structure("tio2nn_energy=-7.3 tio2nn_distance=0.2", "tio2nn_forces")
    assert (found.energy, found.forces, found.extras.remarks) == (None, None, ())
    assert found.extras.no_energy == (
        "expected a total energy, got none; found 'tio2nn_energy', predictions of a potential: compute the structures "
        "first"
    )
    assert structure("tio2nn_energy=-7.3 gap_energy=-7").extras.no_energy == (
        "expected a total energy, got none; found 'gap_energy': choose with --energy-key KEY"
    )
    # who asks for them by name has them
    asked = structure(
        "tio2nn_energy=-7.3", "tio2nn_forces", energy_key="tio2nn_energy", forces_key="tio2nn_forces"
    )
    assert asked.energy == -7.3
    assert asked.forces is not None


@pytest.mark.parametrize("column", ["grad", "gradient", "dft_gradients"])
def test_gradients_are_named_and_not_offered_as_forces(column: str) -> None:
    found = structure("energy=-7.3", column)
    assert found.forces is None
    assert found.extras.remarks == (
        f"columns '{column}' not read: gradients are the negative forces; give forces instead",
    )


@pytest.mark.parametrize("other", ["REF_energy", "dft_energy", "TotEnergy"])
def test_energies_that_differ_are_refused_until_one_is_chosen(other: str) -> None:
    keys = f"energy=-7.1 {other}=-7.3"
    assert str(read(keys)) == (
        f"x.xyz:2: expected equal values of energy and {other}, got others; choose one with --energy-key"
    )
    assert structure(keys, energy_key=other).energy == -7.3
    assert structure(keys, energy_key="energy").energy == -7.1


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        # rounded to four decimals
        ("energy=-7.3 REF_energy=-7.30004", -7.30004),
        ("energy=-7.30004 REF_energy=-7.3", -7.30004),
        # converted from single precision, with digits that mean nothing
        (f"energy={float(np.float32(-69123.456789))} REF_energy=-69123.456789", -69123.456789),
        (f"energy=-69123.456789 REF_energy={float(np.float32(-69123.456789))}", -69123.456789),
        ("energy=-7.3 REF_energy=-7.3", -7.3),
    ],
)
def test_energies_that_agree_to_rounding_are_one(keys: str, expected: float) -> None:
    assert structure(keys).energy == expected


@pytest.mark.parametrize("keys", ["energy=-7.3 REF_energy=-7.3002", "energy=-69123.4 REF_energy=-69123.42"])
def test_energies_that_are_farther_apart_are_two(keys: str) -> None:
    assert "expected equal values of energy and REF_energy, got others" in str(read(keys))


def test_forces_that_agree_to_rounding_are_one() -> None:
    text = FRAME.replace("COLUMN:R:3", "forces:R:3:REF_forces:R:3").replace("KEYS", "energy=-1")
    rows = [
        line + f" {0.50002 * sign} 0 0" for sign, line in zip((1, -1), text.split("\n")[2:4], strict=True)
    ]
    (item,) = iter_extxyz("\n".join([*text.split("\n")[:2], *rows, ""]), name="x", file="x.xyz")
    assert isinstance(item, Structure), item
    assert item.forces is not None
    assert item.forces[0, 0] == 0.5


@pytest.mark.parametrize(
    "value", ['" -7.3 "', '"_JSON [-7.3]"', '"_JSON [[-7.3]]"', "[-7.3]", '"_JSON -7.3"']
)
def test_an_energy_may_be_an_array_of_one_number(value: str) -> None:
    assert structure(f"REF_energy={value}").energy == -7.3
    assert "'my_energy': choose with --energy-key" in structure(f"my_energy={value}").extras.no_energy
    assert isinstance(read('energy="_JSON [-7.3, -7.4]"'), InputError)


def test_a_free_energy_beside_an_energy_is_no_second_label() -> None:
    assert structure("energy=-7.1 free_energy=-7.3").energy == -7.1
    assert "TotEnergy" in str(read("TotEnergy=-7.1 E0=-10"))


@pytest.mark.parametrize(
    "stress",
    [
        *(
            '"1 2 3 4 5 6"',
            '" 1 6 5 6 2 4 5 4 3 "',
            '"[1, 2, 3, 4, 5, 6]"',
            "{1 2 3 4 5 6}",
            "[1, 2, 3, 4, 5, 6]",
        ),
        *(
            '"[[1, 6, 5], [6, 2, 4], [5, 4, 3]]"',
            "[[1, 6, 5], [6, 2, 4], [5, 4, 3]]",
            "[[1,6,5],[6,2,4],[5,4,3]]",
        ),
        *('"_JSON [[1.0, 6.0, 5.0], [6.0, 2.0, 4.0], [5.0, 4.0, 3.0]]"', '"_JSON [1, 2, 3, 4, 5, 6]"'),
    ],
)
def test_a_stress_has_six_or_nine_numbers(stress: str) -> None:
    found = structure(f"energy=-7.3 REF_stress={stress} step=1")
    assert found.extras.info["step"] == "1"
    assert found.extras.remarks == ()
    np.testing.assert_array_equal(found.stress, [[1, 6, 5], [6, 2, 4], [5, 4, 3]])


@pytest.mark.parametrize("key", ["virial", "virials", "REF_virial"])
def test_a_virial_is_minus_the_volume_times_the_stress(key: str) -> None:
    found = structure(f'energy=-7.3 {key}="-125 0 0 0 -250 0 0 0 12.5"')
    np.testing.assert_allclose(found.stress, np.diag([1.0, 2.0, -0.1]), rtol=1e-14)
    chosen = structure('energy=-7.3 stress="9 9 9 0 0 0" my_virial="-125 0 0 0 0 0"', stress_key="my_virial")
    np.testing.assert_allclose(chosen.stress, np.diag([1.0, 0.0, 0.0]), rtol=1e-14)


def test_stress_and_virial_must_agree() -> None:
    agreeing = structure('energy=-7.3 virial="-125 0 0 0 0 0" stress="1.0000004 0 0 0 0 0"')
    assert agreeing.stress is not None
    assert agreeing.stress[0, 0] == 1.0000004
    keys = 'energy=-7.3 stress="-1 0 0 0 0 0" virial="-125 0 0 0 0 0"'
    other = structure(keys)
    assert other.stress is None
    (remark,) = other.extras.remarks
    assert remark == (
        "stress and virial ignored: expected the stress to be minus the virial over the volume, got another; "
        "choose one with --stress-key"
    )
    for key, expected in (("stress", -1.0), ("virial", 1.0)):
        found = structure(keys, stress_key=key).stress
        assert found is not None
        assert found[0, 0] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("keys", "reason"),
    [
        ('pbc="T T F" stress="1 2 3 4 5 6"', "expected three periodic axes, got fewer"),
        ('stress="1 NaN 3 4 5 6"', "expected finite numbers, got NaN or infinity"),
        ('stress="1 -inf 3 4 5 6"', "expected finite numbers, got NaN or infinity"),
        ('stress="1 2 3 4 5 6 7 8 9"', "expected a symmetric matrix, got another"),
        ('stress="1e7 2 3 4 5 6"', "expected at most 1e+06 eV/Å³, got more"),
    ],
)
def test_a_stress_that_cannot_be_learned_takes_no_part(keys: str, reason: str) -> None:
    found = structure(f"energy=-7.3 {keys}")
    assert found.energy == -7.3
    assert found.stress is None
    assert found.extras.remarks == (f"stress ignored: {reason}",)


def test_rounding_on_a_grid_does_not_make_a_stress_asymmetric() -> None:
    found = structure('energy=-7.3 stress="1 0.302 0 0.298 1 0 0 0 1"').stress
    assert found is not None
    np.testing.assert_array_equal(found, found.T)
    assert found[0, 1] == pytest.approx(0.3)


@pytest.mark.parametrize("key", ["stress", "virial", "dft_virial"])
def test_a_stress_of_other_numbers_is_ignored_with_a_word(key: str) -> None:
    found = structure(f'energy=-7.3 {key}="1 2 3 4 5"')
    assert found.energy == -7.3
    assert found.extras.remarks == (f"{key} ignored: expected six or nine numbers, got 5 numbers",)
    # the same words for each frame
    for text in ("a b", "1 2 3 4 5 x6"):
        remarks = structure(f'energy=-7.3 {key}="{text}"').extras.remarks
        assert remarks == (f"{key} ignored: expected six or nine numbers, got text",)


@pytest.mark.parametrize(
    ("unusable", "reason"),
    [
        ('stress="nan nan nan nan nan nan"', "stress ignored: expected finite numbers, got NaN or infinity"),
        ('stress="0 0 0 0 0 0"', "stress ignored: expected numbers that were computed, got zeros only"),
        ("stress=0.3", "stress ignored: expected six or nine numbers, got 1 number"),
        ('stress="1 2 3 4 5 6 7 8 9"', "stress ignored: expected a symmetric matrix, got another"),
        (
            'stress="0 0 0 0 0 0" virials="0 0 0 0 0 0"',
            "stress and virials ignored: expected numbers that were computed, got zeros only",
        ),
    ],
)
@pytest.mark.parametrize("usable", ['REF_stress="1 2 3 0 0 0"', 'virial="-125 -250 -375 0 0 0"'])
def test_an_unusable_stress_does_not_take_a_usable_one_along(usable: str, unusable: str, reason: str) -> None:
    for keys in (f"{unusable} {usable}", f"{usable} {unusable}"):
        found = structure(f"energy=-7.3 {keys}")
        np.testing.assert_allclose(found.stress, np.diag([1.0, 2.0, 3.0]), rtol=1e-14)
        assert found.extras.remarks == (reason,)


@pytest.mark.parametrize(
    ("option", "advice"),
    [
        ("energy_key", "; found 'energy': "),
        ("forces_key", "; found 'forces': "),
        ("stress_key", "; found 'virial': "),
    ],
)
def test_a_key_that_no_structure_has_is_one_error(tmp_path: Path, option: str, advice: str) -> None:
    frame = FRAME.replace("KEYS", 'energy=-7.3 virial="1 2 3 4 5 6"').replace("COLUMN", "forces")
    (tmp_path / "x.xyz").write_text(3 * frame, encoding="utf-8")
    flag = option.replace("_", "-")
    with pytest.raises(InputError, match=f"no structure has the key 'nothing' given by --{flag}{advice}"):
        list(read_structures([tmp_path / "x.xyz"], options=ReadOptions(**{option: "nothing"})))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("keys", "config_type", "weight"),
    [
        ("", "", 1.0),
        ("config_type=AIMD-NVT config_weight=0.5", "AIMD-NVT", 0.5),
        ('config_type="a \\"b\\" c" config_weight="2"', 'a "b" c', 2.0),
        ("config_weight=0", "", 0.0),
    ],
)
def test_kind_and_weight_of_a_structure(keys: str, config_type: str, weight: float) -> None:
    found = structure(f"energy=-7.3 {keys}")
    assert (found.config_type, found.weight) == (config_type, weight)


@pytest.mark.parametrize("weight", ["-1", "heavy", "nan", "inf"])
def test_a_weight_is_a_number_of_at_least_zero(weight: str) -> None:
    found = read(f"energy=-7.3 config_weight={weight}")
    assert str(found) == f"x.xyz:2: expected a finite number of at least 0 for config_weight, got '{weight}'"
