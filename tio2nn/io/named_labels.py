"""Labels of ASE's atoms under any name: results of a calculator beside what `info`, key-value pairs or data hold.

The names are those of extended XYZ (`labels`). Results of the calculator have the names energy, free_energy, forces
and stress; where another name qualifies, too, the values must be equal, or the user names one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from tio2nn.errors import InputError
from tio2nn.io.agreement import check_agreement, forces_by_name
from tio2nn.io.label_weights import STRESS, VIRIAL, key_of_no_weight, remark_on_weights
from tio2nn.io.labels import (
    ReadOptions,
    energy_label,
    forces_label,
    free_energy_label,
    is_free_energy,
    is_stress,
    number_in,
    stress_label,
)
from tio2nn.io.stream import Labels

_RESULTS = ("energy", "free_energy", "forces", "stress")
TYPES_OF_NUMBERS = ("float64", "float32", "int64", "int32", "int16", "int8")
_MOST = 10_000_000  # numbers of an array in JSON


class Geometry(NamedTuple):
    """What decides whether an array may be forces or a stress.

    Attributes:
        n_atoms: of the structure.
        cell: (3, 3) Å.
        periodic: along each vector.
    """

    n_atoms: int
    cell: object
    periodic: tuple[bool, bool, bool]


def array_in_json(value: object) -> object:
    """An array that ASE wrote into JSON, `{"__ndarray__": [shape, type, numbers]}`; any other value as it is."""
    described = value.get("__ndarray__") if isinstance(value, Mapping) else None
    if not isinstance(described, list) or len(described) != 3:
        return value
    shape, kind, numbers = described
    if kind not in TYPES_OF_NUMBERS or not isinstance(numbers, list) or len(numbers) > _MOST:
        return value
    try:
        found = np.array(numbers, dtype=np.dtype(kind))
        return found.reshape(shape) if min(shape, default=0) >= 0 else value
    except (TypeError, ValueError, OverflowError):
        return value


def _any_unit(_name: str, _power: int) -> None:
    pass


def named_labels(
    results: Mapping[str, Any],
    others: Mapping[str, Any],
    geometry: Geometry,
    options: ReadOptions,
    failed: Callable[[str], InputError],
    check_unit: Callable[[str, int], None] = _any_unit,
) -> Labels:
    """The labels without kind, weight and states.

    Args:
        results: of the calculator.
        others: what else the file holds of the structure, by name; it loses against a result of the same name.
        geometry: of the structure.
        options: the names that the user gave.
        failed: makes the error.
        check_unit: is told each name that is none of a result, and the power of 1/Å: 0 for energies and virials, 1 for
            forces, 3 for stresses.

    Raises:
        InputError: values that should be equal are not, or are no numbers.
    """
    found = _Found(results, others, geometry, failed)
    written, energy_key = found.known(found.written, options.energy_key, ("energy", "free_energy"))
    columns, forces_key = found.known(found.columns, options.forces_key, ("forces",))
    of_energy = energy_label(written, energy_key)
    of_free = free_energy_label(written, energy_key)
    free_energy = found.agreed(of_free.names, found.number, "--energy-key")
    plain = [name for name in of_energy.names if not is_free_energy(name)]
    energy = found.agreed(plain, found.number, "--energy-key")
    of_forces = forces_label(columns, forces_key)
    names_of_forces, remarks = forces_by_name(of_forces, found.written, found.column)
    forces = found.agreed(names_of_forces, found.column, "--forces-key")
    if energy is None and free_energy is None and forces_key is None:
        remarks = []
    stress: object = results.get("stress")
    stresses, stress_key = found.known(found.written, options.stress_key, ("stress",))
    is_weighted = any(key_of_no_weight(found.written, what) for what in (STRESS, VIRIAL))
    if stress_key is not None or found.tensors or is_weighted:
        stress, of_stress = stress_label(
            stresses, stress_key, np.array(geometry.cell, dtype=np.float64), geometry.periodic
        )
        remarks += of_stress
    if (of_weights := remark_on_weights(found.written)) is not None:
        remarks.append(of_weights)
    tensors = found.tensors if options.stress_key is None else (options.stress_key,)
    of_tensors = [(name, 0 if "virial" in name.lower() else 3) for name in tensors]
    of_atoms = [(name, 1) for names in of_forces.names for name in names.split(" ")]
    for name, power in (*((name, 0) for name in (*of_energy.names, *of_free.names)), *of_atoms, *of_tensors):
        if results.get(name) is None:
            check_unit(name, power)
    keys = (options.energy_key, options.forces_key, options.stress_key)
    return Labels(
        energy,
        free_energy,
        forces,
        stress,
        tuple(remarks),
        no_energy=of_energy.remark,
        keys=tuple(key for key in keys if key is not None and (key in found.written or key in found.columns)),
    )


class _Found:
    """All that may be a label.

    Attributes:
        written: numbers and tensors as text, which `labels` chooses from.
        columns: type and width of the values of each atom, likewise.
        tensors: names of stresses and virials beside the results.
    """

    def __init__(
        self,
        results: Mapping[str, Any],
        others: Mapping[str, Any],
        geometry: Geometry,
        failed: Callable[[str], InputError],
    ) -> None:
        self._failed = failed
        self._values: dict[str, Any] = {}
        self.written: dict[str, str] = {}
        self.columns: dict[str, tuple[str, int]] = {}
        given = {name: results[name] for name in _RESULTS if results.get(name) is not None}
        self._given = tuple(given)
        for name, value in {**others, **given}.items():
            self._add(str(name), value, geometry.n_atoms)
        self.tensors = tuple(
            name
            for name in self.written
            if name not in given and is_stress(name) and " " in self.written[name]
        )
        if "forces" in given:
            # of any shape, which is checked later
            self.columns["forces"] = "R", 3

    def _add(self, name: str, value: Any, n_atoms: int) -> None:
        if value is None:
            return
        if isinstance(value, (bool, np.bool_)) or (isinstance(value, str) and number_in(value) is None):
            return  # no label, whatever its name
        try:
            numbers = np.array(value, dtype=np.float64)
        except (TypeError, ValueError, OverflowError):
            return
        self._values[name] = value
        if numbers.ndim == 2 and numbers.shape == (n_atoms, 3):
            self.columns[name] = "R", 3
        elif numbers.shape in ((n_atoms,), (n_atoms, 1)) and n_atoms > 1:
            self.columns[name] = "R", 1
        if numbers.size in (1, 6, 9):
            self.written[name] = " ".join(repr(number) for number in numbers.ravel().tolist())

    def known(
        self, names: Mapping[str, Any], key: str | None, of_results: Sequence[str]
    ) -> tuple[Mapping[str, Any], str | None]:
        """What a label is chosen from, and the key that the user named, which another file of the set may have.

        Without that key, results of the calculator stand alone.
        """
        given = {name: names[name] for name in of_results if name in self._given and name in names}
        return (names, key) if key is None or key in names or not given else (given, None)

    def number(self, name: str) -> float:
        """A number, or an array of one; the caller checks that it is finite."""
        try:
            return float(np.array(self._values[name], dtype=np.float64).reshape(()))
        except (KeyError, ValueError):
            raise self._failed(f"expected a number for {name}, got something else") from None

    def column(self, name: str) -> Any:
        """Values of each atom; three columns of one component are joined."""
        if name in self._values:
            return self._values[name]
        return np.column_stack([np.ravel(self._values[part]) for part in name.split(" ")])

    def agreed(self, names: Iterable[str], convert: Callable[[str], Any], option: str) -> Any:
        """The value that all names agree on, or None if there are no names."""
        found = {name: convert(name) for name in names}
        if not found:
            return None
        check_agreement(found, option, self._failed)
        return next(iter(found.values()))
