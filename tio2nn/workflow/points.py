"""The points of structures: what is seen of a pool, and of the structures that have labels."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from tio2nn.array_types import FloatArray
from tio2nn.descriptors.symmetry_functions import SymmetryCalculator
from tio2nn.errors import InputError, StaleError, UsageError
from tio2nn.evaluation.coverage import AtomPoints, AtomSample, atom_points
from tio2nn.evaluation.leakage import fingerprints, fingerprints_of
from tio2nn.parameters.parameter_set import ParameterSet
from tio2nn.potential.potential import Potential
from tio2nn.potential.whitening import Whitening
from tio2nn.project.feature_store import Manifest, StoredFeatures
from tio2nn.project.freshness import Snapshot
from tio2nn.project.parts import FEATURES, FRESH
from tio2nn.structures.structure import Structure
from tio2nn.training.atom_table import AtomTable
from tio2nn.workflow.predict import label
from tio2nn.workflow.structure_batches import batches_of, in_threads

# atoms of the structures that have labels: 14 MB for 70 functions
_MOST_KNOWN = 50_000


class Seen(NamedTuple):
    """A structure, and what the choice depends on; atoms are there if they are asked for."""

    structure: Structure
    fingerprint: FloatArray
    spread: float
    atoms: AtomPoints


class Known(NamedTuple):
    """The structures that have labels: names, fingerprints (n_structures, n), and some atoms, if they are asked for."""

    names: list[str]
    fingerprints: FloatArray
    atoms: AtomPoints


# --- what is looked at -----------------------------------------------------------------------------------------


def looker(
    potential: Potential, *, with_spread: bool = False, with_atoms: bool = False
) -> Callable[[Sequence[Structure], int], list[Seen]]:
    """A function that looks at some structures at once, with so many threads."""
    calculator = SymmetryCalculator(potential.parameters)
    elements, whitenings = potential.elements, _whitenings(potential)

    def look(structures: Sequence[Structure], threads: int) -> list[Seen]:
        spreads = [0.0] * len(structures)
        if with_spread:
            described = potential.predict_described(structures, threads=threads)
            features = np.concatenate([of_structure for _, of_structure in described])
            for k, (prediction, _) in enumerate(described):
                if (unusable := prediction.unusable()) is not None:
                    raise unusable
                assert prediction.forces_spread is not None, "of a committee"
                # the mean square: as many atoms of equal uncertainty are no more uncertain
                spreads[k] = float(np.sqrt(np.mean(prediction.forces_spread**2)))
        else:
            features, _ = calculator.with_close_pairs(structures, 0.0, threads)
        of_atoms = np.array([elements.index(e) for s in structures for e in s.elements], dtype=np.int64)
        n_atoms = np.array([structure.n_atoms for structure in structures], dtype=np.int64)
        table = AtomTable.from_rows(features, of_atoms, n_atoms, len(elements))
        atoms = atom_points(table, whitenings) if with_atoms else [()] * len(structures)
        return list(map(Seen, structures, fingerprints(table, whitenings), spreads, atoms))

    return look


def looked_at(
    items: Iterable[Structure | InputError],
    look: Callable[[Sequence[Structure], int], list[Seen]],
    threads: int,
) -> Iterator[tuple[int, list[Seen | InputError]]]:
    """What is seen of some consecutive structures, or why one cannot be used; and the place of the first of them."""
    place = 0
    for batch, found in in_threads(batches_of(items), look, threads):
        results = iter(found)
        yield place, [item if isinstance(item, InputError) else next(results) for item in batch]
        place += len(batch)


# --- what is known ---------------------------------------------------------------------------------------------


def known_structures(
    snapshot: Snapshot | None,
    potential: Potential,
    given: Iterable[Structure | InputError],
    threads: int,
    *,
    with_atoms: bool = False,
) -> Known:
    """The structures that have labels: all of a project, whatever their part of the split, and those that are given."""
    names: list[str] = []
    parts: list[FloatArray] = []
    atoms = AtomSample(_MOST_KNOWN)
    if snapshot is not None:
        _require_its_features(snapshot, potential)
        names += snapshot.stored.names
        parts.append(_fingerprints_of_project(snapshot, potential))
        if with_atoms:
            for of_structure in _atoms_of_project(snapshot, potential):
                atoms.add(of_structure)
    for _, batch in looked_at(given, looker(potential, with_atoms=with_atoms), threads):
        for seen in batch:
            if isinstance(seen, InputError):
                raise seen
            names.append(label(seen.structure))
            parts.append(seen.fingerprint[None])
            atoms.add(seen.atoms)
    if not names:
        raise UsageError(
            "expected structures that have labels, got none; name a project, or files of them with --known"
        )
    return Known(names, np.concatenate(parts), atoms.points())


def _require_its_features(snapshot: Snapshot, potential: Potential) -> None:
    """Refuse a project whose features are of other functions than a potential has."""
    if snapshot.seen_by(potential.parameters).state(FEATURES).kind != FRESH:
        snapshot.require(FEATURES)
        raise StaleError(
            f"expected features of the functions that the potential has ({_told(potential.parameters)}), got others "
            f"({_told(snapshot.parameters)}); train on these first, or name a project with those of the potential",
            file=str(snapshot.project.features_directory),
        )


def _fingerprints_of_project(snapshot: Snapshot, potential: Potential) -> FloatArray:
    store, elements = snapshot.stored, potential.elements
    (found,) = fingerprints_of(
        (np.arange(len(store)),),
        _features(snapshot),
        store.element_indices(elements),
        store.n_atoms,
        _whitenings(potential),
    )
    return found


def _atoms_of_project(snapshot: Snapshot, potential: Potential) -> Iterator[AtomPoints]:
    store, features = snapshot.stored, _features(snapshot)
    of_atoms, whitenings = store.element_indices(potential.elements), _whitenings(potential)
    first_atom = np.concatenate([[0], np.cumsum(store.n_atoms)])
    for shard, block in zip(features.manifest.shards, features, strict=True):
        first, last = first_atom[[shard.first, shard.last]]
        n_atoms = store.n_atoms[shard.first : shard.last]
        table = AtomTable.from_rows(block, of_atoms[first:last], n_atoms, len(whitenings))
        yield from atom_points(table, whitenings)


def _features(snapshot: Snapshot) -> StoredFeatures:
    project = snapshot.project
    return StoredFeatures(project.features_directory, Manifest.read(project.features_manifest))


def _whitenings(potential: Potential) -> list[Whitening]:
    """Of each element."""
    return [potential.whitenings[potential.subnet_of[element]] for element in potential.elements]


def _told(parameters: ParameterSet) -> str:
    return f"{parameters.n_features} for {', '.join(parameters.elements)}, cutoff {parameters.cutoff:g} Å"
