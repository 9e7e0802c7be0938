"""Compiled loops: arrays and named tuples of arrays in, arrays out."""
