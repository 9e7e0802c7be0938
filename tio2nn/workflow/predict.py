"""The verb predict: energies and forces of many structures in one pass, formatted as text."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, Executor, Future
from dataclasses import asdict, replace
from functools import lru_cache
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, NamedTuple

import numpy as np

from tio2nn.cores import thread_count
from tio2nn.errors import InputError
from tio2nn.io.extxyz_text import Predicted, write_extxyz
from tio2nn.io.labels import XsfForces
from tio2nn.io.xsf.file import write_xsf
from tio2nn.parallel.remote import RemotePool, capacity_of
from tio2nn.potential.potential import Potential
from tio2nn.potential.prediction import Prediction
from tio2nn.structures.names import stem, unique_names
from tio2nn.structures.structure import Structure
from tio2nn.workflow.structure_batches import (
    AHEAD,
    Batch,
    Compute,
    batches_of,
    in_threads,
    one_by_one,
    structures_in,
)

Format = Literal["tsv", "csv", "json", "extxyz", "xsf"]

COLUMNS = (
    "file",
    "n_atoms",
    "energy_eV",
    "energy_eV_per_atom",
    "spread_eV_per_atom",
    "n_extrapolating",
    "largest_distance",
)

FORCE_COLUMNS = (
    "atom",
    "element",
    "distance",
    "force_x_eV_per_A",
    "force_y_eV_per_A",
    "force_z_eV_per_A",
    "force_spread_eV_per_A",
    *(f"stress_{component}_eV_per_A3" for component in ("xx", "yy", "zz", "yz", "xz", "xy")),
)
"""Additional columns with forces; the table then has one line per atom, and the columns before these repeat."""

SHOW_FORCES_SPREAD: tuple[Format, ...] = ("tsv", "csv", "json")
"""Formats that hold the spread of forces."""

_VOIGT = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))


class _Wanted(NamedTuple):
    """What is predicted, as for `Potential.predict`."""

    forces: bool
    forces_spread: bool


def predict_stream(
    potential: Potential,
    items: Iterable[Structure | InputError],
    *,
    forces: bool = False,
    forces_spread: bool = True,
    threads: int | None = None,
    workers: RemotePool | None = None,
) -> Iterator[Prediction | InputError]:
    """Yield predictions in the order of the items; errors pass through, and a bad structure does not affect others.

    Args:
        potential, items: what predicts, and for what.
        forces, forces_spread, threads: as for `Potential.predict`.
        workers: other machines to predict on, one batch per thread of theirs; by default this one.
    """
    batches, wanted = batches_of(items), _Wanted(forces, forces_spread)
    if workers is None:
        found = in_threads(batches, _predictor(potential, wanted), thread_count(threads))
    else:
        found = _predicted_elsewhere(potential, batches, wanted, workers)
    for batch, predictions in found:
        results = iter(predictions)
        for item in batch:
            result = next(results) if isinstance(item, Structure) else item
            yield result if isinstance(result, InputError) else result.unusable() or result


def _predicted_elsewhere(
    potential: Potential, batches: Iterable[Batch], wanted: _Wanted, workers: RemotePool
) -> Iterator[tuple[Batch, list[Prediction | InputError]]]:
    """Batches and their predictions, in order; no more batches are read ahead than keep the workers busy."""
    with TemporaryDirectory(prefix="tio2nn-") as name:
        potential.save(file := Path(name) / "potential.npz")
        with workers.bringing(Path(name))(1) as executor:
            running: deque[tuple[Batch, Future[list[Prediction | InputError]]]] = deque()
            for batch in batches:
                structures = structures_in(batch)
                running.append((batch, executor.submit(predict_batch, file, structures, wanted)))
                if len(running) >= AHEAD * capacity_of(executor, 1):
                    yield _arrived(executor, file, wanted, *running.popleft())
            while running:
                yield _arrived(executor, file, wanted, *running.popleft())


def _arrived(
    executor: Executor,
    file: Path,
    wanted: _Wanted,
    batch: Batch,
    future: Future[list[Prediction | InputError]],
) -> tuple[Batch, list[Prediction | InputError]]:
    """A batch and its predictions; if its worker died, structure by structure, to name the one that kills."""
    try:
        return batch, future.result()
    except BrokenExecutor:
        results: list[Prediction | InputError] = []
        for structure in structures_in(batch):
            try:
                results += executor.submit(predict_batch, file, [structure], wanted).result()
            except BrokenExecutor as error:
                results.append(structure.error(f"cannot predict it: {error}, even on its own"))
        return batch, results


def predict_batch(
    potential: Path, structures: list[Structure], wanted: _Wanted
) -> list[Prediction | InputError]:
    """Predict some structures by a potential that is read once per process; runs in a worker."""
    return one_by_one(_predictor(_loaded(potential), wanted), structures, 1)


@lru_cache(maxsize=1)
def _loaded(potential: Path) -> Potential:
    return Potential.load(potential)


def _predictor(potential: Potential, wanted: _Wanted) -> Compute[Prediction]:
    def compute(structures: Sequence[Structure], threads: int) -> list[Prediction]:
        return list(
            potential.predict(
                structures, forces=wanted.forces, forces_spread=wanted.forces_spread, threads=threads
            )
        )

    return compute


def header(form: Format, *, forces: bool = False) -> str | None:
    """Header line of the output, or None."""
    columns = (*COLUMNS, *FORCE_COLUMNS) if forces else COLUMNS
    if form == "tsv":
        return "# " + "\t".join(columns)
    return ",".join(columns) if form == "csv" else None


def text(prediction: Prediction, form: Format, xsf_forces: XsfForces = "eV/A") -> str:
    """One prediction as text, without a final newline. Energies are written with all digits.

    Tables have one line per structure, or per atom with forces. A missing spread or stress is `nan` in tables and null
    in JSON. XSF holds the structure with its predicted labels, with forces in the given unit, which a comment states.
    Extended XYZ also keeps the other data of the input file (`tio2nn.io.extxyz_text`).

    Raises:
        InputError: XSF cannot express the periodic axes of the structure.
    """
    if form in ("tsv", "csv"):
        return "\n".join(_rows(prediction, form))
    if form == "json":
        return json.dumps(_document(prediction), ensure_ascii=False)
    structure = prediction.structure
    if form == "xsf":
        labeled = replace(structure, energy=prediction.energy, forces=prediction.forces)
        try:
            return write_xsf(labeled, forces_in=xsf_forces).removesuffix("\n")
        except ValueError as error:
            raise labeled.error(str(error)) from None
    predicted = Predicted(prediction.energy, prediction.forces, prediction.stress, prediction.distances)
    return write_extxyz(structure, predicted).removesuffix("\n")


def own_file_name(structure: Structure, form: Format) -> str:
    """File name for this structure if there were no others."""
    return structure.name.replace("/", "_") + _suffix(form)


def _suffix(form: Format) -> str:
    return {"extxyz": ".xyz"}.get(form, f".{form}")


def file_names(items: Sequence[Structure | InputError], form: Format) -> list[str]:
    """Unique file names, one per structure, following the names that `extract` gives; "" for an error."""
    suffix = _suffix(form)
    names = iter(unique_names([item for item in items if isinstance(item, Structure)]))
    taken: set[str] = set()
    found = []
    for item in items:
        if isinstance(item, InputError):
            found.append("")
            continue
        whole = next(names).lstrip("/").replace("../", "up/").replace("/", "_").removesuffix(suffix)
        # different paths may give the same name without their slashes
        name = next(name for k in count(1) if (name := f"{whole}-{k}" if k > 1 else whole) not in taken)
        taken.add(name)
        found.append(name + suffix)
    return found


def _document(prediction: Prediction) -> dict[str, Any]:
    structure = prediction.structure
    document: dict[str, Any] = {
        "file": label(structure),
        "n_atoms": structure.n_atoms,
        "energy_eV": prediction.energy,
        "energy_eV_per_atom": prediction.energy_per_atom,
        "spread_eV_per_atom": prediction.spread,
        "composition_is_known": prediction.composition_is_known,
        "distances": prediction.distances.tolist(),
        "extrapolation": [asdict(extrapolation) for extrapolation in prediction.extrapolations],
    }
    if prediction.forces is not None:
        spread, stress = prediction.forces_spread, prediction.stress
        document["forces_eV_per_A"] = prediction.forces.tolist()
        document["forces_spread_eV_per_A"] = None if spread is None else spread.tolist()
        document["stress_eV_per_A3"] = None if stress is None else stress.tolist()
    return document


def _rows(prediction: Prediction, form: Format) -> Iterator[str]:
    structure = prediction.structure
    separator = "\t" if form == "tsv" else ","
    name = label(structure)
    if form == "csv" and any(c in name for c in ',"\n'):
        name = '"' + name.replace('"', '""') + '"'
    cells = [
        name,
        str(structure.n_atoms),
        repr(prediction.energy),
        repr(prediction.energy_per_atom),
        "nan" if prediction.spread is None else repr(prediction.spread),
        str(len(prediction.extrapolations)),
        f"{prediction.distances.max():.3f}",
    ]
    if prediction.forces is None:
        yield separator.join(cells)
        return
    stress = np.full((3, 3), np.nan) if prediction.stress is None else prediction.stress
    voigt = [repr(float(stress[axes])) for axes in _VOIGT]
    spread = (
        np.full(structure.n_atoms, np.nan) if prediction.forces_spread is None else prediction.forces_spread
    )
    columns = (prediction.distances, prediction.forces, spread)
    atoms = zip(structure.elements, *(column.tolist() for column in columns), strict=True)
    for atom, (element, distance, force, own_spread) in enumerate(atoms, start=1):
        numbers = [f"{distance:.3f}", *(repr(number) for number in (*force, own_spread))]
        yield separator.join([*cells, str(atom), element, *numbers, *voigt])


def label(structure: Structure) -> str:
    """The file as named by the user, followed by `#n` for frame n of several."""
    frame = structure.name.removeprefix(stem(structure.file))
    return structure.file + (f"#{frame[1:]}" if frame[:1] == "-" and frame[1:].isdigit() else "")


def warnings(prediction: Prediction) -> dict[str, str]:
    """Reasons not to trust a prediction, by kind; each is one line that begins with the file name."""
    name = label(prediction.structure)
    return {kind: f"{name}: {reason}" for kind, reason in prediction.doubts().items()}
