"""Trained folders of n2p2: what was written comes back, in every way to scale functions."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from command_line import invoke, refusal
from export.exported import CRYSTALS, exported_folder, potential_for, write_files
from export.plain_n2p2 import PlainFolder
from projects import PARAMETERS
from projects import write_files as write_structures

from tio2nn.errors import InputError
from tio2nn.export.n2p2 import n2p2_files
from tio2nn.export.read_n2p2 import read_n2p2
from tio2nn.export.units import UNITS
from tio2nn.potential.potential import Potential
from tio2nn.potential.repulsion import Repulsion

CLOSE = 1e-9  # eV, eV/Å


def check(found: Potential, expected: Potential) -> None:
    for one, other in zip(
        found.predict(CRYSTALS[:3], forces=True), expected.predict(CRYSTALS[:3], forces=True), strict=True
    ):
        assert one.energy == pytest.approx(other.energy, abs=CLOSE)
        np.testing.assert_allclose(one.forces, other.forces, rtol=0.0, atol=CLOSE)
        np.testing.assert_allclose(one.stress, other.stress, rtol=0.0, atol=CLOSE)
        if other.spread is not None:
            assert one.spread == pytest.approx(other.spread, abs=CLOSE)


@pytest.mark.parametrize("choice", [("each", "pairs"), ("weighted", "weighted"), ("blind", "pairs")], ids=str)
@pytest.mark.parametrize("units", ["metal", "atomic"])
def test_what_was_exported_comes_back(tmp_path: Path, choice: tuple[str, str], units: str) -> None:
    parameters = PARAMETERS.with_overrides(radial_elements=choice[0], angular_elements=choice[1])
    expected = exported_folder(tmp_path, parameters, units, members=2)
    found = read_n2p2(tmp_path)
    check(found, expected)
    if "blind" not in choice and (units == "metal" or "weighted" not in choice):
        assert found.parameters.fingerprint == parameters.fingerprint
    # and once more
    again = tmp_path / "again"
    write_files(again, n2p2_files(found, UNITS[units], weighted=units == "metal", train=""))
    check(read_n2p2(again), expected)
    found.save(tmp_path / "potential.npz")
    check(Potential.load(tmp_path / "potential.npz"), expected)


def rewritten(directory: Path, keywords: str) -> None:
    """The folder with functions scaled otherwise: biases of the first layer shifted, its weights scaled."""
    plain = PlainFolder(directory)
    text = (directory / "input.nn").read_text()
    text = re.sub(r"(?m)^(center|scale)_\w+.*\n", "", text)
    (directory / "input.nn").write_text(text + keywords)
    for number in plain.elements:
        name = directory / f"weights.{number:03d}.data"
        (weights, biases), *_ = plain.layers[number]
        low, high, mean, sigma = plain.scaling[number][:, 2:6].T
        factor, zero = factor_and_zero(keywords, low, high, mean, sigma)
        # weights @ (G - mean) / (high - low) = new @ factor (G - zero) + constant
        new = weights / (high - low)[:, None] / factor[:, None]
        constant = ((zero - mean) / (high - low)) @ weights
        lines = name.read_text().splitlines()
        head = [line for line in lines if line.startswith("#")]
        values = [line.split()[0] for line in lines if not line.startswith("#")]
        n, m = weights.shape
        values[: n * m] = [repr(value) for value in new.ravel().tolist()]
        values[n * m : n * m + m] = [repr(value) for value in (biases + constant).tolist()]
        name.write_text("\n".join([*head, *values]) + "\n")


def factor_and_zero(
    keywords: str, low: np.ndarray, high: np.ndarray, mean: np.ndarray, sigma: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    if "sigma" in keywords:
        return 1.0 / sigma, mean
    if "scale_max_short 3" in keywords:  # from -1 to 3
        factor = 4.0 / (high - low)
        return factor, low + 1.0 / factor
    if "scale_symmetry" in keywords:
        return 1.0 / (high - low), low
    return np.ones(len(low)), mean if "center" in keywords else np.zeros(len(low))


@pytest.mark.parametrize(
    "keywords",
    [
        "",
        "center_symmetry_functions\n",
        "scale_symmetry_functions\n",
        "scale_symmetry_functions\nscale_min_short -1\nscale_max_short 3\n",
        "scale_symmetry_functions_sigma\n",
    ],
    ids=["as they are", "centered", "scaled", "from -1 to 3", "by sigma"],
)
def test_functions_may_be_scaled_in_every_way_of_n2p2(tmp_path: Path, keywords: str) -> None:
    expected = exported_folder(tmp_path)
    rewritten(tmp_path, keywords)
    check(read_n2p2(tmp_path), expected)


@pytest.mark.parametrize("keyword", ["nnp_gen 2", "nnp_type 2G-HDNNP", "nnp_type 2"])
def test_the_second_generation_is_what_is_read(tmp_path: Path, keyword: str) -> None:
    expected = exported_folder(tmp_path)
    with (tmp_path / "input.nn").open("a") as handle:
        handle.write(f"{keyword}\n")
    check(read_n2p2(tmp_path), expected)


def test_normalized_energies_are_taken_back(tmp_path: Path) -> None:
    expected = exported_folder(tmp_path)
    (structure,) = CRYSTALS[:1]
    with (tmp_path / "input.nn").open("a") as handle:
        handle.write("mean_energy -2.5\nconv_energy 4.0\nconv_length 1.7\n")
    (plain,), (found,) = expected.predict([structure]), read_n2p2(tmp_path).predict([structure])
    offsets = sum(expected.reference_energies[element] for element in structure.elements)
    of_network = (plain.energy - offsets) / 4.0
    assert found.energy == pytest.approx(of_network - 2.5 * structure.n_atoms + offsets, abs=CLOSE)


def test_elements_may_have_different_functions(tmp_path: Path) -> None:
    """A column that an element lacks has no weight there."""
    expected = exported_folder(tmp_path)
    plain = PlainFolder(tmp_path)
    lines = (tmp_path / "input.nn").read_text().splitlines(keepends=True)
    of_oxygen = [k for k, line in enumerate(lines) if line.startswith("symfunction_short O")]
    last = len(of_oxygen) - 1
    (tmp_path / "input.nn").write_text("".join(line for k, line in enumerate(lines) if k != of_oxygen[last]))
    rows = (tmp_path / "scaling.data").read_text().splitlines(keepends=True)
    (tmp_path / "scaling.data").write_text(
        "".join(row for row in rows if not row.startswith(f"1 {last + 1} "))
    )
    weights = (tmp_path / "weights.008.data").read_text().splitlines(keepends=True)
    width = plain.layers[8][0][0].shape[1]
    del weights[1 + last * width : 1 + (last + 1) * width]
    (tmp_path / "weights.008.data").write_text("".join(weights))
    found = read_n2p2(tmp_path)
    assert found.parameters.fingerprint == expected.parameters.fingerprint
    shorter = PlainFolder(tmp_path)
    structure = CRYSTALS[0]
    energy, forces = shorter.energy_and_forces(structure.elements, structure.positions, structure.cell)
    (prediction,) = found.predict([structure], forces=True)
    assert prediction.energy == pytest.approx(energy, abs=CLOSE)
    np.testing.assert_allclose(prediction.forces, forces, rtol=0.0, atol=CLOSE)


# --- what is damaged is named by file and line --------------------------------------------------------------


DAMAGES = [
    ("input.nn", r"cutoff_type 1 0.0", "cutoff_type 2", r"input.nn:\d+: expected cutoff_type 1"),
    (
        "input.nn",
        r"symfunction_short O 2 O \S+",
        "symfunction_short O 2 O x",
        r":\d+: expected a number, got 'x'",
    ),
    (
        "input.nn",
        r"symfunction_short O 2 O",
        "symfunction_short O 2 Q",
        r":\d+: expected a chemical symbol, got 'Q'",
    ),
    (
        "input.nn",
        r"symfunction_short O 3",
        "symfunction_short O 9",
        r":\d+: expected a symmetry function of type",
    ),
    ("input.nn", r"(symfunction_short O 2 O .*)", r"\1 1", r":\d+: expected 7 words, got 8"),
    (
        "input.nn",
        r"(symfunction_short O 2 O \S+ \S+) \S+",
        r"\1 5.0",
        r":\d+: expected the cutoff of line \d+",
    ),
    (
        "input.nn",
        r"global_nodes_short 6 5",
        "global_nodes_short 6",
        r":\d+: expected 2 numbers of nodes, got 6",
    ),
    ("input.nn", r"global_activation_short t t l", "global_activation_short t q l", r":\d+: expected 2 of"),
    ("input.nn", r"global_nodes_short 6 5", "", r"input.nn: expected a line global_nodes_short"),
    ("input.nn", r"remove_atom_energies", "nnp_gen 4", r":\d+: expected one network for each element"),
    (
        "input.nn",
        r"remove_atom_energies",
        "nnp_type 4G-HDNNP",
        r":\d+: expected one network for each element",
    ),
    ("input.nn", r"remove_atom_energies", "normalize_nodes", r":\d+: expected one network for each element"),
    ("scaling.data", r"\n1 2 ", "\n1 3 ", r"scaling.data:3: expected element 1, function 2, got 1 3"),
    ("scaling.data", r"\n2 .*", "", r"scaling.data: expected 10 functions of Ti, got 0"),
    (
        "weights.008.data",
        r"\n\S+ b \d+ 3 1\n",
        "\n",
        r"weights.008.data:\d+: expected 107 weights and biases, got 106",
    ),
    ("weights.022.data", r"\n\S+ a 3 ", "\nnan a 3 ", r"weights.022.data:4: expected a number, got 'nan'"),
]


@pytest.mark.parametrize(("file", "pattern", "replacement", "message"), DAMAGES)
def test_a_damaged_file_is_named_with_its_line(
    tmp_path: Path, file: str, pattern: str, replacement: str, message: str
) -> None:
    exported_folder(tmp_path)
    text = (tmp_path / file).read_text()
    flags = re.DOTALL if pattern == r"\n2 .*" else 0
    changed = re.sub(pattern, replacement, text, count=1, flags=flags)
    assert changed != text
    (tmp_path / file).write_text(changed)
    with pytest.raises(InputError, match=message):
        read_n2p2(tmp_path)


@pytest.mark.parametrize("file", ["input.nn", "scaling.data", "weights.008.data"])
def test_a_missing_file_is_named(tmp_path: Path, file: str) -> None:
    exported_folder(tmp_path)
    (tmp_path / file).unlink()
    with pytest.raises(InputError, match=f"{file}: no such file"):
        read_n2p2(tmp_path)


@pytest.mark.parametrize(
    ("lost", "message"),
    [
        (1, "expected folders nnp-1 to nnp-3, got nnp-2, nnp-3"),
        (2, "expected folders nnp-1 to nnp-3, got nnp-1, nnp-3"),
        (3, "expected folders nnp-1 to nnp-3, got nnp-1, nnp-2"),
    ],
)
@pytest.mark.parametrize("comments", [True, False])
def test_a_missing_member_is_no_smaller_committee(
    tmp_path: Path, lost: int, message: str, comments: bool
) -> None:
    exported_folder(tmp_path, members=3)
    shutil.rmtree(tmp_path / f"nnp-{lost}")
    for file in [] if comments else tmp_path.rglob("input.nn"):
        file.write_text(re.sub(r"(?m)^#.*\n", "", file.read_text(encoding="utf-8")), encoding="utf-8")
    if lost == 3 and not comments:  # nothing says that there were more
        assert len(read_n2p2(tmp_path, "metal").members) == 2
        return
    with pytest.raises(InputError, match=message):
        read_n2p2(tmp_path, "metal")


def test_a_member_that_is_named_is_read_alone(tmp_path: Path) -> None:
    exported_folder(tmp_path, members=3)
    assert len(read_n2p2(tmp_path / "nnp-2").members) == 1


def test_repulsion_and_target_come_back(tmp_path: Path) -> None:
    repulsion = Repulsion(("Ti", "O"), np.array([[2.9, 2.5], [2.5, 1.0 / 0.3]]))
    for units in ("metal", "atomic"):
        parameters = PARAMETERS.with_overrides(target="cp2k")
        expected = potential_for(parameters, CRYSTALS, members=2, repulsion=repulsion)
        files = n2p2_files(expected, UNITS[units], weighted=units == "metal", train="")
        write_files(tmp_path / units, files)
        found = read_n2p2(tmp_path / units)
        assert found.repulsion is not None
        assert found.repulsion.elements == found.elements
        assert np.array_equal(found.repulsion.outer, repulsion.outer)
        assert found.parameters.target == "cp2k"
        check(found, expected)
        (prediction,) = found.predict(CRYSTALS[:1])
        assert prediction.repulsion > 0.1


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (r"repulsion Ti O \S+", "repulsion Ti O x", r"input.nn:\d+: expected a number, got 'x'"),
        (r"repulsion Ti O \S+", "repulsion Ti O -1", r"input.nn:\d+: expected a radius above 0, got -1"),
        (
            r"repulsion Ti O .*",
            "repulsion Ti H 1.5",
            r"input.nn:\d+: expected elements of the folder, got H",
        ),
        (r"# tio2nn: repulsion Ti O .*\n", "", r"input.nn: expected a repulsion of Ti and O, got none"),
        (r"target cp2k", "target vasp", r"input.nn:\d+: expected one of lammps, cp2k, aenet, got 'vasp'"),
        (r"members 1", "members x", r"input.nn:\d+: expected a number of members, got 'x'"),
        (r"members 1", "member 1", r"input.nn:\d+: expected members, target or repulsion, got 'member'"),
    ],
)
def test_what_comments_say_is_checked(tmp_path: Path, old: str, new: str, message: str) -> None:
    repulsion = Repulsion(("Ti", "O"), np.full((2, 2), 2.0))
    potential = potential_for(PARAMETERS.with_overrides(target="cp2k"), CRYSTALS, repulsion=repulsion)
    write_files(tmp_path, n2p2_files(potential, UNITS["metal"], weighted=True, train=""))
    text = (tmp_path / "input.nn").read_text(encoding="utf-8")
    changed = re.sub(old, new, text, count=1)
    assert changed != text
    (tmp_path / "input.nn").write_text(changed, encoding="utf-8")
    with pytest.raises(InputError, match=message):
        read_n2p2(tmp_path)


def test_members_must_go_together(tmp_path: Path) -> None:
    exported_folder(tmp_path / "one")
    exported_folder(tmp_path / "other", PARAMETERS.with_overrides(cutoff=4.1))
    shutil.move(tmp_path / "one", tmp_path / "nnp-1")
    shutil.move(tmp_path / "other", tmp_path / "nnp-2")
    with pytest.raises(
        InputError, match=r"nnp-2: expected functions, atom energies and comments of .*nnp-1, got others"
    ):
        read_n2p2(tmp_path)


# --- commands -----------------------------------------------------------------------------------------------


def test_predict_takes_a_folder_and_foreign_ones_need_their_units(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    expected = exported_folder(Path("nnp"), units="atomic")
    (file,) = write_structures(Path("files"), CRYSTALS[:1])
    (prediction,) = expected.predict(CRYSTALS[:1])
    out, _ = invoke("predict", "--potential", "nnp", file)
    assert float(out.splitlines()[1].split("\t")[2]) == pytest.approx(prediction.energy, abs=1e-6)
    text = Path("nnp/input.nn").read_text()
    Path("nnp/input.nn").write_text(re.sub(r"(?m)^#.*\n", "", text))
    assert "nnp/input.nn: expected units metal" in refusal("predict", "--potential", "nnp", file, code=3)
    out, _ = invoke("predict", "--potential", "nnp", file, "--units", "atomic")
    assert float(out.splitlines()[1].split("\t")[2]) == pytest.approx(prediction.energy, abs=1e-6)


def test_units_are_not_those_that_a_folder_denies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    exported_folder(Path("nnp"), members=2)
    (file,) = write_structures(Path("files"), CRYSTALS[:1])
    invoke("predict", "--potential", "nnp", file, "--units", "metal")
    message = "nnp/nnp-1/input.nn:2: expected units metal, as the file states, got atomic"
    assert refusal("predict", "--potential", "nnp", file, "--units", "atomic", code=3) == message
    assert refusal("init", "p", "--from", "nnp/nnp-1/input.nn", "--units", "atomic", code=3) == message
    assert not Path("p").exists()
    other = Path("nnp/nnp-2/input.nn")
    other.write_text(
        other.read_text(encoding="utf-8").replace("units: metal", "units: atomic"), encoding="utf-8"
    )
    with pytest.raises(InputError, match=r"nnp-2/input.nn: expected the units of .*nnp-1, metal, got atomic"):
        read_n2p2("nnp")
