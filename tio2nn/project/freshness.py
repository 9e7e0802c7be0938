"""The state of a project: which parts exist, and which are stale."""

from __future__ import annotations

import os
import socket
from collections import Counter
from collections.abc import Callable, Mapping
from copy import copy
from functools import cached_property, partial
from pathlib import Path
from typing import Any, NoReturn

from tio2nn.descriptors.kernel_version import fingerprint
from tio2nn.errors import InputError, MissingInputError, StaleError
from tio2nn.files.digests import digest_of
from tio2nn.files.lock import Holder, holder, jobs, told
from tio2nn.files.paths import AnyPath
from tio2nn.files.tables import count_rows
from tio2nn.parameters.draft import Draft
from tio2nn.parameters.parameter_set import ParameterSet
from tio2nn.project.facts import needs_derivatives, needs_strains
from tio2nn.project.feature_states import (
    parts_with_features,
    state_of_derivatives,
    state_of_features,
    state_of_strains,
    with_parts,
)
from tio2nn.project.feature_store import Manifest
from tio2nn.project.given_weights import with_given_weights
from tio2nn.project.jacobian_store import JacobianLayout, Selection, StrainLayout
from tio2nn.project.job_parts import PartNotes
from tio2nn.project.model_states import (
    Inputs,
    changed,
    read_split,
    state_of_evaluation,
    state_of_model,
    state_of_search,
)
from tio2nn.project.named import project_of
from tio2nn.project.parts import (
    BROKEN,
    DERIVATIVES,
    EVALUATION,
    FEATURES,
    FRESH,
    IN_PROGRESS,
    MISSING,
    MODEL,
    PARAMETERS,
    SEARCH,
    SPLIT,
    STALE,
    STRAINS,
    STRUCTURES,
    Part,
    State,
)
from tio2nn.project.project import Project
from tio2nn.project.provenance import inputs_of_model
from tio2nn.project.structure_store import StructureStore, read_store
from tio2nn.structures.split import SETS
from tio2nn.wording import counted


