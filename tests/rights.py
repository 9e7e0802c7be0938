"""How root is bound by permissions, as others are."""

from __future__ import annotations

import ctypes
import os
import subprocess

_PR_CAPBSET_DROP = 24  # of <linux/prctl.h>
_CAP_DAC_OVERRIDE, _CAP_DAC_READ_SEARCH, _CAP_FOWNER = 1, 2, 3  # of <linux/capability.h>


def give_up_rights() -> None:
    """What root may do in spite of permissions, the program that starts next may not."""
    libc = ctypes.CDLL(None, use_errno=True)
    for capability in (_CAP_DAC_OVERRIDE, _CAP_DAC_READ_SEARCH, _CAP_FOWNER):
        if libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "prctl")


def can_give_up_rights() -> bool:
    """Whether `give_up_rights` works here; it needs root, of Linux, that may give them up."""
    if os.geteuid() != 0:
        return False
    try:
        subprocess.run(["true"], preexec_fn=give_up_rights, check=True)
    except (OSError, subprocess.SubprocessError):
        return False
    return True
