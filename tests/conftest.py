"""What all tests share: a quiet environment, a few small structures, the folder of the real data."""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

# before anything imports matplotlib or TensorFlow, in this process or a child
os.environ["MPLBACKEND"] = "Agg"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import pytest
from hypothesis import settings

from tio2nn.structures.structure import Structure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# a shell script that runs the tests in the background lets them, and what they start, ignore Ctrl-C
signal.signal(signal.SIGINT, signal.default_int_handler)

# no deadline: the first example may wait for the compiler
settings.register_profile("thorough", deadline=None)
settings.register_profile("quick", deadline=None, max_examples=25)


def pytest_make_parametrize_id(val: object) -> str | None:
    """A name for bytes that stays the same: those of a gzip file tell when it was made."""
    return f"{len(val)}-bytes" if isinstance(val, bytes) else None


def pytest_configure(config: pytest.Config) -> None:
    """Random tests try fewer examples where slow tests are left out."""
    settings.load_profile("quick" if config.option.markexpr == "not slow" else "thorough")


@pytest.fixture(scope="module", autouse=True)
def settled_heap() -> None:
    """Keep the garbage collector from scanning what earlier modules left: TensorFlow never frees the graphs of fits."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def test_data() -> Path:
    """The folder with the structures and reference values that are too large for the repository."""
    if "TIO2NN_TEST_DATA" not in os.environ:
        pytest.skip("TIO2NN_TEST_DATA names no folder")
    return Path(os.environ["TIO2NN_TEST_DATA"])


@pytest.fixture
def eager() -> Iterator[None]:
    """Without compiling a graph, which takes longer than two epochs of one batch."""
    import tensorflow as tf

    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


@pytest.fixture
def skew_crystal() -> Structure:
    """Five atoms in a cell whose vectors are far from orthogonal; some atoms lie outside the cell."""
    positions = np.array(
        [[0.1, 0.2, 0.0], [2.0, 0.3, 0.4], [-1.5, 2.2, 0.9], [5.2, 1.4, 2.8], [1.0, -1.7, 2.9]]
    )
    cell = np.array([[4.1, 0.0, 0.0], [1.9, 3.7, 0.0], [-1.2, 1.6, 4.4]])
    return Structure("skew", ("Ti", "O", "O", "Ti", "O"), positions, cell, file="skew.xsf")


@pytest.fixture
def thin_crystal() -> Structure:
    """Two atoms in a cell 0.85 Å thin: five images each way within 4.5 Å."""
    positions = np.array([[0.0, 0.0, 0.0], [0.4, 1.6, 1.5]])
    cell = np.array([[0.85, 0.0, 0.0], [0.3, 3.4, 0.0], [0.2, 0.5, 3.1]])
    return Structure("thin", ("Ti", "O"), positions, cell, file="thin.xsf")


@pytest.fixture
def slab() -> Structure:
    """Three atoms, periodic along the first two vectors; the third is no more than what the file says."""
    positions = np.array([[0.0, 0.0, 10.0], [1.1, 1.4, 11.2], [2.2, 0.3, 8.9]])
    cell = np.array([[3.1, 0.2, 0.0], [-0.8, 2.9, 0.0], [0.0, 0.0, 0.0]])
    return Structure("slab", ("Ti", "O", "O"), positions, cell, (True, True, False), file="slab.xsf")


@pytest.fixture
def molecule() -> Structure:
    """Four atoms without a cell."""
    positions = np.array([[0.0, 0.0, 0.0], [1.7, 0.1, 0.0], [-0.4, 1.6, 0.3], [0.2, -0.3, 1.9]])
    free = (False, False, False)
    return Structure(
        "molecule", ("Ti", "O", "O", "O"), positions, np.zeros((3, 3)), free, file="molecule.xsf"
    )


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that were made."""
    from matplotlib.figure import Figure

    from tio2nn.evaluation import plots

    figures: list[Figure] = []

    class Recorded(Figure):  # type: ignore[misc]
        def __init__(self, *args: object, **kwargs: object) -> None:
            super().__init__(*args, **kwargs)
            figures.append(self)

    monkeypatch.setattr(plots, "Figure", Recorded)
    return figures
