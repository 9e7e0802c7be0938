"""Where the files of a project are."""

from __future__ import annotations

from pathlib import Path

from tio2nn.project.entries import PARAMETERS_NAME


class Layout:
    """The paths of a project, all of which begin with its `root`."""

    root: Path

    @property
    def parameters_file(self) -> Path:
        return self.root / PARAMETERS_NAME

    @property
    def energies_file(self) -> Path:
        """One row for each accepted structure."""
        return self.root / "energies.csv"

    @property
    def rejected_file(self) -> Path:
        return self.root / "rejected.csv"

    @property
    def structures_file(self) -> Path:
        """The store of all accepted structures."""
        return self.root / "structures" / "structures.npz"

    @property
    def features_directory(self) -> Path:
        return self.root / "features"

    @property
    def features_manifest(self) -> Path:
        """What the features were computed from; written last."""
        return self.features_directory / "manifest.json"

    @property
    def jacobian_table(self) -> Path:
        """The layout of the file of derivatives, and what they were computed from; written last."""
        return self.features_directory / "jacobian.json"

    @property
    def strain_table(self) -> Path:
        """As `jacobian_table`, of the derivatives with respect to strain."""
        return self.features_directory / "strain.json"

    @property
    def tuning_directory(self) -> Path:
        return self.root / "tuning"

    @property
    def trial_ledger_file(self) -> Path:
        """Every finished trial."""
        return self.tuning_directory / "ledger.csv"

    @property
    def trial_data_file(self) -> Path:
        """The data for the trials of a running search."""
        return self.tuning_directory / "data.npz"

    @property
    def trials_file(self) -> Path:
        return self.tuning_directory / "trials.csv"

    @property
    def best_trial_file(self) -> Path:
        return self.tuning_directory / "best.json"

    @property
    def split_file(self) -> Path:
        return self.root / "split.csv"

    @property
    def earlier_split_file(self) -> Path:
        """The previous `split.csv`, replaced because it was made for other structures."""
        return self.root / "split-earlier.csv"

    @property
    def model_directory(self) -> Path:
        return self.root / "model"

    def network_file(self, member: int = 1) -> Path:
        """The Keras model of one member of the committee, counted from 1."""
        return self.model_directory / ("network.keras" if member == 1 else f"network-{member}.keras")

    def checkpoint_file(self, member: int) -> Path:
        """From which a training that was killed resumes; removed when it ends."""
        return self.model_directory / f"checkpoint-{member}.npz"

    @property
    def lessons_directory(self) -> Path:
        """The teacher's labels of the training structures and their copies; removed when a training ends."""
        return self.model_directory / "lessons"

    @property
    def lessons_mark(self) -> Path:
        """What the lessons depend on, and the options that asked for them; written when they are complete."""
        return self.lessons_directory / "lessons.json"

    @property
    def fit_data_file(self) -> Path:
        """The data for the members of a committee in training."""
        return self.model_directory / "data.npz"

    @property
    def preparation_file(self) -> Path:
        """What was prepared for members that are fitted one by one; removed when a training ends."""
        return self.model_directory / "preparation.npz"

    @property
    def ranks_file(self) -> Path:
        """Where the first of several ranks of a training waits for the others; removed when they are there."""
        return self.model_directory / "ranks.json"

    @property
    def potential_file(self) -> Path:
        """The whole committee in one portable file."""
        return self.model_directory / "potential.npz"

    @property
    def earlier_potential_file(self) -> Path:
        """The previous `potential.npz`, replaced by another training."""
        return self.model_directory / "potential-earlier.npz"

    @property
    def history_file(self) -> Path:
        """Losses and errors of each epoch."""
        return self.model_directory / "history.csv"

    @property
    def history_figure(self) -> Path:
        return self.model_directory / "history.png"

    @property
    def training_metrics_file(self) -> Path:
        return self.model_directory / "metrics.json"

    @property
    def evaluation_directory(self) -> Path:
        return self.root / "evaluation"

    @property
    def other_evaluation_directory(self) -> Path:
        """Results of other potentials, or on other structures than the test set."""
        return self.evaluation_directory / "other"

    @property
    def evaluation_metrics_file(self) -> Path:
        return self.evaluation_directory / "metrics.json"

    @property
    def residuals_file(self) -> Path:
        return self.evaluation_directory / "residuals.csv"

    @property
    def parity_figure(self) -> Path:
        return self.evaluation_directory / "parity.png"

    @property
    def residuals_figure(self) -> Path:
        return self.evaluation_directory / "residuals.png"

    @property
    def energies_figure(self) -> Path:
        return self.evaluation_directory / "energies.png"

    @property
    def forces_figure(self) -> Path:
        return self.evaluation_directory / "forces.png"

    @property
    def stress_figure(self) -> Path:
        return self.evaluation_directory / "stress.png"

    @property
    def config_types_file(self) -> Path:
        """Errors of each kind of structure."""
        return self.evaluation_directory / "config_types.csv"

    @property
    def spread_figure(self) -> Path:
        """Error against the spread of the committee."""
        return self.evaluation_directory / "spread.png"

    @property
    def extrapolation_figure(self) -> Path:
        """Force errors against the distance of the atom from the training set."""
        return self.evaluation_directory / "extrapolation.png"

    @property
    def distances_figure(self) -> Path:
        """Errors against the distance from the training set."""
        return self.evaluation_directory / "distances.png"

    @property
    def curve_directory(self) -> Path:
        """Fits to parts of the training set, and what they come to."""
        return self.root / "learning-curve"


def features_beside(data: Path) -> Path:
    """The file for features that do not fit into memory, beside the file with the data of a fit."""
    return data.with_suffix(".f32")
