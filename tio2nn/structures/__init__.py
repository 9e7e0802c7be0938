"""Structures, and what can be said of them as they are: geometry, groups, audit, reference energies, split."""
