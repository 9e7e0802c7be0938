"""What refuses a damaged file of a project names the command that makes it again, ready to be pasted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tio2nn.errors import InputError
from tio2nn.project.feature_store import Manifest, Shard, read_shard
from tio2nn.project.jacobian_store import JacobianLayout, open_jacobian
from tio2nn.project.project import Project
from tio2nn.project.structure_store import read_store
from tio2nn.tuning.ledger import Ledger
from tio2nn.tuning.trials import read_best

SHARD = Shard("shard.npz", 0, 1, 8)
LAYOUT = JacobianLayout("", "", 1, "jacobian.f32", ())

# the file, what reads it, and the command
READERS: dict[str, tuple[Callable[[Project], Path], Callable[[Path], object], str]] = {
    "structures": (lambda p: p.structures_file, read_store, "tio2nn extract{} SOURCE..."),
    "features": (lambda p: p.features_manifest, Manifest.read, "tio2nn featurize{}"),
    "a shard": (
        lambda p: p.features_directory / SHARD.file,
        lambda path: read_shard(path.parent, SHARD, 1),
        "tio2nn featurize{}",
    ),
    "a table of derivatives": (
        lambda p: p.jacobian_table,
        JacobianLayout.read,
        "tio2nn featurize{} --forces",
    ),
    "derivatives": (
        lambda p: p.features_directory / LAYOUT.file,
        lambda path: open_jacobian(path.parent, LAYOUT),
        "tio2nn featurize{} --forces",
    ),
    "the best trial": (
        lambda p: p.best_trial_file,
        lambda path: read_best(path, Project(path.parent.parent).command("tune")),
        "tio2nn tune{}",
    ),
    "the ledger of trials": (
        lambda p: p.trial_ledger_file,
        lambda path: Ledger(path, Project(path.parent.parent).command("tune")),
        "tio2nn tune{}",
    ),
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize(("root", "option"), [("", ""), ("p", " -C p"), ("two words/p", " -C 'two words/p'")])
def test_a_damaged_file_is_refused_with_a_command_to_paste(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reader: str, root: str, option: str
) -> None:
    monkeypatch.chdir(tmp_path)
    locate, read, command = READERS[reader]
    file = locate(Project(root))
    file.parent.mkdir(parents=True)
    file.write_text("{}", encoding="utf-8")
    with pytest.raises(InputError) as caught:
        read(file)
    assert caught.value.file == str(file)
    assert f'run "{command.format(option)}" again' in caught.value.reason
