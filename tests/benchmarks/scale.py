"""Time and memory of every command on synthetic projects of many structures.

    python tests/benchmarks/scale.py [--sizes N...] [--forces-up-to N] [--cells one|several] [--directory DIR]

For each size an archive of XSF files is made: crystals of TiO2 with 6 to 24 atoms, scaled and displaced at random; of
ten structures two belong to a volume scan, five to a run of similar frames, three stand alone, some of them copies.
Energies and forces are those of a made-up pair potential. With `--cells one` all have the elements and the number of
atoms of one cell, which is the worst case for what compares structures. Each command runs as a process of its own, with
one thread for matrices so that CPU time is work and not waiting; memory is that of its largest process. Kernels are
compiled before, on a project of a few structures. A size takes about 1 kB of disk for each atom, with derivatives 1 kB
more for each pair of atoms of a structure.
"""

from __future__ import annotations

import argparse
import io
import os
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice, product
from pathlib import Path
from typing import NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
from numpy.typing import NDArray

from tio2nn.io.xsf.file import write_xsf
from tio2nn.structures.structure import Structure

FloatArray = NDArray[np.float64]

SCAN, RUN = 10, 25  # structures of a family
# of families; a scan has 10 structures, a run 25: of the structures a fifth, a half and three tenths
SHARES = {"scan": 0.02, "run": 0.02, "alone": 0.28, "copy": 0.02}
STRETCH = 0.06  # largest strain of a cell
SHIFT = 0.15  # Å, standard deviation of what displaces an atom
TREMOR = 0.03  # Å, the same from frame to frame
N_WARM = 60  # structures that kernels are compiled for

ATOMIC_ENERGIES = {"Ti": -1600.0, "O": -430.0}  # eV
STRENGTHS = np.array([[400.0, -60.0], [-60.0, 150.0]])  # eV, of Ti and O
DECAY = 1.6  # 1/Å
IMAGES = np.array(list(product((-1, 0, 1), repeat=3)), dtype=np.float64)


class Cell(NamedTuple):
    """A crystal as it is varied."""

    elements: tuple[str, ...]
    fractional: FloatArray  # (n_atoms, 3)
    vectors: FloatArray  # (3, 3) Å


def repeated(cell: Cell, repeats: tuple[int, int, int]) -> Cell:
    """The same crystal in a larger cell."""
    shifts = np.array(list(product(*map(range, repeats))), dtype=np.float64)
    fractional = (cell.fractional[None] + shifts[:, None]).reshape(-1, 3) / repeats
    return Cell(cell.elements * len(shifts), fractional, cell.vectors * np.reshape(repeats, (3, 1)))


def rutile() -> Cell:
    u = 0.305
    oxygen = [(u, u, 0.0), (-u, -u, 0.0), (0.5 + u, 0.5 - u, 0.5), (0.5 - u, 0.5 + u, 0.5)]
    sites = np.array([(0.0, 0.0, 0.0), (0.5, 0.5, 0.5), *oxygen])
    return Cell(("Ti", "Ti", "O", "O", "O", "O"), sites, np.diag([4.594, 4.594, 2.959]))


CELLS = tuple(repeated(rutile(), repeats) for repeats in ((1, 1, 1), (1, 1, 2), (1, 1, 3), (1, 2, 2)))
"""6, 12, 18 and 24 atoms."""


