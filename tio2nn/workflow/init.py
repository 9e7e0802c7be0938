"""The verb init: create a directory with a `params.json`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tio2nn.errors import ParameterError, UsageError
from tio2nn.export.units import UnitsName
from tio2nn.files.paths import AnyPath
from tio2nn.parameters.draft import Draft
from tio2nn.parameters.parameter_set import ParameterSet
from tio2nn.parameters.targets import Target
from tio2nn.project.project import Project


def preset_parameters(preset: str | None, elements: Sequence[str] | None) -> ParameterSet | Draft:
    """The parameter set for --preset and --elements, or a draft for the preset auto, which is the default.

    Raises:
        UsageError: the preset or an element does not exist.
    """
    from tio2nn.parameters import presets
    from tio2nn.parameters.validation import known

    names = sorted((presets.AUTO, *presets.PRESETS))
    name = known(presets.AUTO if preset is None else preset, names, "preset")
    try:
        if name == presets.AUTO:
            return Draft.new(elements)
        return presets.preset(name, presets.DEFAULT_ELEMENTS if elements is None else elements)
    except ParameterError as error:
        raise UsageError(str(error)) from None


def setup_parameters(files: Sequence[Path], units: UnitsName | None) -> ParameterSet:
    """The parameter set with the functions of a potential, or of a set-up of another program; the recipe has the rest.

    Args:
        files: one `potential.npz`, one `input.nn`, or the `.stp` of each element.
        units: of `input.nn`; by default those that it states.

    Raises:
        InputError: a file cannot be read as one of these.
    """
    from tio2nn.export.read_functions import read_setup
    from tio2nn.export.units import UNITS
    from tio2nn.parameters.recipes import DEFAULT_RECIPE, open_settings

    if len(files) == 1 and _is_potential(files[0]):
        from tio2nn.workflow.fine_tune import parameters_of, read_origin

        return parameters_of(read_origin(files[0]), ())
    setup = read_setup(files, None if units is None else UNITS[units])
    return open_settings(setup.parameters(), DEFAULT_RECIPE)


def _is_potential(file: Path) -> bool:
    import zipfile

    # a damaged one may be no archive any more
    return file.suffix == ".npz" or (file.is_file() and zipfile.is_zipfile(file))


def init(
    directory: AnyPath,
    preset: str | None = None,
    elements: Sequence[str] | None = None,
    target: Target | None = None,
    setup: ParameterSet | None = None,
) -> tuple[Project, ParameterSet | Draft]:
    """Create a project; with a draft, `extract` chooses the symmetry functions.

    Args:
        directory: of the project.
        preset: symmetry functions.
        elements: by default those of the structures, or of the preset.
        target: program that the potential is made for; None for any.
        setup: parameters to use instead of those of a preset.

    Raises:
        UsageError: the preset or an element does not exist, or the directory is a project already.
    """
    parameters = preset_parameters(preset, elements) if setup is None else setup
    if target is not None:
        parameters = parameters.for_target(target)
    return Project.create(directory, parameters), parameters
