"""Data sets of DeePMD: a folder with `type.raw` and `set.*` folders of arrays, frame by frame.

    type.raw                     a type for each atom, from 0
    type_map.raw                 the element of each type
    nopbc                        if nothing is periodic
    set.000/coord.npy            (n_frames, 3 n_atoms) Å
    set.000/box.npy              (n_frames, 9) Å
    set.000/energy.npy           (n_frames,) eV
    set.000/force.npy            (n_frames, 3 n_atoms) eV/Å
    set.000/virial.npy           (n_frames, 9) eV, minus the stress times the volume
    set.000/real_atom_types.npy  (n_frames, n_atoms), for sets of several compositions; -1 is no atom

The arrays are mapped, so that a frame is all that comes into memory. An array of objects, which NumPy would have to
unpickle, is refused.
"""

from __future__ import annotations

import stat
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.lib.format import open_memmap
from numpy.typing import NDArray

from tio2nn.errors import InputError
from tio2nn.files.text import quoted
from tio2nn.io.stream import Labels, at_least_one, element_of_label, structure_of
from tio2nn.structures.names import natural_key
from tio2nn.structures.structure import Structure

_MOST_TEXT = 2**27  # bytes of type.raw; ten million atoms take a fifth of it
_MANY_TYPES = 10_000
_CONVERT = "let raw_to_set.sh of DeePMD-kit, or dpdata, write sets from it"


def iter_deepmd(folder: Path, *, file: str) -> Iterator[Structure | InputError]:
    """The frames of a data set, set by set; an unusable frame, or set, yields an error.

    Args:
        folder: that holds `type.raw`.
        file: for messages and `Structure.file`.

    Raises:
        InputError: it is no such data set.
        OSError: a file cannot be read.
    """
    types = np.array([_type(word, file) for word in _words(folder / "type.raw", file)], dtype=np.int64)
    if not len(types):
        raise InputError("expected types of atoms in type.raw, got none", file=file)
    elements = _elements(folder, file)
    periodic = not (folder / "nopbc").exists()
    sets = sorted(
        (path for path in folder.glob("set.*") if path.is_dir()), key=lambda path: natural_key(path.name)
    )
    if not sets:
        is_raw = (folder / "coord.raw").exists()
        got = f"raw text alone: {_CONVERT}" if is_raw else "none"
        raise InputError(f"expected folders set.* beside type.raw, got {got}", file=file)
    frames = _frames(sets, types, elements, periodic, file)
    yield from at_least_one(frames, "frames of a data set", file)


def _frames(
    sets: list[Path], types: NDArray[np.int64], elements: tuple[str, ...], periodic: bool, file: str
) -> Iterator[Structure | InputError]:
    n_frames = 0
    for path in sets:
        try:
            arrays = _Set(path, types, elements, periodic, file, n_frames)
        except InputError as error:
            yield error
            continue
        for frame in range(arrays.n_frames):
            n_frames += 1
            try:
                yield arrays.structure(frame)
            except InputError as error:
                yield error


def _words(path: Path, file: str) -> list[str]:
    _require_regular(path, file)
    with path.open("rb") as stream:
        data = stream.read(_MOST_TEXT + 1)
    if len(data) > _MOST_TEXT:
        raise InputError(f"expected {path.name} of at most {_MOST_TEXT} bytes, got more", file=file)
    return data.decode("latin-1").split()


def _require_regular(path: Path, file: str) -> None:
    if not stat.S_ISREG(path.stat().st_mode):
        raise InputError(f"expected {path.name} to be a regular file, got something else", file=file)


def _type(word: str, file: str) -> int:
    # NumPy writes integers as floating-point numbers, too
    try:
        number = float(word) if len(word) <= 30 else -1.0
    except ValueError:
        number = -1.0
    if not 0.0 <= number < _MANY_TYPES or number != int(number):
        raise InputError(f"expected types of atoms from 0 in type.raw, got {quoted(word)}", file=file)
    return int(number)


def _elements(folder: Path, file: str) -> tuple[str, ...]:
    path = folder / "type_map.raw"
    if not path.exists():
        raise InputError(
            "expected type_map.raw, which gives the element of each type, got none: write one, such as "
            "the line 'O H'",
            file=file,
        )
    labels = _words(path, file)
    elements = [element_of_label(label) for label in labels]
    if None in elements:
        got = quoted(labels[elements.index(None)])
        raise InputError(f"expected elements in type_map.raw, got {got}", file=file)
    return tuple([element for element in elements if element is not None])


