"""The inputs that a fit reads from a project: structures, features, derivatives and the split."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tio2nn.descriptors.kernel_version import fingerprint
from tio2nn.errors import InputError
from tio2nn.files.digests import digest_of
from tio2nn.files.paths import AnyPath
from tio2nn.parameters.parameter_set import ParameterSet
from tio2nn.project.feature_store import StoredFeatures
from tio2nn.project.freshness import Snapshot
from tio2nn.project.jacobian_store import JacobianLayout, damaged_shards, open_jacobian
from tio2nn.project.parts import DERIVATIVES, SPLIT, STALE, STRAINS, Part
from tio2nn.project.project import Project
from tio2nn.structures.split import Split, read_parts, read_split
from tio2nn.training.data import Inputs
from tio2nn.training.splits import drawn_split, given_split


class SplitRequest(NamedTuple):
    """The split to use instead of that of the project.

    Attributes:
        file: a split file given by the user.
        new: draw a new split, even if the project has one.
    """

    file: AnyPath | None = None
    new: bool = False

    @property
    def path(self) -> Path | None:
        return None if self.file is None else Path(self.file)


PROJECTS_OWN = SplitRequest()


def read_inputs(snapshot: Snapshot, parameters: ParameterSet) -> Inputs:
    """Read structures, features and, for training on forces and stress, derivatives of a project.

    Derivatives are compared with their checksums, which takes about 1 s per GB.

    Args:
        snapshot: of a project with features, and with the derivatives that the fit needs.
        parameters: parameters of the fit; their recipe need not have been applied.

    Raises:
        MissingInputError, StaleError, InputError: a part is missing, out of date or damaged.
    """
    snapshot = snapshot.seen_by(parameters)
    project, store = snapshot.project, snapshot.structures
    features = StoredFeatures(project.features_directory, snapshot.features())
    of_features = digest_of([fingerprint(parameters), snapshot.geometries])
    inputs = Inputs(store, features, of_features)
    if snapshot.needs_derivatives(parameters):
        layout = snapshot.derivatives()
        jacobian = _read_jacobian(project, layout, DERIVATIVES)
        inputs = replace(inputs, jacobian=jacobian, selection=layout.selection)
    if snapshot.needs_strains(parameters):
        by_strain = snapshot.strains()
        strains = _read_jacobian(project, by_strain, STRAINS)
        inputs = replace(inputs, strains=strains, strain_selection=by_strain.selection)
    return inputs


def _read_jacobian(project: Project, layout: JacobianLayout, part: Part) -> NDArray[np.float32]:
    directory = project.features_directory
    jacobian = open_jacobian(directory, layout)
    damaged = next(damaged_shards(directory, layout), None)
    if damaged is not None:
        raise InputError(
            f"the {part.name} of structures {damaged.first + 1} to {damaged.last} of the store are damaged; "
            f'delete this file and run "{project.command(part.command)}" again',
            file=str(directory / layout.file),
        )
    return jacobian


def choose_split(snapshot: Snapshot, parameters: ParameterSet, request: SplitRequest = PROJECTS_OWN) -> Split:
    """The split given by the user, else that of the project, else a new one; `keep_split` writes it."""
    given, store = request.path, snapshot.structures
    if given is not None:
        return given_split(given, parameters, store)
    if request.new or not snapshot.project.split_file.exists():
        return drawn_split(parameters, store)
    if snapshot.state(SPLIT).kind == STALE:
        return replace(drawn_split(parameters, store), replaces_another=True)
    return own_split(snapshot)


def keep_split(snapshot: Snapshot, split: Split) -> None:
    """Write a split to `split.csv`, once the data for a fit to it are known to suffice.

    A different split that is there, which the user may have made, is moved to `split-earlier.csv`.
    """
    project = snapshot.project
    if project.split_file.exists():
        if holds(project.split_file, split):
            return
        project.split_file.replace(project.earlier_split_file)
    split.write(project.split_file, snapshot.structures.groups)


def holds(file: Path, split: Split) -> bool:
    """Whether a file has this split."""
    try:
        return read_parts(file) == dict(zip(split.names, split.parts, strict=True))
    except InputError:
        return False


def own_split(snapshot: Snapshot) -> Split:
    """The split of the project as written; small data sets may have no validation set."""
    return read_split(snapshot.project.split_file, snapshot.structures.names, validation=0.0, seed=0)
