"""The command predict: energies of many structures in one pass, as lines of text."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Literal

from tio2nn.errors import InputError
from tio2nn.io.names import stem
from tio2nn.potential import Potential, Prediction
from tio2nn.structure import Structure

Format = Literal["tsv", "csv", "json"]

COLUMNS = (
    "file",
    "n_atoms",
    "energy_eV",
    "energy_eV_per_atom",
    "spread_eV_per_atom",
    "n_extrapolating",
)

# Structures computed together: enough for the kernels, and the first line of a long list comes soon
_TOGETHER = 64


def predict_stream(
    potential: Potential, items: Iterable[Structure | InputError]
) -> Iterator[Prediction | InputError]:
    """Predictions in the order of the items; errors pass through, and one bad structure spoils no other."""
    iterator = iter(items)
    while batch := list(islice(iterator, _TOGETHER)):
        structures = [item for item in batch if isinstance(item, Structure)]
        results = iter(_predict_batch(potential, structures))
        for item in batch:
            yield next(results) if isinstance(item, Structure) else item


def _predict_batch(potential: Potential, structures: list[Structure]) -> list[Prediction | InputError]:
    try:
        return list(potential.predict(structures))
    except InputError as error:
        if len(structures) == 1:
            return [error]
        return [result for structure in structures for result in _predict_batch(potential, [structure])]


def header(form: Format) -> str | None:
    """First line of the output, or None."""
    if form == "tsv":
        return "# " + "\t".join(COLUMNS)
    return ",".join(COLUMNS) if form == "csv" else None


def line(prediction: Prediction, form: Format) -> str:
    """One structure as one line. Energies are written with all their digits; no spread is `nan`, in JSON null."""
    structure = prediction.structure
    if form == "json":
        return json.dumps(
            {
                "file": label(structure),
                "n_atoms": structure.n_atoms,
                "energy_eV": prediction.energy,
                "energy_eV_per_atom": prediction.energy_per_atom,
                "spread_eV_per_atom": prediction.spread,
                "extrapolation": [
                    {"atom": e.atom, "element": e.element, "function": e.function, "distance": e.distance}
                    for e in prediction.extrapolations
                ],
            },
            ensure_ascii=False,
        )
    spread = "nan" if prediction.spread is None else repr(prediction.spread)
    name = label(structure)
    if form == "csv" and any(c in name for c in ',"\n'):
        name = '"' + name.replace('"', '""') + '"'
    cells = [
        name,
        str(structure.n_atoms),
        repr(prediction.energy),
        repr(prediction.energy_per_atom),
        spread,
        str(len(prediction.extrapolations)),
    ]
    return ("\t" if form == "tsv" else ",").join(cells)


def label(structure: Structure) -> str:
    """The file as the user named it; behind it `#n` for frame n of several."""
    frame = structure.name.removeprefix(stem(structure.file))
    return structure.file + (f"#{frame[1:]}" if frame[:1] == "-" and frame[1:].isdigit() else "")


def warnings(prediction: Prediction) -> Iterator[str]:
    """Reasons not to trust a prediction, each one line with atom and function where it has them."""
    name = label(prediction.structure)
    if not prediction.composition_is_known:
        yield (
            f"{name}: no combination of the compositions in training makes this one, "
            "so its total energy is off by an unknown reference energy"
        )
    if prediction.extrapolations:
        worst = max(prediction.extrapolations, key=lambda extrapolation: extrapolation.distance)
        yield (
            f"{name}: {len(prediction.extrapolations)} of {prediction.structure.n_atoms} atoms outside the "
            f"training range, do not trust this energy; farthest is atom {worst.atom} ({worst.element}), "
            f"{worst.function}, by {worst.distance:.2f} of its range"
        )
