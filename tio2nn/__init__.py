"""Behler-Parrinello neural-network potentials from folders of quantum-mechanical structures."""

__version__ = "0.1.0"
