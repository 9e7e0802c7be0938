"""CPU time of energy and forces, and of the symmetry functions, of one large structure and of a simulation step.

POTENTIAL is a file `potential.npz` for titanium and oxygen. The structures are rutile with atoms displaced at random:
one of many atoms, and 48 atoms that move from step to step as in molecular dynamics. `--other DIR` names another
version of tio2nn, a checkout, and `--beside FILE...` other potentials for this version; each runs in a process of its
own, and they take turns. `--spread` has the spread of a committee's forces computed, too. Times of one thread are CPU
times; those of more are times on the clock, so leave the cores to them. What several threads can gain is measured
beside them: arithmetic in registers, divided among as many threads. DScribe, where it is installed, computes the same
symmetry functions of the first structure; CP2K, where it is installed and knows the activation (tanh), does steps of
molecular dynamics of both by the exported potential.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

HERE = Path(__file__).resolve()
TASKS = {
    "values": "symmetry functions",
    "forces": "energy and forces",
    "later": "energy and forces, a later step of molecular dynamics",
    "step": "energy and forces of 48 atoms, a step of molecular dynamics",
}
CONTROL = "arithmetic"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("potential", metavar="POTENTIAL", type=Path)
    parser.add_argument("--other", type=Path, metavar="DIR", help="checkout of another version")
    parser.add_argument(
        "--beside",
        type=Path,
        nargs="*",
        default=[],
        metavar="FILE",
        help="other potentials, named by their files",
    )
    parser.add_argument("--spread", action="store_true", help="also compute the spread of forces")
    parser.add_argument(
        "--atoms", type=int, default=750, metavar="N", help="of the large structure (default: 750)"
    )
    parser.add_argument("--threads", type=int, nargs="*", default=[1], metavar="N", help="(default: 1)")
    parser.add_argument("--repeats", type=int, default=7, metavar="N")


def measure(arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """One row for each task, version and number of threads in each repeat."""
    this, potential = HERE.parents[2], arguments.potential
    about = {"processor": processor(), "atoms": arguments.atoms}
    workers = {"here": Worker(this, potential, arguments)}
    if arguments.other:
        workers["there"] = Worker(arguments.other, potential, arguments)
    workers |= {other.stem: Worker(this, other, arguments) for other in arguments.beside}
    try:
        for task in (*TASKS, *([CONTROL] if len(arguments.threads) > 1 else [])):
            for repeat in range(-1, arguments.repeats):
                for name, worker in workers.items():
                    if task == CONTROL and name != "here":
                        continue
                    # the other version may know no threads
                    for threads in arguments.threads if name == "here" else [1]:
                        row = worker.ask(task, threads)
                        if repeat >= 0:  # the first compiles
                            yield (
                                about
                                | {"task": task, "version": name, "threads": threads, "repeat": repeat}
                                | row
                            )
    finally:
        for worker in workers.values():
            worker.close()
    yield from of_dscribe(arguments, about)
    yield from of_cp2k(arguments, about)


def of_dscribe(arguments: argparse.Namespace, about: dict[str, Any]) -> Iterator[dict[str, Any]]:
    try:
        from benchmarks.acsf import acsf
    except ImportError:
        return
    from tio2nn.parameters.presets import preset

    atoms, theirs = rutile(arguments.atoms), acsf(preset("artrith-urban-2016", ("Ti", "O")))
    for repeat in range(min(arguments.repeats, 3)):
        begin = time.process_time()
        theirs.create(atoms)
        micros = 1e6 * (time.process_time() - begin) / len(atoms)
        row = {"task": "values", "version": "DScribe", "threads": 1, "repeat": repeat}
        yield about | row | {"cpu_us_per_atom": micros}


def of_cp2k(arguments: argparse.Namespace, about: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The steps of a longer run beyond those of a shorter one, without what CP2K does once."""
    from export.cp2k import PROGRAM, cp2k_input, lines_for_cp2k, start_cp2k

    from tio2nn.errors import InputError
    from tio2nn.potential.potential import Potential
    from tio2nn.workflow.export import export

    def cpu_seconds(steps: int) -> float:
        (here / "run.inp").write_text(cp2k_input(method, structure, steps), encoding="utf-8")
        before = os.times()
        start_cp2k(here, "run.inp")
        after = os.times()
        return after.children_user + after.children_system - before.children_user - before.children_system

    if PROGRAM is None:
        return
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        try:
            exported = export(Potential.load(arguments.potential), here / "nnp", units="atomic")
        except InputError:  # it has no such activation
            return
        method = lines_for_cp2k(exported.readme)
        for task, n_atoms, n_steps in (("forces", arguments.atoms, 4), ("step", 48, 60)):
            structure = structure_of(rutile(n_atoms))
            for repeat in range(min(arguments.repeats, 3)):
                seconds = cpu_seconds(1 + n_steps) - cpu_seconds(1)
                micros = 1e6 * seconds / (n_steps * structure.n_atoms)
                row = {"task": task, "version": "CP2K", "threads": 1, "repeat": repeat}
                yield about | row | {"cpu_us_per_atom": micros}


