"""The verb export, called from Python."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from export.exported import potential_for
from projects import PARAMETERS, structures

from tio2nn.errors import InputError
from tio2nn.export.read_n2p2 import read_n2p2
from tio2nn.workflow.export import export


def test_the_folder_and_its_source_may_be_text(tmp_path: Path) -> None:
    potential = potential_for(PARAMETERS, structures(6))
    first = export(potential, str(tmp_path / "first"))
    assert first.directory == tmp_path / "first"
    assert first.readme.is_file()
    again = export(
        read_n2p2(os.fspath(first.directory)),
        os.fspath(tmp_path / "again"),
        source=os.fspath(tmp_path / "first"),
    )
    assert (again.directory / "input.nn").is_file()
    with pytest.raises(InputError, match="expected a directory apart from that of the potential"):
        export(potential, str(tmp_path), source=str(tmp_path / "first"))
