"""The command merge."""

from __future__ import annotations

from pathlib import Path

import pytest
from command_line import invoke, refusal, rows
from export.exported import CRYSTALS, potential_for
from projects import PARAMETERS, write_files

from tio2nn.potential.potential import Potential


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A committee in the current directory."""
    monkeypatch.chdir(tmp_path)
    potential_for(PARAMETERS, CRYSTALS, members=3).save("committee.npz")
    return tmp_path


def test_what_is_written_predicts_as_the_committee_and_can_be_exported(here: Path) -> None:
    _, err = invoke("merge", "--potential", "committee.npz", "one.npz")
    assert err == "wrote one network of 18-15 nodes to one.npz: the mean of 3 networks, without spread\n"
    assert Potential.load("one.npz").about["merged"] == {"members": 3}
    (file, *_) = write_files(here / "files", CRYSTALS)
    found = [
        rows(invoke("predict", "--potential", name, file)[0])[-1] for name in ("committee.npz", "one.npz")
    ]
    assert float(found[0][2]) == pytest.approx(float(found[1][2]), rel=1e-12)
    invoke("export", "--potential", "one.npz", "nnp")
    invoke("export", "--potential", "committee.npz", "nnps")
    # a committee in the format of n2p2 is one, too
    _, err = invoke("merge", "--potential", "nnps", "again.npz")
    assert "the mean of 3 networks" in err


def test_nothing_is_written_over() -> None:
    before = Path("committee.npz").read_bytes()
    message = refusal("merge", "--potential", "committee.npz", "committee.npz", code=3)
    assert message == "committee.npz: expected a new file, got one that exists"
    assert Path("committee.npz").read_bytes() == before
    invoke("merge", "--potential", "committee.npz", "one.npz")
    message = refusal("merge", "--potential", "one.npz", "two.npz", code=3)
    assert message == "one.npz: expected a committee, got one network"
    assert not Path("two.npz").exists()
