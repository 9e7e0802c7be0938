"""The command lines that made structures and features, for the report; each is valid as long as its result exists."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tio2nn.descriptors.kernel_version import fingerprint
from tio2nn.errors import InputError
from tio2nn.files.digests import digest_of
from tio2nn.files.tables import read_json, write_json
from tio2nn.project.freshness import Snapshot
from tio2nn.project.parts import FEATURES, STRUCTURES, Part
from tio2nn.project.project import Project


def keep_command(snapshot: Snapshot, part: Part, words: Sequence[str]) -> None:
    """Record the command line, program included, that made the structures or the features of a project."""
    write_json(_file(snapshot.project, part), {"made": _digest(snapshot, part), "command": list(words)})


def kept_command(snapshot: Snapshot, part: Part) -> list[str]:
    """The command line that made the structures or features as they are; empty if it is not known."""
    try:
        found = read_json(_file(snapshot.project, part))
        return [str(word) for word in found["command"]] if found["made"] == _digest(snapshot, part) else []
    except (InputError, KeyError, TypeError):
        return []


def _file(project: Project, part: Part) -> Path:
    folder = {STRUCTURES: project.structures_file.parent, FEATURES: project.features_directory}[part]
    return folder / "command.json"


def _digest(snapshot: Snapshot, part: Part) -> str:
    if part == FEATURES:
        return digest_of([fingerprint(snapshot.parameters), snapshot.geometries])
    store = snapshot.stored
    labels = (store.digest_of_energies, store.digest_of_forces, str(store.digest_of_stresses))
    return digest_of([*labels, *store.names, *store.geometry_hashes])
