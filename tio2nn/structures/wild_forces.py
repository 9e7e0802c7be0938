"""Wild forces of a structure in a set that is too small for gross outliers."""

from __future__ import annotations

import numpy as np

from tio2nn.structures.audit import Audit
from tio2nn.structures.outliers import FEWEST, GROSS_FORCE, GROSS_FORCE_FACTOR


def wild_among_few(findings: Audit) -> str | None:
    """One line on a structure among few whose forces are far beyond those of the others; None if there is none."""
    known = np.flatnonzero(~np.isnan(findings.max_forces))
    if len(findings.names) >= FEWEST or len(known) < 2:
        return None
    second, first = known[np.argsort(findings.max_forces[known])[-2:]].tolist()
    largest, others = float(findings.max_forces[first]), float(findings.max_forces[second])
    if largest <= max(GROSS_FORCE, GROSS_FORCE_FACTOR * others):
        return None
    return (
        f"forces of {findings.names[first]} reach {largest:,.0f} eV/Å, those of the others {others:.3g} eV/Å: check "
        "its unit, and whether its calculation converged"
    )
