"""Behler-Parrinello neural-network potentials from folders of quantum-mechanical structures."""
