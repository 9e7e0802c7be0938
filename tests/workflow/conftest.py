"""What the tests of students share."""

from __future__ import annotations

from pathlib import Path

import pytest
from workflow.students import three_networks


@pytest.fixture(scope="session")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three networks of 8-8 nodes; not to be changed."""
    return three_networks(tmp_path_factory.mktemp("teacher") / "p")
