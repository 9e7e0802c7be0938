"""Symmetry functions: an atom's neighborhood as numbers that rotations and permutations leave alone."""
