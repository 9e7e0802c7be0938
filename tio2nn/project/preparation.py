"""What the members of a committee share when they are fitted one by one, on any machines: made once, used by all.

Another processor may turn a whitening, or change the last digit of a reference energy. So both are recorded, and the
potential is put together with those that its members were fitted with.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from tio2nn.errors import InputError
from tio2nn.files.arrays import opened_arrays, write_arrays
from tio2nn.files.digests import digest_of
from tio2nn.files.tables import read_json
from tio2nn.parameters.parameter_set import ParameterSet
from tio2nn.potential.whitening import Whitening
from tio2nn.project.layout import features_beside
from tio2nn.project.project import Project
from tio2nn.project.provenance import inputs_of_model
from tio2nn.project.structure_store import StructureStore
from tio2nn.wording import counted, ranges, size

_DATA = "prepared-*.npz"
_OF_WHITENING = ("mean", "matrix", "constant", "metric")


@dataclass(frozen=True)
class Preparation:
    """The content of `preparation.npz`.

    Attributes:
        parameters: of the fit, with what the command line changed, before its recipe is applied.
        resolved: the same with nothing left to the recipe.
        inputs: digests of parts of the project, and of `params.json`, as they were.
        derivatives: file with the derivatives; None for a fit to energies alone.
        members: of each member, the fingerprint of everything that its weights depend on.
        reference: reference energy of each element, eV.
        whitenings: one per subnet.
        window: in which derivatives and features are read, as `tio2nn.training.windows.Window`; None if they fit into
            memory.
        origin: name and digest of the potential that the fit begins from; None for none.
        strains: file with the derivatives with respect to strain; None for a fit without stress.
        teacher: of a fit that learns from a potential: its "file" and "digest", "copies", "displacement" and "truth" as
            of the command line, and the digest of its "lessons", which lie in `model/lessons`; None for none.
    """

    parameters: ParameterSet
    resolved: ParameterSet
    inputs: dict[str, str]
    derivatives: str | None
    members: tuple[str, ...]
    reference: dict[str, float]
    whitenings: tuple[Whitening, ...]
    window: tuple[int, ...] | None = None
    origin: tuple[str, str] | None = None
    strains: str | None = None
    teacher: dict[str, Any] | None = None

    @property
    def origin_digest(self) -> str | None:
        return None if self.origin is None else self.origin[1]

    def origin_file(self, project: Project) -> Path:
        """A copy of the potential that the fit begins from."""
        return project.model_directory / _DATA.replace("*", f"from-{self.origin_digest}")

    def teacher_file(self, project: Project) -> Path:
        """A copy of the potential that teaches."""
        digest = "" if self.teacher is None else self.teacher["digest"]
        return project.model_directory / _DATA.replace("*", f"by-{digest}")

    def taught(self, project: Project) -> Project:
        """The project with the derivatives of the fit: what is taught, or the project itself."""
        return project if self.teacher is None else Project(project.lessons_directory)

    def data_file(self, project: Project) -> Path:
        """The data of the fit, which its members read; its name tells one preparation from another."""
        return project.model_directory / _DATA.replace("*", digest_of(self.members))

    @property
    def has_features_file(self) -> bool:
        """Whether the features are in a file of their own."""
        return self.window is not None and bool(self.window[-1])

    def features_file(self, project: Project) -> Path:
        """The features of the fit, if they are not among its data."""
        return features_beside(self.data_file(project))

    def write(self, path: Path) -> None:
        """Write it; the data file must be there before."""
        about = {
            "parameters": self.parameters.to_json(),
            "resolved": self.resolved.to_json(),
            "inputs": self.inputs,
            "derivatives": self.derivatives,
            "members": self.members,
            "reference": self.reference,
            "n_whitenings": len(self.whitenings),
            "window": self.window,
            "origin": self.origin,
            "strains": self.strains,
            "teacher": self.teacher,
        }
        arrays: dict[str, Any] = {"about": np.array(json.dumps(about))}
        for k, whitening in enumerate(self.whitenings):
            arrays |= {f"{name}_{k}": array for name, array in asdict(whitening).items()}
        write_arrays(path, arrays)

    @classmethod
    def read(cls, path: Path) -> Preparation:
        """Read a file of `write`.

        Raises:
            InputError: it is damaged, or no preparation.
        """
        try:
            with opened_arrays(path) as arrays:
                about = json.loads(str(arrays["about"]))
                return cls(
                    ParameterSet.from_json(about["parameters"]),
                    ParameterSet.from_json(about["resolved"]),
                    dict(about["inputs"]),
                    about["derivatives"],
                    tuple(map(str, about["members"])),
                    dict(about["reference"]),
                    tuple(
                        Whitening(*(arrays[f"{name}_{k}"] for name in _OF_WHITENING))
                        for k in range(about["n_whitenings"])
                    ),
                    _window(about["window"]),
                    None if (origin := about.get("origin")) is None else (str(origin[0]), str(origin[1])),
                    about.get("strains"),
                    None if (teacher := about.get("teacher")) is None else dict(teacher),
                )
        except Exception:  # zipfile and NumPy raise errors of many kinds
            raise InputError("expected a preparation, got a damaged file", file=str(path)) from None

    def fitted(self, project: Project) -> list[int]:
        """Numbers of the members whose fit has ended, from 1."""
        found = enumerate(self.members, start=1)
        return [n for n, own in found if self._has_ended(project.checkpoint_file(n), own)]

    def _has_ended(self, checkpoint: Path, fingerprint: str) -> bool:
        training = self.resolved.training
        try:
            with opened_arrays(checkpoint) as arrays:
                about = json.loads(str(arrays["about"]))
                stopped = 0 < training.early_stopping <= about["since_best"]
                return about["fingerprint"] == fingerprint and (
                    stopped or len(about["history"]) >= training.epochs
                )
        except Exception:
            return False  # missing or damaged: the fit starts over


def _window(numbers: Sequence[int] | None) -> tuple[int, int, int, int] | None:
    if numbers is None:
        return None
    capacity, kept, n_features, has_features = map(int, numbers)
    return capacity, kept, n_features, has_features


def unfinished_training(project: Project) -> str:
    """What a training that has not ended has left, for messages; "" if there is none."""
    if project.preparation_file.exists():
        try:
            preparation = Preparation.read(project.preparation_file)
        except InputError as error:
            return f"prepared: {error}"
        n, fitted = len(preparation.members), preparation.fitted(project)
        told = told_members(fitted, n) if fitted else f"none of {counted(n, 'member')}"
        return f"prepared; {told} fitted"
    if project.lessons_directory.exists():
        return _interrupted_lessons(project)
    interrupted = any(project.model_directory.glob("checkpoint-*.npz"))
    return "interrupted; train resumes it" if interrupted else ""


def _interrupted_lessons(project: Project) -> str:
    """What a fit to a teacher's predictions has left that did not end; a preparation has lessons on purpose."""
    folder = project.lessons_directory
    used = size(sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()))
    return (
        f'interrupted; "{project.command("train")}{interrupted_options(project)}" resumes it, another training removes '
        f"what the teacher said ({used} in {folder.relative_to(project.root)})"
    )