class Snapshot:
    """A project as one command sees it: parameters and structures are read once, parts are checked on request.

    Attributes:
        project: the project.
    """

    def __init__(self, project: Project) -> None:
        self.project = project

    @classmethod
    def of(cls, project: Project | AnyPath | Snapshot) -> Snapshot:
        """The snapshot itself, or a new snapshot of a project; raises as `project_of`."""
        return project if isinstance(project, Snapshot) else cls(project_of(project))

    def seen_by(self, parameters: ParameterSet) -> Snapshot:
        """The same project, as seen by a fit with other parameters."""
        _ = self.stored  # read once, for both
        other = copy(self)
        vars(other)["parameters"] = parameters  # in place of what would be read
        return other

    @cached_property
    def parameters(self) -> ParameterSet:
        """The parameters of `params.json`.

        Raises:
            MissingInputError: there is no such file, or its functions are not chosen yet.
            InputError: it is no parameter set.
        """
        return self.project.chosen(self._parameters_or_draft)

    @cached_property
    def _parameters_or_draft(self) -> ParameterSet | Draft:
        return self.project.parameters_or_draft()

    @cached_property
    def stored(self) -> StructureStore:
        """The extracted structures, with the weights of their files: for what does not depend on weights.

        Raises:
            MissingInputError: there are none.
            InputError: the store is damaged.
        """
        return read_store(self.project.existing_file(self.project.structures_file))

    @cached_property
    def structures(self) -> StructureStore:
        """The extracted structures, with the weights that the user gives in `energies.csv`.

        Raises:
            MissingInputError: there are none.
            InputError: the store is damaged, or a weight cannot be used.
        """
        return with_given_weights(self.stored, self.project.energies_file)

    @cached_property
    def geometries(self) -> str:
        """Digest of all geometries."""
        return digest_of(self.stored.geometry_hashes)

    @property
    def notes_of_features(self) -> PartNotes:
        """What the parts of a job array noted that compute features."""
        inputs = digest_of([fingerprint(self.parameters), self.geometries])
        return PartNotes(self.project.features_directory, "features", inputs)

    @cached_property
    def jobs_at_work(self) -> list[Holder]:
        """The jobs of an array that are running in the project."""
        return [job for job in jobs(self.project.root) if not _is_this_process(job)]

    @cached_property
    def at_work(self) -> Holder | None:
        """The other command that is running in the project, if any."""
        found = holder(self.project.root)
        return None if found is None or _is_this_process(found) else found

    def inputs(self, parameters: ParameterSet, origin: str | None = None) -> dict[str, str]:
        """Digests of what a fit with these parameters depends on, by the names in `MODEL.records`."""
        return inputs_of_model(parameters, self.structures, self.project.split_file, origin)

    def needs_derivatives(self, parameters: ParameterSet) -> bool:
        """Whether a fit with these parameters needs derivatives of the features."""
        return needs_derivatives(parameters, self.stored)

    def needs_strains(self, parameters: ParameterSet) -> bool:
        """As `needs_derivatives`, with respect to strain."""
        return needs_strains(parameters, self.stored)

    # --- states -----------------------------------------------------------------------------------------------

    def state(self, part: Part) -> State:
        """The state of a part: up to date, stale, missing, broken, or in progress."""
        found = self._looked_at(part)
        verb = part.command.split()[0]
        # jobs, as run does, leave alone what is fresh
        jobs = [job for job in self.jobs_at_work if job.command.split()[0] == verb and found.kind != FRESH]
        if jobs:
            return State(IN_PROGRESS, "; ".join(filter(None, (told(jobs), found.what))))
        if (other := self.at_work) is None:
            return found
        makes_it = other.command == verb or (other.command == "run" and found.kind != FRESH)
        return State(IN_PROGRESS, str(other)) if makes_it else found

    def _looked_at(self, part: Part) -> State:
        look = {
            PARAMETERS: self._of_parameters,
            STRUCTURES: self._of_structures,
            FEATURES: self._of_features,
            DERIVATIVES: self._of_derivatives,
            STRAINS: self._of_strains,
            SPLIT: self._of_split,
            SEARCH: self._of_search,
            MODEL: self.model,
            EVALUATION: self._of_evaluation,
        }[part]
        return look()

    @cached_property
    def has_structures(self) -> bool:
        """Whether there is a structure store that can be read."""
        try:
            _ = self.stored
        except InputError:
            return False
        return True

    @cached_property
    def have_weights(self) -> bool:
        """Whether there are structures, and all weights that the user gives can be used."""
        try:
            _ = self.structures
        except InputError:
            return False
        return True

    def _of_parameters(self) -> State:
        found = self._parameters_or_draft
        if isinstance(found, Draft):
            elements = f" for {', '.join(found.elements)}" if found.elements is not None else ""
            return State(MISSING, f'"preset": "auto": extract chooses the functions{elements}')
        return State(FRESH, f"{counted(found.n_features, 'function')} for {', '.join(found.elements)}")

    def _of_structures(self) -> State:
        project = self.project
        if not project.structures_file.exists():
            return State(MISSING)
        try:
            store = self.structures
            rejected = count_rows(project.rejected_file) if project.rejected_file.exists() else 0
        except InputError as error:
            return State(BROKEN, str(error))
        what = f"{counted(len(store), 'structure')}, {counted(int(store.n_atoms.sum()), 'atom')}, "
        return State(FRESH, what + f"{counted(rejected, 'file')} rejected")

    def _of_features(self) -> State:
        geometries = self.geometries if self.has_structures else None
        found = state_of_features(self.project, self.parameters, geometries)
        if found.kind in (FRESH, BROKEN) or not self.has_structures:
            return found
        return with_parts(found, parts_with_features(self.notes_of_features, self.parameters, self.stored))

    def _of_derivatives(self) -> State:
        return self._of_table(self.project.jacobian_table, state_of_derivatives)

    def _of_strains(self) -> State:
        return self._of_table(self.project.strain_table, state_of_strains)

    def _of_table(self, table: Path, state: Callable[..., State]) -> State:
        if not self.has_structures:
            return State(FRESH if table.exists() else MISSING)
        return state(self.project, self.parameters, self.stored)

    def _of_split(self) -> State:
        found = self._split()
        if isinstance(found, State):
            return found
        counts = Counter(found.values())
        return State(FRESH, ", ".join(f"{counts[name]} {name}" for name in SETS))

    def _split(self) -> Mapping[str, str] | State:
        return read_split(self.project, self.stored.names if self.has_structures else None)

    def _of_search(self) -> State:
        return state_of_search(self.project, self._inputs_for(None))

    def _inputs_for(self, fit: ParameterSet | None, origin: str | None = None) -> Inputs | None:
        return (lambda: self.inputs(fit or self.parameters, origin)) if self.have_weights else None

    def changed_since(self, potential: Mapping[str, Any]) -> tuple[str, ...]:
        """Names of the inputs that are not what they were when a potential was trained, settings apart.

        Args:
            potential: the digests that it carries.
        """
        return changed(potential, self.inputs(self.parameters), MODEL.of_data)

    def model(
        self,
        fit: ParameterSet | None = None,
        selection: Selection | None = None,
        origin: str | None = None,
    ) -> State:
        """The state of the model, compared with the present data and, with `fit`, these settings.

        Args:
            fit: parameters with nothing left to a recipe; None to ignore what may have come from flags.
            selection: the structures whose forces this fit trains on, if not all with forces.
            origin: digest of the potential that this fit begins from, if any.
        """
        return state_of_model(self.project, self._inputs_for(fit, origin), fit, selection)

    def _of_evaluation(self) -> State:
        if self._has_no_test():
            return State(FRESH, "none: the test set is empty")
        return state_of_evaluation(self.project, partial(self.state, MODEL))

    def _has_no_test(self) -> bool:
        # of a split that is stale or broken nothing follows
        found = self._split()
        return not isinstance(found, State) and "test" not in found.values()

    # --- what commands build on -------------------------------------------------------------------------------

    def require(self, part: Part, *, otherwise: str = "") -> None:
        """Raise an error unless a part exists and is up to date.

        Args:
            part: features, derivatives or split.
            otherwise: an alternative to the command that makes the part, for the message.

        Raises:
            MissingInputError, StaleError, InputError: with the command that makes it, ready to be pasted.
        """
        # what is missing first is named first
        if part.needs(PARAMETERS):
            _ = self.parameters
        if part.needs(STRUCTURES):
            _ = self.stored
        found = self._looked_at(part)
        if found.kind != FRESH:
            self._refuse(part, found, otherwise)

    def _refuse(self, part: Part, found: State, otherwise: str = "") -> NoReturn:
        command, place = self.project.command(part.command), self.project.shown()
        are, were = ("are", "were") if part.is_plural else ("is", "was")
        if found.kind == MISSING:
            raise MissingInputError(f'no {part.name} in {place}; run "{command}" first{otherwise}')
        if found.kind == STALE:
            raise StaleError(f'the {part.name} in {place} {were} {found.what}; run "{command}" again')
        # the error of reading it may name the command already
        advice = "" if command in found.what else f'; run "{command}" again'
        raise InputError(f"the {part.name} in {place} {are} broken: {found.what}{advice}")

    def features(self) -> Manifest:
        """The manifest of the features, which are up to date.

        Raises:
            MissingInputError, StaleError, InputError: features are missing, stale or broken.
        """
        self.require(FEATURES)
        return Manifest.read(self.project.features_manifest)

    def derivatives(self) -> JacobianLayout:
        """The layout of the derivatives, which are up to date.

        Raises:
            MissingInputError, StaleError, InputError: derivatives are missing, stale or broken.
        """
        self.require(DERIVATIVES)
        return JacobianLayout.read(self.project.jacobian_table)

    def strains(self) -> StrainLayout:
        """The layout of the derivatives with respect to strain, which are up to date; raises as `derivatives`."""
        self.require(STRAINS)
        return StrainLayout.read(self.project.strain_table)


def _is_this_process(holder: Holder) -> bool:
    return (holder.process, holder.host) == (os.getpid(), socket.gethostname())
