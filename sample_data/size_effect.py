"""Measure what sampling only the Γ point does to the energies: the tables of README.md, in about eight minutes.

    python sample_data/size_effect.py

An undistorted crystal has one energy per atom. A program that samples only the Γ point finds another one in every
supercell, and the differences are its error. The first table takes the cells that are written, then the supercell in
which `make.py` labels the phase, then larger ones. The second does the same for distorted crystals: the part of the
error that all of them share does no harm to a fit, the scatter around it does.
"""

from __future__ import annotations

import os
from dataclasses import replace

import numpy as np
from ase import Atoms
from ase.build import make_supercell
from make import PHASES, SEED, Phase, candidates, gfn1_xtb, label, shortest_vector, template

# atoms of the larger supercell that the labelled one is held against
LARGER = 96
# repetitions of rutile's customary cell that follow it further; the last takes as long as all cells of a phase
FURTHER = ((2, 2, 2), (2, 2, 3), (3, 3, 3))
# distorted crystals of each kind in the second table: the first of them, evenly spaced
KINDS = ("volume", "strain", "thermal")
PER_KIND = 2


def row(phase: Phase, what: str, atoms: Atoms) -> None:
    energy, _ = gfn1_xtb(atoms)
    distance = shortest_vector(atoms.cell[:])
    print(
        f"| {phase.name} | {what} | {len(atoms)} | {distance:.2f} | {energy / len(atoms):.4f} |", flush=True
    )


def undistorted() -> None:
    """Energy per atom of each crystal in cells of different size."""
    print("| phase | cell | atoms | nearest image, Å | eV/atom |")
    print("|---|---|---|---|---|")
    for phase in PHASES:
        for n_atoms in phase.small + phase.large:
            row(phase, "as written", template(phase, n_atoms)[0])
        for what, n_atoms in (("labelled in", phase.labelled), ("larger", LARGER)):
            row(phase, what, make_supercell(*template(replace(phase, labelled=n_atoms), phase.small[0])))
        if phase.name == "rutile":
            for repeats in FURTHER:
                row(
                    phase, "{} × {} × {}".format(*repeats), template(phase, phase.small[0])[0].repeat(repeats)
                )


def distorted() -> None:
    """Energies in the labelled supercell minus those in a larger one, for distorted crystals in their smallest cell."""
    print(
        "| phase | structures | mean difference, meV/atom | scatter, meV/atom | spread of the energies, meV/atom |"
    )
    print("|---|---|---|---|---|")
    everything = list(candidates(SEED))
    for phase in PHASES:
        _, repeat = template(replace(phase, labelled=LARGER), phase.small[0])
        chosen = []
        for kind in KINDS:
            fitting = [
                c for c in everything if (c.phase, c.kind, len(c.atoms)) == (phase.name, kind, phase.small[0])
            ]
            chosen += fitting[:: max(1, len(fitting) // PER_KIND)][:PER_KIND]
        both = np.array([[label(c).energy, label(replace(c, repeat=repeat)).energy] for c in chosen])
        both *= 1000.0 / phase.small[0]
        both = both[np.isfinite(both).all(axis=1)]
        difference = both[:, 0] - both[:, 1]
        print(
            f"| {phase.name} | {len(both)} | {difference.mean():.0f} | {difference.std():.0f} "
            f"| {both[:, 1].std():.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    os.environ["OMP_NUM_THREADS"] = "1"
    undistorted()
    print()
    distorted()