def summarize(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Medians of the repeats, and how many times the CPU time of this version and its first potential each takes."""
    grouped: dict[tuple[str, str, int], list[dict[str, Any]]] = {}
    for row in rows:
        grouped.setdefault((row["task"], row["version"], row["threads"]), []).append(row)
    table = []
    for (task, version, threads), own in grouped.items():
        row = {name: own[0][name] for name in ("processor", "atoms")}
        row |= {
            "task": task,
            "what": TASKS.get(task, "arithmetic in registers"),
            "version": version,
            "threads": threads,
        }
        for name in ("cpu_us_per_atom", "us_per_atom"):
            if name in own[0]:
                row[name] = statistics.median(measured[name] for measured in own)
        row["times_here"] = row["cpu_us_per_atom"] / _median_here(grouped, task)
        alone = grouped.get((task, version, 1))
        if threads > 1 and alone:
            row["speedup"] = statistics.median(one["us_per_atom"] for one in alone) / row["us_per_atom"]
        table.append(row)
    return table


def _median_here(grouped: dict[tuple[str, str, int], list[dict[str, Any]]], task: str) -> float:
    here = [own for (of, version, _), own in grouped.items() if (of, version) == (task, "here")]
    return statistics.median(row["cpu_us_per_atom"] for row in here[0]) if here else float("nan")


class Worker:
    """A process with one version of the program and one potential."""

    def __init__(self, place: Path, potential: Path, arguments: argparse.Namespace) -> None:
        environment = {**os.environ, "PYTHONPATH": str(place)}
        name = "forces_spread" if arguments.spread else "forces"
        self._process = subprocess.Popen(
            [sys.executable, "-P", str(HERE), str(potential.resolve()), str(arguments.atoms), name],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )

    def ask(self, task: str, threads: int) -> dict[str, float]:
        """The times of one task, µs an atom."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{task} {threads}\n")
        answer = self._process.stdout.readline()
        if not answer:
            raise SystemExit("the process of a version ended; what it said stands above")
        return json.loads(answer)  # type: ignore[no-any-return]

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def processor() -> str:
    """Name of the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    found = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return f"{found.get('model name', platform.machine())}, model {found.get('model', '?')}"


def rutile(n_atoms: int) -> Any:
    """At least so many atoms of rutile, displaced at random by some 0.1 Å."""
    from ase.spacegroup import crystal

    basis = [(0.0, 0.0, 0.0), (0.305, 0.305, 0.0)]
    unit = crystal(["Ti", "O"], basis=basis, spacegroup=136, cellpar=[4.6, 4.6, 2.96, 90, 90, 90])
    n = max(1, round((n_atoms / 6) ** (1 / 3)))
    atoms = unit.repeat((n, n, -(-n_atoms // (6 * n * n))))
    atoms.rattle(0.1, seed=1)
    return atoms


def serve(potential_file: Path, n_atoms: int, name: str) -> None:
    """Run the tasks that come on stdin, up to a property; only what all versions have is used."""
    import inspect
    import warnings

    import numpy as np

    from tio2nn.interfaces.ase import BehlerParrinello

    warnings.simplefilter("ignore")
    calculator = BehlerParrinello(potential_file)
    name = name if len(calculator.potential.members) > 1 else "forces"
    large, small = rutile(n_atoms), rutile(48)
    velocities = {len(a): 0.006 * np.random.default_rng(0).normal(size=(len(a), 3)) for a in (small, large)}
    starts = {len(a): a.positions.copy() for a in (small, large)}
    for line in sys.stdin:
        task, threads = line.split()
        if task == CONTROL:
            print(json.dumps(arithmetic(int(threads))), flush=True)
            continue
        knows_threads = "threads" in inspect.signature(BehlerParrinello.__init__).parameters
        options = {"threads": int(threads)} if knows_threads else {}
        calculator = BehlerParrinello(calculator.potential, **options)
        n_steps, atoms = {"step": (60, small), "later": (4, large)}.get(task, (1, large))
        start, velocity = starts[len(atoms)], velocities[len(atoms)]
        atoms.positions, atoms.calc = start, calculator
        if task == "later":
            calculator.get_property(name, atoms)
        structure = None
        if task == "values":
            structure = structure_of(large)
        begin, clock = time.process_time(), time.perf_counter()
        for step in range(n_steps):
            if structure is not None:
                calculator.potential._calculator(structure)
                continue
            if task in ("step", "later"):
                atoms.positions = start + (step + (task == "later")) * velocity
            calculator.get_property(name, atoms)
        per_atom = 1e6 / (n_steps * len(atoms))
        times = (time.process_time() - begin) * per_atom, (time.perf_counter() - clock) * per_atom
        print(json.dumps(dict(zip(("cpu_us_per_atom", "us_per_atom"), times, strict=True))), flush=True)


def arithmetic(n_threads: int) -> dict[str, float]:
    """Times of a sum that needs no memory, divided among threads; µs, for a thousandth of it."""
    import threading

    import numba

    @numba.njit(nogil=True)  # type: ignore[untyped-decorator]
    def add(n: int) -> float:
        found = 0.0
        for k in range(n):
            found += 1.0 / (1.0 + k)
        return found

    add(1)
    n = 100_000_000
    workers = [threading.Thread(target=add, args=(n // n_threads,)) for _ in range(n_threads)]
    begin, clock = time.process_time(), time.perf_counter()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    times = 1e3 * (time.process_time() - begin), 1e3 * (time.perf_counter() - clock)
    return dict(zip(("cpu_us_per_atom", "us_per_atom"), times, strict=True))


def structure_of(atoms: Any) -> Any:
    """The structure of the version that is imported."""
    try:
        from tio2nn.structures.structure import Structure
    except ImportError:  # 0.1.0
        from tio2nn.structure import Structure  # type: ignore[import-not-found,no-redef]
    return Structure("rutile", tuple(atoms.symbols), atoms.positions, np_array(atoms.cell), (True,) * 3)


def np_array(cell: Any) -> Any:
    import numpy as np

    return np.array(cell)


if __name__ == "__main__":
    serve(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