def interrupted_options(project: Project) -> str:
    """Options of train, after a blank, that resume a fit to a teacher's predictions that did not end; "" for none."""
    if project.preparation_file.exists() or not project.lessons_directory.exists():
        return ""
    try:
        return " " + shlex.join(map(str, read_json(project.lessons_mark)["options"]))
    except (InputError, KeyError, TypeError):
        return " --distill POTENTIAL"


def told_members(numbers: Sequence[int], n: int) -> str:
    """Members in a message: "member 3 of 8", "members 1 to 4 of 8"."""
    return f"member{'s' if len(numbers) > 1 else ''} {ranges(numbers)} of {n}"


def remove_preparation(project: Project, but: Sequence[Path] = ()) -> None:
    """Remove a preparation, which is used up or out of date, and what an interrupted one left."""
    data = (
        project.model_directory.glob(_DATA),
        project.model_directory.glob(str(features_beside(Path(_DATA)))),
    )
    for path in (project.preparation_file, *chain(*data)):
        if path not in but:
            path.unlink(missing_ok=True)


def inputs_of_preparation(
    parameters: ParameterSet, store: StructureStore, split_file: Path
) -> dict[str, str]:
    """Digests of what a preparation depends on, the last of them of the settings in `params.json`."""
    found = inputs_of_model(parameters, store, split_file)
    return {**found, "settings": digest_of([found["settings"], parameters.recipe])}
