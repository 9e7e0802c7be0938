"""Coverage-guided fuzzing of the readers of XSF and of params.json; not part of the test suite.

    pip install atheris
    python tests/fuzzing/readers.py xsf -runs=1000000 -max_len=2000
    python tests/fuzzing/readers.py parameters -runs=1000000 -max_len=4000

It ends with a traceback, and a file with the input, at the first error that is not one for users, or at the first
structure that holds what no structure may hold.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["tio2nn"]):
    from tio2nn.errors import InputError
    from tio2nn.files.strict_json import decode
    from tio2nn.io.xsf.file import iter_xsf
    from tio2nn.parameters.parameter_set import ParameterSet
    from tio2nn.parameters.presets import PRESETS, preset
    from tio2nn.structures.structure import Structure

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))
from corpus import GOOD, TEXTS


def check_message(error: InputError, place: str) -> None:
    assert str(error).startswith(place)
    assert "\n" not in str(error)


def xsf(data: bytes) -> None:
    for item in iter_xsf(data, name="fuzz", file="fuzz.xsf"):
        if isinstance(item, InputError):
            check_message(item, "fuzz.xsf:")
            continue
        assert isinstance(item, Structure)
        assert len(item.elements) == len(item.positions) > 0
        assert np.isfinite(item.positions).all()
        assert np.isfinite(item.cell).all()
        assert item.energy is None or np.isfinite(item.energy)
        assert item.forces is None or np.isfinite(item.forces).all()


def parameters(data: bytes) -> None:
    try:
        found = ParameterSet.from_json(decode(data, file="params.json"), file="params.json")
    except InputError as error:
        check_message(error, "params.json:")
        return
    assert ParameterSet.from_json(found.to_json()) == found


SEEDS = {
    "xsf": [GOOD, *(text for name, text in TEXTS.items() if name.endswith(".xsf") and len(text) < 2000)],
    "parameters": [preset(name).to_json() for name in PRESETS],
}


def main() -> None:
    name = sys.argv.pop(1)
    with tempfile.TemporaryDirectory() as folder:
        for k, seed in enumerate(SEEDS[name]):
            (Path(folder) / str(k)).write_text(seed, encoding="utf-8")
        atheris.Setup([*sys.argv, folder], {"xsf": xsf, "parameters": parameters}[name])
        atheris.Fuzz()


if __name__ == "__main__":
    main()
