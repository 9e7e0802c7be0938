"""Structures and what follows from them alone: geometry, groups, audit, reference energies, split."""
