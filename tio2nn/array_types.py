"""Types of arrays, for annotations everywhere."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
Float32Array = NDArray[np.float32]
IntArray = NDArray[np.int64]
AnyIntArray = NDArray[np.integer[Any]]
BoolArray = NDArray[np.bool_]
