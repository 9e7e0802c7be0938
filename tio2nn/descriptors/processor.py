"""The processor that this process compiles for. Machine code and the last bits of numbers depend on it."""

from __future__ import annotations

import hashlib
import os
import platform
from pathlib import Path

from llvmlite import binding  # type: ignore[import-untyped]


def instruction_set() -> str:
    """Hexadecimal digest of the processor model and its instructions, as Numba compiles for them."""
    name = os.environ.get("NUMBA_CPU_NAME") or binding.get_host_cpu_name()
    features = os.environ.get("NUMBA_CPU_FEATURES")
    if features is None:
        features = binding.get_host_cpu_features().flatten()
    return hashlib.blake2b(f"{name} {features}".encode(), digest_size=6).hexdigest()


def model_name() -> str:
    """What the processor is called."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
