"""What a fit computes on, by name."""

from __future__ import annotations

from typing import Literal, get_args

from tio2nn.errors import UsageError

Device = Literal["cpu", "gpu"]

DEVICES: tuple[Device, ...] = get_args(Device)


def known_device(name: str) -> Device:
    """The device of this name.

    Raises:
        UsageError: there is none.
    """
    for device in DEVICES:
        if device == name:
            return device
    raise UsageError(f"device: expected {' or '.join(DEVICES)}, got {name}")
