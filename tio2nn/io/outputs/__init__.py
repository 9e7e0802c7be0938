"""Output files of quantum-mechanical programs."""