def labelled(structure: Structure) -> Structure:
    """With energy and forces of a pair potential whose pairs are those of neighboring cells."""
    kinds = np.array([("Ti", "O").index(element) for element in structure.elements])
    vectors = (
        structure.positions[None, :, None] + IMAGES @ structure.cell - structure.positions[:, None, None]
    )
    distances = np.sqrt((vectors**2).sum(axis=-1))
    # an atom is no neighbor of itself, but of its images
    itself = (*np.diag_indices(len(kinds)), len(IMAGES) // 2)
    distances[itself] = np.inf
    pairs = STRENGTHS[kinds[:, None], kinds][:, :, None] * np.exp(-DECAY * distances)
    energy = 0.5 * float(pairs.sum()) + sum(ATOMIC_ENERGIES[element] for element in structure.elements)
    forces = -DECAY * (pairs / distances)[..., None] * vectors
    return replace(structure, energy=energy, forces=forces.sum(axis=(1, 2)))


def families(cells: Sequence[Cell], rng: np.random.Generator) -> Iterator[list[Structure]]:
    """Structures that belong together, without end."""
    kinds, weights = list(SHARES), np.array(list(SHARES.values()))
    last: list[Structure] = []
    while True:
        kind = str(rng.choice(kinds, p=weights / weights.sum())) if last else "alone"
        if kind == "copy":
            yield [last[0]]
            continue
        elements, fractional, vectors = cells[int(rng.integers(len(cells)))]
        vectors = vectors @ (np.eye(3) + rng.uniform(-STRETCH, STRETCH, (3, 3)))
        positions = fractional @ vectors + rng.normal(0.0, SHIFT, fractional.shape)
        first = Structure("", elements, positions, vectors)
        if kind == "scan":
            scales = np.linspace(0.95, 1.08, SCAN)
            found = [replace(first, positions=positions * s, cell=vectors * s) for s in scales]
        elif kind == "run":
            tremors = np.cumsum(rng.normal(0.0, TREMOR, (RUN, *positions.shape)), axis=0)
            found = [replace(first, positions=positions + tremor) for tremor in tremors]
        else:
            found = [first]
        last = [labelled(structure) for structure in found]
        yield last


def write_archive(path: Path, n: int, cells: Sequence[Cell]) -> int:
    """Write so many structures as XSF files in a tar archive; return the number of atoms."""
    rng = np.random.default_rng(0)
    structures = (structure for family in families(cells, rng) for structure in family)
    n_atoms = 0
    with tarfile.open(path, "w") as tar:
        for number, structure in enumerate(islice(structures, n), start=1):
            data = write_xsf(structure).encode()
            member = tarfile.TarInfo(f"structure{number:06d}.xsf")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
            tar.members.clear()  # type: ignore[attr-defined]  # or it would remember all of them
            n_atoms += structure.n_atoms
    return n_atoms


class Cost(NamedTuple):
    """What a command took, its worker processes included."""

    wall: float  # s
    cpu: float  # s
    memory: int  # bytes, of the largest process


def cost(project: Path, *arguments: object) -> Cost:
    """Run a command, its results to nowhere."""
    verb, *others = map(str, arguments)
    command = [sys.executable, "-m", "tio2nn", verb, "-C", str(project), *others]
    log = project.with_suffix(".log")
    begin = time.perf_counter()
    with log.open("w") as messages:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=messages)
        _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - begin
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}: {log.read_text()}")
    return Cost(wall, usage.ru_utime + usage.ru_stime, 1024 * usage.ru_maxrss)


def new_project(root: Path) -> None:
    command = [sys.executable, "-m", "tio2nn", "init", str(root)]
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)


def measured(root: Path, archive: Path, *, forces: bool) -> Iterator[tuple[str, Cost]]:
    """Every command in turn, on a project that does not exist yet."""
    new_project(root)
    commands: list[tuple[object, ...]] = [
        ("extract", archive),
        ("featurize",),
        ("train", "--epochs", 2),
        ("tune", "--max-trials", 2, "--structures", 2000, "--epochs", 2),
        ("predict", archive),
        ("evaluate",),
        ("status",),
        ("evaluate", archive),
    ]
    if forces:
        commands += [("featurize", "--forces"), ("train", "--forces", "--epochs", 2), ("evaluate",)]
    for command in commands:
        shown = " ".join("ARCHIVE" if word == archive else str(word) for word in command)
        yield shown, cost(root, *command)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[3_000, 10_000], metavar="N")
    parser.add_argument("--forces-up-to", type=int, default=0, metavar="N")
    parser.add_argument("--cells", choices=["one", "several"], default="several")
    parser.add_argument("--directory", type=Path, metavar="DIR", help="keep the projects there")
    arguments = parser.parse_args()
    cells = CELLS[1:2] if arguments.cells == "one" else CELLS
    with tempfile.TemporaryDirectory() as temporary:
        directory: Path = arguments.directory or Path(temporary)
        directory.mkdir(parents=True, exist_ok=True)
        archive = directory / "warm.tar"
        write_archive(archive, N_WARM, cells)
        for _ in measured(directory / "warm", archive, forces=arguments.forces_up_to > 0):
            pass  # compiles
        print(
            "structures    atoms  command                                       wall s    CPU s  s/1000     MB"
        )
        for n in arguments.sizes:
            archive = directory / f"{n}.tar"
            n_atoms = write_archive(archive, n, cells)
            forces = n <= arguments.forces_up_to
            for command, (wall, cpu, memory) in measured(directory / str(n), archive, forces=forces):
                print(
                    f"{n:10} {n_atoms:8}  {command:44} {wall:7.1f} {cpu:8.1f} {1e3 * wall / n:7.2f} "
                    f"{memory / 1e6:6.0f}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
