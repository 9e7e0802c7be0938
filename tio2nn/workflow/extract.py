"""The verb extract: read structure files into the energies table and the structure store."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from tio2nn.errors import InputError
from tio2nn.files.atomic import atomic_write
from tio2nn.files.paths import AnyPath
from tio2nn.files.tables import write_csv
from tio2nn.io.electronic_states import ElectronicStates
from tio2nn.io.labels import ReadOptions, Remarks
from tio2nn.io.read import read_structures
from tio2nn.parallel.progress import Track, silent
from tio2nn.parameters.draft import Draft
from tio2nn.parameters.parameter_set import ParameterSet
from tio2nn.parameters.presets import in_published_order
from tio2nn.project.facts import needs_derivatives
from tio2nn.project.given_weights import WEIGHT, given_weights
from tio2nn.project.named import project_of
from tio2nn.project.project import Project
from tio2nn.project.structure_store import read_store, write_store
from tio2nn.structures.audit import Audit, audit, compositions
from tio2nn.structures.coverage import rare_elements
from tio2nn.structures.energy_check import NOTHING_STRANGE, EnergyFindings, check_energies
from tio2nn.structures.energy_label import EnergyDecision, EnergyLabel, decided, labeled, plain_energy
from tio2nn.structures.force_audit import NOTHING_WRONG, ForceAudit
from tio2nn.structures.names import natural_key, sorted_by_name
from tio2nn.structures.reference_energies import ReferenceEnergies
from tio2nn.structures.stress import GPA
from tio2nn.structures.stress_audit import StressAudit
from tio2nn.structures.structure import CONFIG_WEIGHT, Extras, Structure
from tio2nn.structures.unit_constants import MixedConstants, mixed_constants
from tio2nn.structures.wild_forces import wild_among_few
from tio2nn.structures.zero_forces import message_of_frozen, without_placeholders
from tio2nn.workflow.isolated_atoms import (
    are_references,
    energies_of_atoms,
    is_isolated_atom,
    remark_on_unused,
    with_reference_energies,
)


@dataclass(frozen=True)
class ExtractSummary:
    """Result of an extraction.

    Attributes:
        n_structures: number of accepted structures.
        rejected: why files, or frames of files, were rejected, in the order of the files.
        audit: audit of the accepted structures; None if there are none. Then the project stays as it is; one without
            structures receives `rejected.csv`.
        n_foreign: number of structures rejected for their elements.
        foreign_elements: those elements, in alphabetical order.
        remarks: on labels, charges and spins of accepted structures that were ignored, and on zero forces of frozen
            atoms, one line each.
        forces: what energy differences say of the forces.
        wild_forces: a line on forces far beyond those of the others, in a set too small for gross outliers, or "".
        stresses: what energies and forces say of the stresses; None if no structure has a stress.
        constants: energies that were converted with different constants; None if none are known to be.
        n_weights: number of structures with a weight that the user gave in the energies table that was replaced.
        weights_lost: names with such a weight that are not among the structures any more.
        energies: which energy is learned, and how far apart the two are; None if no structure has a free energy.
        choices: which symmetry functions were chosen and why; empty if the parameters had theirs.
        strange_energies: what is strange about the energies by themselves.
        n_zero_forces: number of structures whose forces are zeros in place of unknown ones; they were left out.
    """

    n_structures: int
    rejected: tuple[InputError, ...]
    audit: Audit | None
    n_foreign: int = 0
    foreign_elements: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    forces: ForceAudit = NOTHING_WRONG
    wild_forces: str = ""
    choices: tuple[tuple[str, str], ...] = ()
    energies: EnergyDecision | None = None
    stresses: StressAudit | None = None
    constants: MixedConstants | None = None
    n_weights: int = 0
    weights_lost: tuple[str, ...] = ()
    strange_energies: EnergyFindings = NOTHING_STRANGE
    n_zero_forces: int = 0

    @property
    def doubts(self) -> list[str]:
        """Labels that are wrong, as in `LabelNotes`: fits that may choose leave them out, except energies."""
        return _doubts(self.forces, self.stresses, self.strange_energies)


def extract(
    project: Project | AnyPath,
    sources: AnyPath | Iterable[AnyPath],
    *,
    parameters: ParameterSet | Draft | None = None,
    limit: int | None = None,
    stdin: Iterable[str] | None = None,
    options: ReadOptions | None = None,
    isolated_atoms: bool = False,
    track: Track = silent,
) -> ExtractSummary:
    """Read structures, reject unusable ones, audit the rest, and write the energies table and the store.

    The energies table is written last, so that every structure in it is in the store. Weights that the user gave in
    the table that it replaces are kept, by name of structure. A draft is completed with functions chosen for the
    structures, and written to `params.json`.

    Args:
        project: project to write to, or its directory, which then needs a `params.json`.
        sources: as for `tio2nn.io.read.read_structures`.
        parameters: which elements to accept, and their reference energies; by default those of the project, and
            every element, with fitted reference energies, if it has none.
        limit: number of accepted structures to keep, evenly spaced in order of name; by default all.
        stdin: lines to read for the source "-".
        options: how to read structure files.
        isolated_atoms: take reference energies from isolated atoms, write them to `params.json`, leave the atoms out,
            as is done with those whose energies `params.json` has.
        track: reports progress, one step per structure.

    Raises:
        InputError: no structure has a key named in the options, no functions can be chosen for these structures, or a
            weight in the energies table to be replaced cannot be used.
        MissingInputError: there is no project in this directory.
        OSError: a file cannot be written.
        TypeError, ValueError: an argument of a wrong kind.
    """
    project = project_of(project)
    if parameters is None and project.parameters_file.exists():
        parameters = project.parameters_or_draft()
    elements = None if parameters is None else parameters.elements
    options = options or ReadOptions()
    given = given_weights(project.energies_file)
    structures: list[Structure] = []
    rejected: list[InputError] = []
    foreign: list[set[str]] = []
    remarks, states = Remarks(), ElectronicStates()
    with track("reading structures", 0) as advance:
        # decided below, for all
        reading = replace(options, energy="auto")
        for item in read_structures(sources, stdin=stdin, options=reading, errors="yield"):
            if isinstance(item, InputError):
                rejected.append(item)
            elif item.energy is None:
                rejected.append(item.error(item.extras.no_energy))
            elif elements is not None and (others := item.composition.keys() - set(elements)):
                foreign.append(others)
                got = ", ".join(sorted(others))
                rejected.append(item.error(f"expected the elements {', '.join(elements)}, got {got}"))
            else:
                remarks.add(item)
                states.add(item)
                structures.append(replace(item, extras=Extras()))
            advance(1)
    label = decided(structures, options.energy)
    decision = EnergyDecision.of(structures, label)
    structures = sorted_by_name(_labeled(structures, label, rejected))
    atoms = [structure for structure in structures if is_isolated_atom(structure)]
    known_energies = _given_reference_energies(parameters)
    if not isolated_atoms and known_energies is None and (remark := remark_on_unused(atoms)):
        remarks.add_line(remark)
    if isolated_atoms or are_references(atoms, known_energies):
        structures = [structure for structure in structures if not is_isolated_atom(structure)]
    if isolated_atoms:
        known = parameters or project.parameters_or_draft()
        parameters = with_reference_energies(project, energies_of_atoms(atoms, structures, known))
    if limit is not None and limit < len(structures):
        structures = [structures[k * len(structures) // limit] for k in range(limit)]
    structures, n_zero_forces = without_placeholders(structures)
    rejected.sort(key=lambda error: (natural_key(error.file or ""), error.line or error.frame or 0))
    lost: tuple[str, ...] = ()
    findings = stresses = constants = None
    strange, forces = NOTHING_STRANGE, NOTHING_WRONG
    if structures:
        reference = reference_energies_of(structures, parameters)
        lost = tuple(sorted(given.keys() - {structure.name for structure in structures}, key=natural_key))
        given = {name: weight for name, weight in given.items() if name not in lost}
        # the store has the weights of the files; a user may take back what was given
        findings = audit([replace(s, weight=given.get(s.name, s.weight)) for s in structures], reference)
        strange = check_energies(
            findings,
            compositions(structures, reference.elements),
            np.array([structure.energy for structure in structures], dtype=np.float64),
        )
        forces = ForceAudit.of(structures, findings.groups)
        constants = mixed_constants(structures, findings.groups.duplicate_of.tolist())
        stresses = StressAudit.of(structures, forces_agree=forces.agree)
        write_store(
            project.structures_file,
            structures,
            groups=findings.group_names,
            reference_energies=findings.reference.as_dict(),
            label=label,
            doubts=_doubts(forces, stresses, strange),
        )
    if findings is not None or not project.energies_file.exists():
        reasons = [[e.source, e.line or "", e.reason] for e in rejected]
        write_csv(project.rejected_file, ["file", "line", "reason"], reasons)
    if findings is not None:
        write_csv(project.energies_file, *_energies_table(structures, findings, given))
    return ExtractSummary(
        n_structures=len(structures),
        rejected=tuple(rejected),
        audit=findings,
        n_foreign=len(foreign),
        foreign_elements=tuple(sorted(set().union(*foreign))),
        remarks=(
            *remarks.lines(),
            *states.messages({structure.name for structure in structures}),
            *filter(None, [rare_elements(s.composition for s in structures), message_of_frozen(structures)]),
        ),
        forces=forces,
        wild_forces="" if findings is None else wild_among_few(findings) or "",
        choices=_completed(project, parameters, track)
        if structures and isinstance(parameters, Draft)
        else (),
        energies=decision,
        stresses=stresses,
        constants=constants,
        n_weights=len(given) if structures else 0,
        weights_lost=lost,
        strange_energies=strange,
        n_zero_forces=n_zero_forces,
    )


def _doubts(forces: ForceAudit, stresses: StressAudit | None, strange: EnergyFindings) -> list[str]:
    """Which labels are wrong, for `write_store`; energies per atom are no fault of the others."""
    energies = ["energies"] if forces.per_atom or strange.are_wrong else []
    if forces.are_wrong:
        # then stresses could not be compared
        return [*energies, "forces", "stress"]
    return [*energies, stresses.doubt] if stresses is not None and stresses.doubt else energies


def _labeled(
    structures: Iterable[Structure], label: EnergyLabel, rejected: list[InputError]
) -> Iterator[Structure]:
    """The structures that have the energy that was decided on."""
    for structure in structures:
        item = labeled(structure, label)
        if isinstance(item, InputError):
            rejected.append(item)
        else:
            yield item


def _given_reference_energies(parameters: ParameterSet | Draft | None) -> Mapping[str, float] | None:
    settings = parameters.settings if isinstance(parameters, Draft) else parameters
    return None if settings is None else settings.reference_energies


def _completed(project: Project, draft: Draft, track: Track) -> tuple[tuple[str, str], ...]:
    """Choose symmetry functions for the extracted structures, write them to `params.json`, and say why."""
    from tio2nn.parameters.choose_functions import choose_functions, explained
    from tio2nn.project.neighborhoods import statistics
    from tio2nn.workflow.range_of_forces import reaching_as_far_as_forces

    store = read_store(project.structures_file)
    seen = statistics(store, draft.elements or in_published_order(store.elements))
    choice = choose_functions(seen)
    if needs_derivatives(draft.settings, store):
        choice = reaching_as_far_as_forces(choice, seen, store, draft.settings, track)
    parameters, text = draft.completed(choice)
    with atomic_write(project.parameters_file) as handle:
        handle.write(text)
    return tuple(explained(seen, choice, parameters))


def reference_energies_of(
    structures: Sequence[Structure], parameters: ParameterSet | Draft | None
) -> ReferenceEnergies:
    """The reference energies of the parameters; by default fitted to the structures."""
    given = _given_reference_energies(parameters)
    elements = tuple(sorted({element for structure in structures for element in structure.composition}))
    if given is None:
        energies = np.array([structure.energy for structure in structures], dtype=np.float64)
        return ReferenceEnergies.fit(elements, compositions(structures, elements), energies)
    return ReferenceEnergies.given({element: given[element] for element in elements})


def _energies_table(
    structures: Sequence[Structure], findings: Audit, given: Mapping[str, float]
) -> tuple[list[str], Iterator[list[object]]]:
    """Header and rows, the latter generated one by one. Energies are written with all digits, the rest is rounded.

    Args:
        given: weights that the user gave, by name.
    """
    elements = findings.reference.elements
    header = [
        "structure",
        "file",
        "n_atoms",
        *(f"n_{element}" for element in elements),
        "energy_eV",
        "energy_eV_per_atom",
        "cohesive_eV_per_atom",
        "max_force",
        "min_distance",
        "group",
        "duplicate_of",
        "outlier",
    ]
    optional = [column for column, (_, is_there) in _OPTIONAL.items() if any(map(is_there, structures))]
    rows = _rows(structures, findings, optional)
    if not given:
        return [*header, *optional], rows
    weights = (given.get(structure.name, "") for structure in structures)
    return [*header, *optional, WEIGHT], ([*row, weight] for row, weight in zip(rows, weights, strict=True))


def _tension(structure: Structure) -> float | None:
    """A third of the trace of the stress, GPa."""
    return None if structure.stress is None else GPA * float(np.trace(structure.stress)) / 3.0


# columns that are there if any structure has them: values, and which structures have one
_OPTIONAL: dict[str, tuple[Callable[[Structure], float | str | None], Callable[[Structure], bool]]] = {
    "plain_energy_eV": (plain_energy, lambda s: s.free_energy is not None),
    "free_energy_eV": (lambda s: s.free_energy, lambda s: s.free_energy is not None),
    "tension_GPa": (_tension, lambda s: s.stress is not None),
    "config_type": (lambda s: s.config_type, lambda s: bool(s.config_type)),
    CONFIG_WEIGHT: (lambda s: s.weight, lambda s: s.weight != 1.0),
}


def _rows(
    structures: Sequence[Structure], findings: Audit, optional: Sequence[str]
) -> Iterator[list[object]]:
    columns = zip(
        structures,
        compositions(structures, findings.reference.elements).tolist(),
        findings.cohesive.tolist(),
        findings.max_forces.tolist(),
        findings.closest.distances.tolist(),
        findings.group_names,
        findings.duplicates,
        findings.outliers,
        strict=True,
    )
    for structure, counts, cohesive, force, distance, group, duplicate, outlier in columns:
        n_atoms, energy = structure.n_atoms, structure.energy or 0.0
        numbers = [n_atoms, *counts, repr(energy), repr(energy / n_atoms), repr(cohesive)]
        rounded = [f"{number:.6f}" if math.isfinite(number) else "" for number in (force, distance)]
        values = [_OPTIONAL[column][0](structure) for column in optional]
        more = ["" if value is None else value if isinstance(value, str) else repr(value) for value in values]
        yield [structure.name, structure.file, *numbers, *rounded, group, duplicate, outlier, *more]
