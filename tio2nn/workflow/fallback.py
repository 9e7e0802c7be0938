"""A fit whose derivatives do not fit on the GPU goes to the CPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from tio2nn.parallel.devices import Device
from tio2nn.training.device_memory import DoesNotFitError
from tio2nn.training.devices import configure_threads, without_xla

ResultT = TypeVar("ResultT")


def with_fallback(
    fit: Callable[[Device], ResultT], device: Device, threads: int, on_fallback: Callable[[str], None] | None
) -> tuple[ResultT, Device]:
    """The result of a fit, and the device that it was computed on.

    Args:
        fit: begins on a device.
        device: the one that is wanted, for which TensorFlow has been configured.
        threads: as for `configure_threads`.
        on_fallback: called with what is done in place of what was asked for, and why.
    """
    if on_fallback is not None and device == "gpu" and (reason := without_xla()) is not None:
        on_fallback(f"{reason}; each operation starts by itself there, several times slower")
    try:
        return fit(device), device
    except DoesNotFitError as error:
        if on_fallback is not None:
            on_fallback(f"{error}; training on the CPU")
    configure_threads(threads)
    return fit("cpu"), "cpu"
