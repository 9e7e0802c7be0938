"""The steps of a run, which a subclass may report on.

Nothing is imported before its step begins, so that a command line can make its own subclass at no cost.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tio2nn.errors import InputError

if TYPE_CHECKING:
    from tio2nn.files.paths import AnyPath
    from tio2nn.io.labels import ReadOptions
    from tio2nn.parallel.devices import Device
    from tio2nn.parameters.draft import Draft
    from tio2nn.parameters.parameter_set import ParameterSet
    from tio2nn.project.freshness import Snapshot
    from tio2nn.project.project import Project
    from tio2nn.workflow.inputs import SplitRequest
    from tio2nn.workflow.lessons import FineTuning


class Steps:
    """Carries out the steps of a run in silence."""

    def created(self, project: Project) -> None:
        """Report that a project was created."""

    def extract(
        self,
        project: Project,
        sources: AnyPath | Iterable[AnyPath],
        limit: int | None,
        parameters: ParameterSet | Draft | None,
        options: ReadOptions | None,
        *,
        isolated_atoms: bool,
    ) -> bool:
        """Extract structures and complete a draft; return whether every source could be used."""
        from tio2nn.workflow.extract import extract

        summary = extract(
            project,
            sources,
            parameters=parameters,
            limit=limit,
            options=options,
            isolated_atoms=isolated_atoms,
        )
        if summary.audit is None:
            raise nothing_extracted(summary.rejected)
        return not summary.rejected

    def featurize(self, snapshot: Snapshot, jobs: int | None) -> None:
        """Compute missing features."""
        from tio2nn.workflow.featurize import compute_features

        compute_features(snapshot, jobs=jobs)

    def differentiate(self, snapshot: Snapshot, parameters: ParameterSet, jobs: int | None) -> None:
        """Compute missing derivatives if a fit with these parameters needs them."""
        from tio2nn.workflow.differentiate import differentiate
        from tio2nn.workflow.differentiate_by_strain import differentiate_by_strain

        insist = parameters.training.forces is True
        if snapshot.needs_derivatives(parameters):
            differentiate(snapshot, jobs=jobs, insist=insist)
        if snapshot.needs_strains(parameters):
            differentiate_by_strain(snapshot, jobs=jobs, insist=insist)

    def tune(
        self, snapshot: Snapshot, parameters: ParameterSet, jobs: int | None, split_file: Path | None
    ) -> None:
        """Search for the best settings."""
        from tio2nn.workflow.tune import tune

        tune(snapshot, parameters, jobs=jobs, split_file=split_file)

    def train(
        self,
        snapshot: Snapshot,
        parameters: ParameterSet,
        split: SplitRequest,
        jobs: int | None,
        device: Device,
        lesson: FineTuning | None,
    ) -> None:
        """Fit the potential."""
        from tio2nn.workflow.train import train

        train(snapshot, parameters, split=split, lesson=lesson, jobs=jobs, device=device)

    def trained_before(self) -> None:
        """Report that the model is up to date with structures, split and settings."""

    def evaluate(self, snapshot: Snapshot) -> dict[str, Any]:
        """Evaluate on the test set; return the metrics."""
        from tio2nn.workflow.evaluate import evaluate

        return evaluate(snapshot).metrics

    def nothing_to_evaluate(self) -> None:
        """Report that the split has no test set."""


def nothing_extracted(rejected: Iterable[InputError]) -> InputError:
    """The error of an extraction without structures, with the first reason."""
    first = next(iter(rejected), None)
    return InputError("expected at least one structure with an energy, got none") if first is None else first
