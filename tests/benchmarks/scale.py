"""Time, memory and disk of every command on synthetic projects of many structures.

For each size an archive of XSF files is made: crystals of TiO2 with 6 to 24 atoms, scaled and displaced at random; of
ten structures two belong to a volume scan, five to a run of similar frames, three stand alone, some of them copies.
Energies and forces are those of a made-up pair potential. With `--cells one` all have the elements and the number of
atoms of one cell, which is the worst case for what compares structures; with `--cells small` they have 2 to 8 atoms.
Each command runs as a process of its own, with one thread for matrices so that CPU time is work and not waiting; memory
is that of its largest process, disk what it adds to the project and prints. Kernels are compiled before, on a project
of a few structures. A size takes about 1 kB of disk for each atom, with derivatives 1 kB more for each pair of atoms of
a structure.
"""

from __future__ import annotations

import argparse
import io
import math
import os
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice, product
from pathlib import Path
from typing import NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
from benchmarks.commands import DATA, N_WARM, Project
from benchmarks.record import Row
from numpy.typing import NDArray

from tio2nn.files.arrays import opened_arrays
from tio2nn.io.xsf.file import write_xsf
from tio2nn.structures.structure import Structure

FloatArray = NDArray[np.float64]

POTENTIAL = "POTENTIAL"
MILLIONS = (1, 10, 100)
SCAN, RUN = 10, 25  # structures of a family
# of families; a scan has 10 structures, a run 25: of the structures a fifth, a half and three tenths
SHARES = {"scan": 0.02, "run": 0.02, "alone": 0.28, "copy": 0.02}
STRETCH = 0.06  # largest strain of a cell
SHIFT = 0.15  # Å, standard deviation of what displaces an atom
TREMOR = 0.03  # Å, the same from frame to frame

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


def cubic(edge: float, titanium: Sequence[Sequence[float]], oxygen: Sequence[Sequence[float]]) -> Cell:
    elements = ("Ti",) * len(titanium) + ("O",) * len(oxygen)
    return Cell(elements, np.array([*titanium, *oxygen]), edge * np.eye(3))


FACES = ((0.0, 0.0, 0.0), (0.0, 0.5, 0.5), (0.5, 0.0, 0.5), (0.5, 0.5, 0.0))
CELLS = {
    # 12 atoms
    "one": (repeated(rutile(), (1, 1, 2)),),
    # 6, 12, 18 and 24 atoms
    "several": tuple(repeated(rutile(), repeats) for repeats in ((1, 1, 1), (1, 1, 2), (1, 1, 3), (1, 2, 2))),
    # CsCl, simple cubic TiO2, rutile and rock salt: 2, 3, 6 and 8 atoms
    "small": (
        cubic(2.6, FACES[:1], [(0.5, 0.5, 0.5)]),
        cubic(3.1, FACES[:1], [(0.5, 0.5, 0.0), (0.0, 0.5, 0.5)]),
        rutile(),
        cubic(4.2, FACES, [(0.5, 0.5, 0.5), (0.5, 0.0, 0.0), (0.0, 0.5, 0.0), (0.0, 0.0, 0.5)]),
    ),
}


def labeled(structure: Structure) -> Structure:
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
        last = [labeled(structure) for structure in found]
        yield last


def write_archive(path: Path, n: int, cells: Sequence[Cell]) -> None:
    """Write so many structures as XSF files in a tar archive, whole."""
    rng = np.random.default_rng(0)
    structures = (structure for family in families(cells, rng) for structure in family)
    unfinished = path.with_suffix(".new")
    with tarfile.open(unfinished, "w") as tar:
        for number, structure in enumerate(islice(structures, n), start=1):
            data = write_xsf(structure).encode()
            member = tarfile.TarInfo(f"structure{number:06d}.xsf")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
            tar.members.clear()  # type: ignore[attr-defined]  # or it would remember all of them
    unfinished.replace(path)


def atoms_of(project: Project) -> int:
    with opened_arrays(project.directory / "structures/structures.npz") as arrays:
        return int(arrays["offsets"][-1])


