"""Libraries that take long to load."""

from __future__ import annotations

# what `--help` must not wait for
HEAVY = (
    "ase",
    "dask",
    "distributed",
    "keras",
    "keras_tuner",
    "matplotlib",
    "numba",
    "numpy",
    "pandas",
    "pydantic",
    "scipy",
    "tensorflow",
)
# what only training may wait for
TRAINING_ONLY = ("keras", "keras_tuner", "tensorflow")
