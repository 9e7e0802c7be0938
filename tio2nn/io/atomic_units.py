"""The atomic units of all readers, so that no two of them disagree: CODATA 2014, as in ASE."""

HARTREE = 27.211386024367243  # eV
BOHR = 0.5291772105638411  # Å