def steps(*, trains: bool, forces: bool = False) -> list[list[str]]:
    """Commands on a project; without training, by a potential from elsewhere."""
    commands = [["extract", DATA], ["featurize", "--energies-only"]]
    if not trains:
        return [*commands, ["status"], ["predict", DATA, "--potential", POTENTIAL]]
    commands += [
        ["train", "--energies-only", "--epochs", "2"],
        ["tune", "--energies-only", "--max-trials", "2", "--structures", "2000", "--epochs", "2"],
        ["predict", DATA],
        ["evaluate"],
        ["status"],
        ["evaluate", DATA],
    ]
    if forces:
        commands += [["featurize", "--forces"], ["train", "--forces", "--epochs", "2"]]
    return commands


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--sizes", type=int, nargs="+", default=[3_000, 10_000], metavar="N")
    parser.add_argument("--forces-up-to", type=int, default=0, metavar="N")
    parser.add_argument("--cells", choices=CELLS, default="several")
    parser.add_argument("--preset", metavar="NAME", help="of the symmetry functions; by default auto")
    parser.add_argument("--potential", type=Path, metavar="FILE", help="predict by it; train none")
    parser.add_argument("--directory", type=Path, metavar="DIR", help="keep archives and projects there")


def measure(arguments: argparse.Namespace) -> Iterator[Row]:
    cells, trains = CELLS[arguments.cells], arguments.potential is None
    init = () if arguments.preset is None else ("--preset", arguments.preset)
    with tempfile.TemporaryDirectory() as temporary:
        directory: Path = arguments.directory or Path(temporary)
        directory.mkdir(parents=True, exist_ok=True)
        warm = Project(directory / "warm", init=init)
        for _ in warm.costs(steps(trains=trains), _files(directory / "warm.tar", N_WARM, cells, arguments)):
            pass  # compiles
        for n in arguments.sizes:
            files = _files(directory / f"{n}.tar", n, cells, arguments)
            project = Project(directory / str(n), init=init)
            for row in project.costs(steps(trains=trains, forces=n <= arguments.forces_up_to), files):
                yield {"structures": n, "atoms": atoms_of(project), **row}


def _files(
    archive: Path, n: int, cells: Sequence[Cell], arguments: argparse.Namespace
) -> dict[str, list[str]]:
    """What the commands read; an archive that is there is kept."""
    if not archive.exists():
        write_archive(archive, n, cells)
    return {DATA: [str(archive)], POTENTIAL: [str(arguments.potential)]}


def summarize(rows: Sequence[Row]) -> list[Row]:
    """What a structure adds to each command, and what that comes to for 1, 10 and 100 million.

    Lines through the two largest sizes measured, and for one size through nothing for no structures.
    `growth` is the exponent of the CPU time between the two largest: at most 1 if it is linear.
    """
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(str(row["command"]).removesuffix(f" --potential {POTENTIAL}"), []).append(row)
    return [_law(command, sorted(own, key=lambda row: row["structures"])) for command, own in found.items()]


def _law(command: str, rows: Sequence[Row]) -> Row:
    last = rows[-1]
    law: Row = {
        "command": command,
        "up_to": last["structures"],
        "atoms_per_structure": round(last["atoms"] / last["structures"], 1),
    }
    # field of a row; unit of what a structure adds, of which a thousand are one of the row; the same for millions
    for name, each, much, factor in (
        ("cpu_seconds", "cpu_ms", "cpu_hours", 3600.0),
        ("memory_MB", "memory_kB", "memory_GB", 1000.0),
        ("disk_MB", "disk_kB", "disk_GB", 1000.0),
    ):
        slope, fixed = last[name] / last["structures"], 0.0
        for other in rows[-2:-1]:
            slope = max(0.0, (last[name] - other[name]) / (last["structures"] - other["structures"]))
            fixed = max(0.0, last[name] - slope * last["structures"])
        law[each], law[f"fixed_{name}"] = _digits(1e3 * slope), _digits(fixed)
        for million in MILLIONS:
            law[f"{much}_of_{million}"] = _digits((fixed + 1e6 * million * slope) / factor)
    law["growth"] = None
    if len(rows) > 1:
        times, sizes = ([row[name] for row in rows[-2:]] for name in ("cpu_seconds", "structures"))
        law["growth"] = round(math.log(times[1] / times[0]) / math.log(sizes[1] / sizes[0]), 2)
    return law


def _digits(number: float) -> float:
    """With three."""
    return float(f"{number:.3g}")
