"""Which atoms share a subnet."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tio2nn.array_types import FloatArray, IntArray
from tio2nn.descriptors.natural_sizes import natural_sizes
from tio2nn.parameters.parameter_set import ParameterSet
from tio2nn.project.structure_store import StructureStore


class Subnets(NamedTuple):
    """The assignment of atoms to subnets.

    Attributes:
        names: of the subnets, for messages.
        of_element: (n_elements,) index of the subnet of each element.
        element_of_atom: (n_atoms of all,) index of the element of each atom.
        of_atom: (n_atoms of all,) index of the subnet of each atom.
    """

    names: tuple[str, ...]
    of_element: tuple[int, ...]
    element_of_atom: IntArray
    of_atom: IntArray

    @classmethod
    def of(cls, parameters: ParameterSet, store: StructureStore) -> Subnets:
        """One for each element, or one for all.

        Raises:
            InputError: a structure with an element that the parameter set lacks.
        """
        elements = store.element_indices(parameters.elements)
        if parameters.network.shared_subnet:
            return cls(("all elements",), (0,) * len(parameters.elements), elements, np.zeros_like(elements))
        return cls(parameters.elements, tuple(range(len(parameters.elements))), elements, elements)

    def natural_sizes(self, parameters: ParameterSet, closest: FloatArray) -> list[FloatArray]:
        """(n_features,) for each subnet, largest among its elements; `closest` (n_elements, n_elements) in Å."""
        sizes = [natural_sizes(parameters, element, closest) for element in parameters.elements]
        return [np.max(sizes, axis=0)] if self.are_shared else sizes

    @property
    def are_shared(self) -> bool:
        return len(self.names) < len(self.of_element)
