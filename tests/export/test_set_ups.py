"""`init` takes the functions of set-ups of other programs, n2p2's and aenet's."""

from __future__ import annotations

from pathlib import Path

import pytest
from command_line import invoke, refusal
from export.exported import exported_folder
from projects import PARAMETERS

from tio2nn.parameters.parameter_set import ParameterSet
from tio2nn.parameters.presets import preset


@pytest.mark.parametrize("units", ["metal", "atomic"])
def test_init_takes_the_functions_of_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, units: str
) -> None:
    monkeypatch.chdir(tmp_path)
    exported_folder(Path("nnp"), units=units)
    invoke("init", "p", "--from", "nnp/input.nn", "--for", "lammps")
    found = ParameterSet.load("p/params.json")
    assert found.fingerprint == PARAMETERS.fingerprint
    assert (found.recipe, found.target, found.network.activation) == ("auto", "lammps", None)


STP = """\
DESCR
  anything = at all
END DESCR
ATOM {center}
ENV  2
Ti
O
RMIN 0.55d0
FUNCTIONS type=Behler2011
{n}
{lines}
"""


def stp(center: str) -> str:
    parameters = preset("artrith-urban-2016")
    lines = [
        f"G=2 type2={e}  eta={f.eta}  Rs={f.r_s:.4f}  Rc=6.5000"
        for f in parameters.radial
        for e in ("O", "Ti")
    ]
    lines += [
        f"G=4 type2={a} type3={b} eta={f.eta} lambda={f.lambda_}.0 zeta={f.zeta} Rc=6.5"
        for f in parameters.angular
        for a, b in (("O", "O"), ("Ti", "O"), ("Ti", "Ti"))
    ]
    return STP.format(center=center, n=len(lines), lines="\n".join(lines))


def test_init_takes_set_ups_of_aenet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for element in ("Ti", "O"):
        Path(f"{element}.stp").write_text(stp(element))
    invoke("init", "p", "--from", "Ti.stp", "--from", "O.stp")
    assert ParameterSet.load("p/params.json").fingerprint == preset("artrith-urban-2016").fingerprint
    assert "expected either --from or --preset" in refusal(
        "init", "q", "--from", "Ti.stp", "--preset", "extended", code=2
    )


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("G=2 type2=O", "G=3 type2=O", "Ti.stp:11: expected G=2 or G=4, got '3'"),
        ("type2=O", "type2=Xx", "Ti.stp:11: expected type2=ELEMENT, got 'Xx'"),
        ("eta=", "eta=a", "Ti.stp:11: expected eta=NUMBER"),
        ("70", "71", "expected more lines, got the end of the file"),
        ("Behler2011", "Chebyshev", "Ti.stp:9: expected functions of type=Behler2011"),
        ("type2=O", "type2=H", "Ti.stp:11: expected a neighbor of ENV, Ti or O, got H"),
        ("type2=Ti type3=Ti", "type2=Ti type3=H", "expected a neighbor of ENV, Ti or O, got H"),
        ("ENV  2\nTi\nO\n", "", "expected ENV before the functions, got none"),
        ("RMIN", "RMAX", "Ti.stp:8: expected ATOM, ENV, RMIN or FUNCTIONS"),
    ],
)
def test_a_damaged_set_up_is_named_with_its_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, old: str, new: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("Ti.stp").write_text(stp("Ti").replace(old, new, 1))
    assert message in refusal("init", "p", "--from", "Ti.stp", code=3)
    assert not Path("p").exists()


def test_set_ups_of_aenet_are_in_its_units_and_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    exported_folder(Path("nnp"))
    Path("Ti.stp").write_text(stp("Ti"))
    for units in ("metal", "atomic"):
        message = refusal("init", "p", "--from", "Ti.stp", "--units", units, code=3)
        assert message == f"Ti.stp: expected no --units for a .stp, which is in Å, got {units}"
    for files in (["Ti.stp", "nnp/input.nn"], ["nnp/input.nn", "Ti.stp"], ["nnp/input.nn", "nnp/input.nn"]):
        message = refusal("init", "p", "--from", files[0], "--from", files[1], code=3)
        assert (
            message
            == f"nnp/input.nn: expected one input.nn or the .stp of each element, got {' and '.join(files)}"
        )
    assert not Path("p").exists()