class _Set:
    """The arrays of a folder `set.*`.

    Attributes:
        n_frames: their number.
    """

    def __init__(
        self,
        path: Path,
        types: NDArray[np.int64],
        elements: tuple[str, ...],
        periodic: bool,
        file: str,
        n_before: int,
    ) -> None:
        self._path, self._types, self._elements = path, types, elements
        self._periodic, self._file, self._n_before = periodic, file, n_before
        n_atoms = len(types)
        coord = self._array("coord")
        if coord is None:
            raise self._error("expected coord.npy, got none")
        self.n_frames = len(coord)
        self._positions = self._of_frames(coord, "coord", 3 * n_atoms)
        box, energy = self._array("box") if periodic else None, self._array("energy")
        if periodic and box is None:
            raise self._error("expected box.npy, or a file nopbc beside the sets, got none")
        self._cells = None if box is None else self._of_frames(box, "box", 9)
        self._energies = None if energy is None else self._of_frames(energy, "energy", 1)
        virial = self._array("virial") if periodic else None
        self._virials = None if virial is None else self._of_frames(virial, "virial", 9)
        forces, real = self._array("force"), self._array("real_atom_types")
        self._forces = None if forces is None else self._of_frames(forces, "force", 3 * n_atoms)
        self._real = None if real is None else self._of_frames(real, "real_atom_types", n_atoms)

    def _error(self, reason: str) -> InputError:
        return InputError(f"{self._path.name}: {reason}", file=self._file)

    def _array(self, name: str) -> np.ndarray | None:
        """An array, mapped; None if there is none."""
        path = self._path / f"{name}.npy"
        if not path.exists():
            return None
        _require_regular(path, self._file)
        try:
            # warns of headers of Python 2, whose numbers are the same
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                array = open_memmap(path, mode="r")  # which never unpickles
        except (
            Exception
        ) as error:  # a damaged header fails in any way, in NumPy or in the tokenizer of Python
            told = " ".join(str(error).split())[:120]
            if "Python objects" in told:
                told = "Python objects, which could run code when they are read"
            raise self._error(f"expected an array of numbers in {path.name}, got {told}") from None
        if array.dtype.kind not in "fiu":
            raise self._error(f"expected an array of numbers in {path.name}, got {array.dtype}")
        return array

    def _of_frames(self, array: np.ndarray, name: str, width: int) -> np.ndarray:
        """The array, if it has so many numbers for each frame."""
        n = array.size
        if array.ndim == 0 or len(array) != self.n_frames or n != self.n_frames * width:
            raise self._error(
                f"expected {width} numbers for each of {self.n_frames} frames in {name}.npy, got the shape "
                f"{array.shape}"
            )
        return array

    def structure(self, frame: int) -> Structure:
        """A frame.

        Raises:
            InputError: it cannot be used.
        """
        line = self._n_before + frame + 1
        types = self._types if self._real is None else np.array(self._real[frame], dtype=np.int64).ravel()
        is_atom = types >= 0
        types = types[is_atom]
        if len(types) and types.max() >= len(self._elements):
            raise InputError(
                f"expected types below {len(self._elements)}, the number of elements in type_map.raw, got "
                f"{types.max()}",
                file=self._file,
                line=line,
            )

        def of_atoms(array: np.ndarray) -> np.ndarray:
            return np.array(array[frame], dtype=np.float64).reshape(-1, 3)[is_atom]

        energy = None if self._energies is None else float(np.ravel(self._energies[frame])[0])
        cell = np.zeros((3, 3)) if self._cells is None else np.array(self._cells[frame], float).reshape(3, 3)
        volume = abs(float(np.linalg.det(cell)))
        stress = None
        if self._virials is not None and volume > 0.0:
            stress = np.array(self._virials[frame], float).reshape(3, 3) / -volume
        return structure_of(
            [self._elements[kind] for kind in types.tolist()],
            of_atoms(self._positions),
            cell,
            [self._periodic] * 3,
            labels=Labels(energy, None, None if self._forces is None else of_atoms(self._forces), stress),
            file=self._file,
            line=line,
        )
