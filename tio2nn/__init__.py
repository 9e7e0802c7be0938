"""Behler-Parrinello neural-network potentials from folders of quantum-mechanical structures.

    from tio2nn import Potential, read_structures

    potential = Potential.load("tio2nn-project/model/potential.npz")
    for prediction in potential.predict(read_structures("structures/")):
        print(prediction.structure.name, prediction.energy)

A name is imported from its module when it is first asked for, so that `import tio2nn` loads no NumPy. The verbs, from
`tio2nn.workflow.extract.extract` to `tio2nn.workflow.evaluate.evaluate`, are imported from their modules.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING

# for type checkers and editors; at run time _MODULES and __getattr__ below do the same
if TYPE_CHECKING:
    from tio2nn.descriptors.symmetry_functions import SymmetryCalculator as SymmetryCalculator
    from tio2nn.errors import InputError as InputError
    from tio2nn.errors import MissingInputError as MissingInputError
    from tio2nn.errors import ParameterError as ParameterError
    from tio2nn.errors import StaleError as StaleError
    from tio2nn.errors import Tio2nnError as Tio2nnError
    from tio2nn.errors import UsageError as UsageError
    from tio2nn.export.read_n2p2 import read_n2p2 as read_n2p2
    from tio2nn.interfaces.ase import BehlerParrinello as BehlerParrinello
    from tio2nn.interfaces.watch import ExtrapolationError as ExtrapolationError
    from tio2nn.interfaces.watch import ExtrapolationWarning as ExtrapolationWarning
    from tio2nn.interfaces.watch import Watch as Watch
    from tio2nn.io.labels import ReadOptions as ReadOptions
    from tio2nn.io.read import read_structures as read_structures
    from tio2nn.parameters.parameter_set import AngularFunction as AngularFunction
    from tio2nn.parameters.parameter_set import ParameterSet as ParameterSet
    from tio2nn.parameters.parameter_set import RadialFunction as RadialFunction
    from tio2nn.parameters.presets import preset as preset
    from tio2nn.potential.potential import Potential as Potential
    from tio2nn.potential.prediction import Prediction as Prediction
    from tio2nn.project.project import Project as Project
    from tio2nn.structures.structure import Structure as Structure
    from tio2nn.version import __version__ as __version__

_MODULES = {
    "AngularFunction": "parameters.parameter_set",
    "BehlerParrinello": "interfaces.ase",
    "ExtrapolationError": "interfaces.watch",
    "ExtrapolationWarning": "interfaces.watch",
    "InputError": "errors",
    "MissingInputError": "errors",
    "ParameterError": "errors",
    "ParameterSet": "parameters.parameter_set",
    "Potential": "potential.potential",
    "Prediction": "potential.prediction",
    "Project": "project.project",
    "RadialFunction": "parameters.parameter_set",
    "ReadOptions": "io.labels",
    "StaleError": "errors",
    "Structure": "structures.structure",
    "SymmetryCalculator": "descriptors.symmetry_functions",
    "Tio2nnError": "errors",
    "UsageError": "errors",
    "Watch": "interfaces.watch",
    "__version__": "version",
    "preset": "parameters.presets",
    "read_n2p2": "export.read_n2p2",
    "read_structures": "io.read",
}

__all__ = sorted(_MODULES)


def __dir__() -> list[str]:
    return __all__


# a type checker that saw it would take any misspelled name for one of the package
if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        if name not in _MODULES:
            # with both, Python asks whether a similar name was meant
            raise AttributeError(
                f"module 'tio2nn' has no attribute {name!r}", name=name, obj=sys.modules[__name__]
            )
        value = getattr(import_module(f"tio2nn.{_MODULES[name]}"), name)
        globals()[name] = value  # from now on without this function
        return value
