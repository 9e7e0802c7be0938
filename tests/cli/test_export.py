"""The command export: what it writes, what it says, how it refuses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from command_line import invoke, refusal
from export.exported import potential_for
from projects import PARAMETERS
from projects import structures as crystals

from tio2nn.export.read_n2p2 import read_n2p2
from tio2nn.potential.potential import Potential
from tio2nn.potential.repulsion import Repulsion
from tio2nn.project.project import Project

REPULSION = Repulsion(("Ti", "O"), np.array([[2.0, 1.5], [1.5, 1.8]]))


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def saved(activation: str = "tanh", **changes: object) -> Potential:
    potential = potential_for(PARAMETERS, crystals(6), activation, **changes)  # type: ignore[arg-type]
    potential.save("potential.npz")
    return potential


def export(*arguments: object) -> str:
    out, err = invoke("export", "--potential", "potential.npz", *arguments)
    assert out == ""
    return err


def refused(*arguments: object, code: int = 3) -> str:
    return refusal("export", "--potential", "potential.npz", *arguments, code=code)


def test_a_potential_becomes_a_folder_with_a_text_on_its_use() -> None:
    saved(members=2)
    err = export("out/nnp")
    assert err.splitlines() == ["wrote 2 networks to out/nnp; how to use it is in out/nnp/README.md"]
    assert sorted(str(path) for path in Path("out/nnp").rglob("*.*")) == [
        "out/nnp/README.md",
        *(
            f"out/nnp/nnp-{member}/{name}"
            for member in (1, 2)
            for name in ("input.nn", "scaling.data", "weights.008.data", "weights.022.data")
        ),
    ]
    text = Path("out/nnp/README.md").read_text(encoding="utf-8")
    assert 'dir "out/nnp/nnp-2"' in text
    assert "`--units atomic`" in text


def test_the_project_has_a_potential_to_export() -> None:
    project = Project.create("p", PARAMETERS)
    project.model_directory.mkdir()
    saved().save(project.potential_file)
    invoke("export", "-C", "p", "nnp")
    assert "global_nodes_short 6 5" in Path("nnp/input.nn").read_text(encoding="utf-8")


def test_a_folder_for_cp2k_comes_with_warnings_of_what_it_computes_otherwise() -> None:
    saved("softplus", repulsion=REPULSION)
    err = export("--units", "atomic", "nnp")
    assert "warning: CP2K computes right energies but wrong forces from softplus" in err
    assert "closer than Ti-Ti 2.00 Å, Ti-O 1.50 Å, O-O 1.80 Å" in err
    assert "narrower than 4 Å" in err
    text = Path("nnp/README.md").read_text(encoding="utf-8")
    assert "Note: CP2K computes right energies but wrong forces" in text
    assert "METHOD NNP" in text


def test_strict_refuses_what_would_be_computed_otherwise() -> None:
    saved(repulsion=REPULSION)
    message = refused("--units", "atomic", "--strict", "nnp")
    assert message.startswith("cannot export the potential: CP2K gets the networks without")
    assert not Path("nnp").exists()
    # LAMMPS has the repulsion
    export("--strict", "nnp")


def test_names_that_do_not_exist_are_refused_before_anything_is_read() -> None:
    assert 'expected one of metal, atomic, got "metall", did you mean "metal"?' in refused(
        "--units", "metall", "nnp", code=2
    )
    assert "--format: expected one of n2p2" in refused("--format", "npz", "nnp", code=2)


def test_an_activation_that_the_format_lacks_is_refused() -> None:
    saved("silu")
    assert 'LAMMPS has no activation "silu"' in refused("nnp")
    saved("relu")
    export("nnp")
    assert 'CP2K has no activation "relu"' in refused("--units", "atomic", "nnp")


def test_a_folder_with_something_else_is_refused() -> None:
    saved()
    Path("nnp").mkdir()
    Path("nnp/mine.txt").write_text("mine\n")
    assert "expected a new or empty directory" in refused("nnp")
    assert [path.name for path in Path("nnp").iterdir()] == ["mine.txt"]


def test_a_missing_foreign_or_later_potential_is_refused() -> None:
    assert "no such file" in refused("nnp")
    Path("potential.npz").write_text("not a potential\n")
    assert "expected a potential written by tio2nn train" in refused("nnp")
    Project.create("p", PARAMETERS)
    assert 'run "tio2nn train -C p"' in refusal("export", "-C", "p", "nnp", code=3)


def test_files_for_aenet_come_with_the_input_of_predict() -> None:
    saved(repulsion=REPULSION, members=2)
    err = export("--format", "aenet", "nn")
    assert "warning: aenet gets the networks without the short-range repulsion" in err
    assert "O nn/nnp-1/O.nn" in Path("nn/README.md").read_text(encoding="utf-8")
    assert Path("nn/nnp-2/Ti.nn").is_file()
    assert "aenet gets the networks" in refused("--format", "aenet", "--strict", "other")
    assert refused("--format", "aenet", "--units", "atomic", "other", code=2) == (
        "--units: expected metal, the units of aenet, got atomic"
    )
    saved("softplus")
    assert 'aenet has no activation "softplus"' in refused("--format", "aenet", "other")


@pytest.mark.parametrize("units", ["metal", "atomic"])
def test_a_folder_is_exported_again_with_all_it_has(units: str) -> None:
    saved(repulsion=REPULSION, members=2)
    export("--units", units, "nnp")
    _, err = invoke("export", "--potential", "nnp", "again")
    assert ("without the short-range repulsion" in err) == (units == "atomic")
    assert f"# units: {units}" in Path("again/nnp-1/input.nn").read_text(encoding="utf-8")
    assert "zbl" in Path("again/README.md").read_text(encoding="utf-8")
    one, other = (read_n2p2(folder) for folder in ("nnp", "again"))
    assert one.repulsion is not None
    assert other.repulsion is not None
    assert np.array_equal(one.repulsion.outer, other.repulsion.outer)
    # and in other units where one asks for them
    invoke("export", "--potential", "again", "--units", "atomic", "third")
    assert "# units: atomic" in Path("third/nnp-1/input.nn").read_text(encoding="utf-8")


@pytest.mark.parametrize("directory", ["nnp", "nnp/../nnp", "nnp/nnp-1", "nnp/deeper"])
def test_a_folder_is_not_written_onto_itself(directory: str) -> None:
    saved(members=2)
    export("nnp")
    before = {path: path.read_bytes() for path in Path("nnp").rglob("*.*")}
    message = refusal("export", "--potential", "nnp", directory, code=3)
    assert (
        message == f"{directory}: expected a directory apart from that of the potential, nnp, got one with it"
    )
    assert {path: path.read_bytes() for path in Path("nnp").rglob("*.*")} == before
    assert "apart from that of the potential" in refusal("export", "--potential", "nnp/nnp-1", "nnp", code=3)


def test_the_current_directory_may_be_the_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    saved()
    Path("nnp").mkdir()
    monkeypatch.chdir("nnp")
    for _ in range(2):  # empty, then an earlier export
        invoke("export", "--potential", "../potential.npz", ".")
        assert sorted(path.name for path in Path().iterdir()) == [
            "README.md",
            "input.nn",
            "scaling.data",
            "weights.008.data",
            "weights.022.data",
        ]
    assert [path.name for path in sorted(Path("..").iterdir())] == ["nnp", "potential.npz"]


def test_a_place_without_room_for_a_folder_is_named() -> None:
    saved()
    message = invoke("export", "--potential", "potential.npz", "/proc/x", code=3)[1]
    assert len(message.splitlines()) == 1
    assert "/proc/x" in message
    assert ".part" not in message


def test_a_folder_that_does_not_state_its_units_is_exported_in_others() -> None:
    saved()
    export("--units", "atomic", "nnp")
    file = Path("nnp/input.nn")
    kept = [line for line in file.read_text(encoding="utf-8").splitlines() if "units" not in line]
    file.write_text("\n".join(kept), encoding="utf-8")
    message = refusal("export", "--potential", "nnp", "again", "--units", "metal", code=3)
    assert message.startswith("nnp/input.nn: expected units metal")
    assert message.endswith("or by --from-units of tio2nn export")
    assert not Path("again").exists()
    invoke("export", "--potential", "nnp", "again", "--from-units", "atomic", "--units", "metal")
    (structure, *_) = crystals(6)
    expected, found = (
        read_n2p2(name, units).energy(structure) for name, units in (("nnp", "atomic"), ("again", None))
    )
    assert found == pytest.approx(expected, rel=1e-12)
    message = refusal("export", "--potential", "nnp", "third", "--from-units", "bohr", code=2)
    assert message.startswith("--from-units: expected one of metal, atomic")
