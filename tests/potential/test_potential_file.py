from __future__ import annotations

import json
import pickle
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from places import OLD_PROJECTS
from potentials import POTENTIAL
from projects import ATOMIC_ENERGIES, trained_project
from projects import structures as crystals
from strategies import examples

from tio2nn.errors import InputError
from tio2nn.interfaces.ase import BehlerParrinello
from tio2nn.potential.potential import Potential
from tio2nn.project.structure_store import write_store


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A good file."""
    path = tmp_path_factory.mktemp("whole") / "potential.npz"
    POTENTIAL.save(path)
    return path


@pytest.mark.parametrize("shared", [False, True])
def test_a_saved_potential_is_the_same_to_the_last_bit(tmp_path: Path, shared: bool) -> None:
    made = POTENTIAL
    if shared:
        made = replace(
            made,
            subnet_of={"Ti": 0, "O": 0},
            whitenings=made.whitenings[:1],
            members=tuple(member[:1] for member in made.members),
        )
    made.save(tmp_path / "potential.npz")
    loaded = Potential.load(tmp_path / "potential.npz")
    for before, after in zip(made.predict(crystals()), loaded.predict(crystals()), strict=True):
        assert after.energy == before.energy
        assert after.spread == before.spread
        assert after.extrapolations == before.extrapolations
        np.testing.assert_array_equal(after.atomic_energies, before.atomic_energies)
    assert loaded.parameters == made.parameters
    assert loaded.about == made.about
    for one, other in zip(loaded.training_atoms, made.training_atoms, strict=True):
        np.testing.assert_array_equal(one.references, other.references)
        assert one.unit == other.unit
    assert [w.constant.dtype for w in loaded.whitenings] == [np.dtype(bool)] * (1 if shared else 2)


def test_the_file_stands_alone(tmp_path: Path) -> None:
    project = trained_project(tmp_path / "p", network={"shared_subnet": True})
    expected = Potential.load(project.potential_file).energy(crystals()[0])
    moved = project.potential_file.rename(tmp_path / "elsewhere.npz")
    (tmp_path / "p").rename(tmp_path / "gone")
    assert Potential.load(moved).energy(crystals()[0]) == expected
    with np.load(moved, allow_pickle=False) as content:
        assert all(content[name].dtype != object for name in content.files)


def test_a_file_that_is_replaced_is_never_half_written(tmp_path: Path, whole: Path) -> None:
    path = tmp_path / "p.npz"
    path.write_bytes(whole.read_bytes())
    broken = replace(POTENTIAL, about={"not": object()})
    with pytest.raises(TypeError):
        broken.save(path)
    assert path.read_bytes() == whole.read_bytes()
    assert [found.name for found in tmp_path.iterdir()] == ["p.npz"]


def refused(path: Path) -> str:
    """The one line that says what is wrong, behind the name of the file."""
    with pytest.raises(InputError) as caught:
        Potential.load(path)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(
        (f"{path}: expected a potential", f"{path}: no such file", f"{path}: cannot read the file")
    )
    return message.removeprefix(f"{path}: ")


@given(st.data())
def test_a_file_that_ends_early_is_refused(whole: Path, data: st.DataObject) -> None:
    content = whole.read_bytes()
    short = whole.with_name("short.npz")
    short.write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
    refused(short)


@examples(300)
@given(st.data())
def test_a_file_with_a_wrong_bit_is_refused_or_predicts_the_same(whole: Path, data: st.DataObject) -> None:
    content = bytearray(whole.read_bytes())
    # half of the places in the directory at the end, where most kinds of damage are met
    begin = data.draw(st.sampled_from((0, content.index(b"PK\x01\x02"))))
    content[data.draw(st.integers(begin, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    damaged = whole.with_name("damaged.npz")
    damaged.write_bytes(content)
    try:
        potential = Potential.load(damaged)
    except InputError:
        refused(damaged)
    else:
        # the bit was one that says nothing of the content, such as the time of writing
        assert potential.energy(crystals()[0]) == POTENTIAL.energy(crystals()[0])


def _npy(path: Path) -> None:
    with path.open("wb") as handle:
        np.save(handle, np.eye(3))


def _edited(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    """Changes the content of the file, with the header as `header` in it."""

    def edit(path: Path) -> None:
        with np.load(path) as arrays:
            content = dict(arrays)
        content["header"] = json.loads(str(content["header"]))
        change(content)
        if "header" in content:
            content["header"] = np.array(json.dumps(content["header"]))
        np.savez(path, **content)

    return edit


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (Path.unlink, "no such file"),
        (
            lambda path: path.write_text("CRYSTAL\nPRIMVEC\n", encoding="utf-8"),
            "got another kind of file, or a truncated one",
        ),
        (
            lambda path: path.write_bytes(pickle.dumps({"weights": [1, 2]})),
            "got another kind of file, or a truncated one",
        ),
        (_npy, "got another kind of file, or a truncated one"),
        (lambda path: write_store(path, crystals()[:2], reference_energies=ATOMIC_ENERGIES), "foreign file"),
        (lambda path: np.savez(path, header=np.array("no JSON")), "foreign file"),
        (_edited(lambda content: content.pop("header")), "foreign file .*header"),
        (_edited(lambda content: content.update(header=[])), "foreign file"),
        (_edited(lambda content: content.update(header={})), "foreign file .*format"),
        (_edited(lambda content: content.pop("training/0/low")), "foreign file .*training/0/low"),
        (
            _edited(lambda content: content["header"]["activations"].append([["tanh"], ["tanh"]])),
            "foreign file .*member/2/0/0/kernel",
        ),
        (
            _edited(lambda content: content["header"].update(format=99)),
            "of format 3, got format 99; a newer version of tio2nn wrote it; update tio2nn",
        ),
        (
            _edited(lambda content: content["header"].update(format=1)),
            "of format 3, got format 1; train it again with this version",
        ),
        (
            _edited(lambda content: content["header"]["activations"][1][0].__setitem__(0, "elu")),
            "a potential with known activations, got 'elu'",
        ),
        (
            _edited(lambda content: content["header"]["parameters"].update(cutof=3)),
            'valid parameters: cutof: .* did you mean "cutoff"',
        ),
    ],
    ids=[
        "missing",
        "structure file",
        "pickle",
        "one array",
        "structure store",
        "no JSON",
        "no header",
        "header a list",
        "header empty",
        "no ranges",
        "member without weights",
        "later format",
        "earlier format",
        "unknown activation",
        "unknown parameter",
    ],
)
def test_what_is_no_potential_is_refused(
    tmp_path: Path, damage: Callable[[Path], object], reason: str
) -> None:
    path = tmp_path / "potential.npz"
    POTENTIAL.save(path)
    damage(path)
    assert re.search(reason, refused(path))


def _header(change: Callable[[dict[str, Any]], object]) -> Callable[[dict[str, Any]], object]:
    return lambda content: change(content["header"])


def _with(name: str, change: Callable[[Any], Any]) -> Callable[[dict[str, Any]], object]:
    return lambda content: content.update({name: change(content[name])})


INCONSISTENT: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "kernel without a row": (_with("member/0/0/0/kernel", lambda a: a[1:]), "network 0"),
    "kernel of text": (_with("member/0/1/0/kernel", lambda a: a.astype(str)), "network 0"),
    "kernel of nan": (_with("member/1/0/0/kernel", lambda a: np.nan * a), "network 1: expected finite"),
    "long bias": (_with("member/1/0/1/bias", lambda a: np.append(a, 0.0)), "network 1"),
    "no networks": (_header(lambda header: header.update(activations=[])), "expected networks"),
    "no layers": (_header(lambda header: header["activations"][0][0].clear()), "a single output node"),
    "no reference energy": (_header(lambda header: header["reference_energies_eV"].pop("O")), "reference"),
    "reference nan": (
        _header(lambda header: header["reference_energies_eV"].update(O=float("nan"))),
        "energy of O: expected finite",
    ),
    "reference text": (_header(lambda header: header["reference_energies_eV"].update(O="x")), "energy of O"),
    "no subnet": (_header(lambda header: header["subnet_of"].pop("O")), "subnet"),
    "subnet from behind": (_header(lambda header: header["subnet_of"].update(O=-1)), "subnets"),
    "short mean": (_with("whitening/0/mean", lambda a: a[1:]), "whitening 0"),
    "matrix a number": (_with("whitening/1/matrix", lambda a: a[0, 0]), "whitening 1"),
    "constant of numbers": (_with("whitening/1/constant", lambda a: a.astype(float)), "whitening 1"),
    "references too wide": (_with("training/0/references", lambda a: np.hstack([a, a])), "atoms of Ti"),
    "no references": (_with("training/1/references", lambda a: a[:0]), "atoms of O"),
    "unit zero": (_with("training/1/unit", lambda a: 0.0 * a), "distance unit above 0 for O"),
    "compositions of three": (_with("composition_span", lambda _: np.eye(3)), "compositions"),
}


@pytest.mark.parametrize(("change", "reason"), INCONSISTENT.values(), ids=INCONSISTENT)
def test_numbers_that_do_not_fit_together_are_refused(
    tmp_path: Path, change: Callable[[dict[str, Any]], object], reason: str
) -> None:
    path = tmp_path / "potential.npz"
    POTENTIAL.save(path)
    _edited(change)(path)
    assert re.search(f"expected a potential .*{reason}", refused(path))


def test_compressed_arrays_are_refused_for_they_could_fill_the_memory(tmp_path: Path) -> None:
    path = tmp_path / "potential.npz"
    np.savez_compressed(path, header=np.zeros(10_000_000))
    assert "compressed arrays" in refused(path)


def test_a_folder_is_refused(tmp_path: Path) -> None:
    assert "got a directory" in refused(tmp_path)


def test_a_potential_of_format_2_measures_distances_with_the_matrix_of_its_networks() -> None:
    path = OLD_PROJECTS / "0.1.0" / "model" / "potential.npz"
    with np.load(path) as content:
        assert json.loads(str(content["header"]))["format"] == 2
        matrices = [content[f"whitening/{k}/matrix"] for k in range(2)]
        assert not [name for name in content.files if name.endswith("metric")]
    for whitening, matrix in zip(Potential.load(path).whitenings, matrices, strict=True):
        np.testing.assert_array_equal(whitening.metric, matrix)
        np.testing.assert_array_equal(whitening.matrix, matrix)


def test_a_folder_is_read_by_another_function(tmp_path: Path) -> None:
    (tmp_path / "nnp").mkdir()
    message = "nnp: expected a potential written by tio2nn train, got a directory; tio2nn.read_n2p2 reads n2p2 folders"
    for load in (Potential.load, BehlerParrinello):
        with pytest.raises(InputError, match=re.escape(message)):
            load(tmp_path / "nnp")
