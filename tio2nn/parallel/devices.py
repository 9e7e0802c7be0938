"""What a fit computes on, by name."""

from __future__ import annotations

from typing import Literal, get_args

from tio2nn.errors import UsageError

Device = Literal["cpu", "gpu"]

DEVICES: tuple[Device, ...] = get_args(Device)


def known_device(name: str, scheduler: str | None = None) -> Device:
    """The device of this name.

    Args:
        name: from the command line.
        scheduler: of a cluster on which to work, if any; its workers have the CPU.

    Raises:
        UsageError: there is none.
    """
    if name != "cpu" and scheduler is not None:
        raise UsageError(
            "--device cannot be combined with --scheduler; in a job array, train --member takes it"
        )
    for device in DEVICES:
        if device == name:
            return device
    raise UsageError(f"device: expected {' or '.join(DEVICES)}, got {name}")
