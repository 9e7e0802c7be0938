"""What a fit takes from a project: structures with their features, and the split."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tio2nn.errors import InputError
from tio2nn.files.paths import AnyPath
from tio2nn.parameters.parameter_set import ParameterSet
from tio2nn.project.feature_store import StoredFeatures, digest_of
from tio2nn.project.freshness import Snapshot
from tio2nn.project.jacobian_store import JacobianLayout, damaged_shards, open_jacobian
from tio2nn.project.parts import DERIVATIVES
from tio2nn.project.project import Project
from tio2nn.structures.split import Split, covers, read_split
from tio2nn.training.data import Inputs
from tio2nn.training.splits import drawn_split, given_split


class SplitRequest(NamedTuple):
    """Which split a fit shall have, where not that of the project.

    Attributes:
        file: a split given by the user.
        new: draw one by the settings, whatever the project has.
    """

    file: AnyPath | None = None
    new: bool = False

    @property
    def path(self) -> Path | None:
        return None if self.file is None else Path(self.file)


PROJECTS_OWN = SplitRequest()


def read_inputs(snapshot: Snapshot, parameters: ParameterSet) -> Inputs:
    """Structures and features of a project, refused if the features belong to others.

    Derivatives are compared with their checksums, about 1 s for each GB.

    Args:
        snapshot: of a project with features, and with derivatives for a training on forces.
        parameters: those of the training; what they leave to their recipe may still be open.

    Raises:
        MissingInputError, StaleError, InputError
    """
    snapshot = snapshot.seen_by(parameters)
    project, store = snapshot.project, snapshot.structures
    features = StoredFeatures(project.features_directory, snapshot.features())
    fingerprint = digest_of([parameters.fingerprint, snapshot.geometries])
    if not snapshot.needs_derivatives(parameters):
        return Inputs(store, features, fingerprint)
    layout = snapshot.derivatives()
    jacobian = _read_jacobian(project, layout)
    return Inputs(store, features, fingerprint, jacobian, layout.selection)


def _read_jacobian(project: Project, layout: JacobianLayout) -> NDArray[np.float32]:
    directory = project.features_directory
    jacobian = open_jacobian(directory, layout)
    damaged = next(damaged_shards(directory, layout), None)
    if damaged is not None:
        raise InputError(
            f"expected the derivatives that were written, got others for structures {damaged.first + 1} to "
            f'{damaged.last} of the store; delete it and run "{project.command(DERIVATIVES.command)}" again',
            file=str(directory / layout.file),
        )
    return jacobian


def choose_split(snapshot: Snapshot, parameters: ParameterSet, request: SplitRequest = PROJECTS_OWN) -> Split:
    """The split that the user gives, else that of the project, else a new one; kept in `split.csv`.

    One of other structures is not lost, but moved to `split-earlier.csv`.
    """
    project, store = snapshot.project, snapshot.structures
    given = request.path
    has_another = given is None and not request.new and project.split_file.exists()
    if has_another and covers(project.split_file, store.names):
        return own_split(snapshot)
    if given is not None:
        split = given_split(given, parameters, store)
    else:
        split = replace(drawn_split(parameters, store), replaces_another=has_another)
    if has_another:
        # it may be one that somebody gave, with a name damaged or a structure more
        project.split_file.replace(project.earlier_split_file)
    split.write(project.split_file, store.groups)
    return split


def own_split(snapshot: Snapshot) -> Split:
    """That of the project, as it was written: few structures may have no validation part."""
    return read_split(snapshot.project.split_file, snapshot.structures.names, validation=0.0, seed=0)
