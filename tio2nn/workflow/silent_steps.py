"""The steps of a run that say nothing, for scripts."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tio2nn.errors import InputError
from tio2nn.files.paths import AnyPath
from tio2nn.io.labels import ReadOptions
from tio2nn.parameters.draft import Draft
from tio2nn.parameters.parameter_set import ParameterSet
from tio2nn.project.freshness import Snapshot
from tio2nn.project.project import Project
from tio2nn.workflow.differentiate import differentiate
from tio2nn.workflow.evaluate import evaluate
from tio2nn.workflow.extract import extract
from tio2nn.workflow.featurize import compute_features
from tio2nn.workflow.inputs import SplitRequest


class SilentSteps:
    """Calls the verbs and reports nothing; implements `tio2nn.workflow.run.Steps`."""

    def created(self, project: Project) -> None:
        """Say nothing."""

    def extract(
        self,
        project: Project,
        sources: AnyPath | Iterable[AnyPath],
        limit: int | None,
        parameters: ParameterSet | Draft | None,
        options: ReadOptions | None,
    ) -> bool:
        """Extract structures and complete a draft; return whether every source could be used."""
        summary = extract(project, sources, parameters=parameters, limit=limit, options=options)
        if summary.audit is None:
            raise nothing_extracted(summary.rejected)
        return not summary.rejected

    def featurize(self, snapshot: Snapshot, jobs: int | None) -> None:
        """Compute missing features."""
        compute_features(snapshot, jobs=jobs)

    def differentiate(self, snapshot: Snapshot, parameters: ParameterSet, jobs: int | None) -> None:
        """Compute missing derivatives if a fit with these parameters needs them."""
        if snapshot.needs_derivatives(parameters):
            differentiate(snapshot, jobs=jobs, insist=parameters.training.forces is True)

    def tune(
        self, snapshot: Snapshot, parameters: ParameterSet, jobs: int | None, split_file: Path | None
    ) -> None:
        """Search for the best settings."""
        # loads TensorFlow, as `train`
        from tio2nn.workflow.tune import tune

        tune(snapshot, parameters, jobs=jobs, split_file=split_file)

    def train(
        self, snapshot: Snapshot, parameters: ParameterSet, split: SplitRequest, jobs: int | None
    ) -> None:
        """Fit the potential."""
        from tio2nn.workflow.train import train

        train(snapshot, parameters, split=split, jobs=jobs)

    def trained_before(self) -> None:
        """Say nothing."""

    def evaluate(self, snapshot: Snapshot) -> dict[str, Any]:
        """Evaluate on the test set; return the metrics."""
        return evaluate(snapshot).metrics

    def nothing_to_evaluate(self) -> None:
        """Say nothing."""


def nothing_extracted(rejected: Iterable[InputError]) -> InputError:
    """The error of an extraction without structures, with the first reason."""
    first = next(iter(rejected), None)
    return InputError("expected at least one structure with an energy, got none") if first is None else first
