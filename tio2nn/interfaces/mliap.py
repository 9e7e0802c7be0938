"""The `unified` interface of LAMMPS's package ML-IAP, for builds of LAMMPS with Python; it runs on several MPI ranks.

    from tio2nn.interfaces.mliap import write_mliap

    write_mliap("my-project/model/potential.npz", "tio2.pkl")

In LAMMPS, with `units metal`:

    pair_style mliap unified tio2.pkl 0
    pair_coeff * * Ti O

LAMMPS reads the file as a pickle. Ours holds nothing but the path of the potential.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np

from tio2nn.errors import InputError
from tio2nn.files.atomic import atomic_write
from tio2nn.files.paths import AnyPath
from tio2nn.potential.pairs import Neighborhoods, PairPotential
from tio2nn.potential.potential import Potential

_PROTOCOL = 4  # of pickle; every Python that can import this module reads it


def write_mliap(potential: AnyPath, file: AnyPath) -> None:
    """Write the file that `pair_style mliap unified` reads.

    Args:
        potential: the potential, `potential.npz`; it must stay where it is.
        file: the file to write, `.pkl`.

    Raises:
        InputError: a missing or damaged potential, or a file that cannot be written.
    """
    unified = MliapPotential(potential)
    try:
        with atomic_write(file, "wb") as handle:
            pickle.dump(unified, handle, _PROTOCOL)
    except OSError as error:
        raise InputError(f"cannot write the file for ML-IAP: {error.strerror}", file=str(file)) from None


class MliapPotential:
    """A potential as ML-IAP calls it: energies of atoms, and pair by pair their derivatives by vectors.

    The functions take LAMMPS's own data object, of which they need `ielems`, `iatoms`, `pair_i`, `jelems`, `rij`,
    `nlistatoms` and `npairs`; see LAMMPS's documentation of `pair_style mliap`.

    Attributes:
        element_types: the elements that `pair_coeff` may name.
        rcutfac: half the cutoff, Å: ML-IAP adds the radii of two elements, which are 1.
        ndescriptors, nparams: sizes of arrays in which LAMMPS keeps what this class keeps itself.
        interface: set by LAMMPS.
    """

    def __init__(self, potential: AnyPath) -> None:
        """Load a potential.

        Raises:
            InputError: a missing or damaged file, or one of a later version.
        """
        self._path = str(Path(potential).absolute())
        loaded = Potential.load(self._path)
        self._pairs = PairPotential(loaded)
        self.element_types = list(loaded.elements)
        self.rcutfac = 0.5 * loaded.parameters.cutoff
        self.ndescriptors = self.nparams = 1
        self.interface: Any = None

    def __reduce__(self) -> tuple[type[MliapPotential], tuple[str]]:
        """What a pickle holds: the path."""
        return type(self), (self._path,)

    def compute_descriptors(self, data: Any) -> None:
        """Nothing: features never leave this class."""

    def compute_gradients(self, data: Any) -> None:
        """Nothing: `compute_forces` does all."""

    def compute_forces(self, data: Any) -> None:
        """Give LAMMPS the energies of its atoms, eV, and the derivative by each vector, eV/Å.

        Raises:
            InputError: atoms mapped to NULL, neighbors of ghost atoms, or no prediction for these neighbors.
        """
        n_atoms, n_pairs = int(data.nlistatoms), int(data.npairs)
        if not n_atoms:
            data.energy = 0.0
            return
        elements = np.array(data.ielems[:n_atoms], np.int64)
        if (elements < 0).any():
            raise InputError("expected an element for each atom type in pair_coeff, got NULL")
        # LAMMPS numbers atoms otherwise than it lists them
        place = np.full(int(data.ntotal), -1, np.int64)
        place[np.asarray(data.iatoms[:n_atoms])] = np.arange(n_atoms)
        if n_pairs:
            centers = place[np.asarray(data.pair_i)]
            if (centers < 0).any():
                raise InputError(
                    "expected neighbors of the rank's own atoms, got some of ghost atoms; write pair_style mliap "
                    "unified FILE 0"
                )
            of_neighbors, vectors = np.array(data.jelems, np.int64), np.array(data.rij, np.float64)
        else:  # then there may be no arrays
            centers = of_neighbors = np.zeros(0, np.int64)
            vectors = np.zeros((0, 3))
        found = self._pairs(Neighborhoods(elements, centers, of_neighbors, vectors))
        data.eatoms = found.energies
        data.energy = float(found.energies.sum())
        if n_pairs:
            data.update_pair_forces(found.gradients)
