from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from memory import peak_bytes
from numpy.typing import NDArray

from tio2nn.errors import InputError
from tio2nn.project import feature_store as features
from tio2nn.project.feature_store import (
    Manifest,
    Shard,
    StoredFeatures,
    file_checksum,
    plan_shards,
    read_shard,
    remove_other_shards,
    write_shard,
)

HASHES = ["aa", "bb", "cc", "dd", "ee"]
ATOMS = [3, 5, 2, 20, 1]


@pytest.fixture
def shards(monkeypatch: pytest.MonkeyPatch) -> tuple[Shard, ...]:
    """Five structures in three shards."""
    monkeypatch.setattr(features, "ATOMS_PER_SHARD", 8)
    return plan_shards("f", HASHES, ATOMS)


@given(st.lists(st.integers(1, 9000), max_size=30))
def test_shards_hold_all_structures_in_order_and_none_is_much_larger_than_planned(n_atoms: list[int]) -> None:
    planned = plan_shards("f", [str(k) for k in range(len(n_atoms))], n_atoms)
    assert [k for shard in planned for k in range(shard.first, shard.last)] == list(range(len(n_atoms)))
    for shard in planned:
        own = n_atoms[shard.first : shard.last]
        assert shard.n_atoms == sum(own)
        assert sum(own[:-1]) < features.ATOMS_PER_SHARD
    assert all(shard.n_atoms >= features.ATOMS_PER_SHARD for shard in planned[:-1])


@pytest.mark.parametrize(
    ("n_atoms", "boundaries"),
    [
        ([], []),
        ([1], [(0, 1, 1)]),
        ([8], [(0, 1, 8)]),
        ([7, 1, 7], [(0, 2, 8), (2, 3, 7)]),
        ([7, 1, 8], [(0, 2, 8), (2, 3, 8)]),
        ([3, 5, 2, 20, 1], [(0, 2, 8), (2, 4, 22), (4, 5, 1)]),
        ([9, 9, 1, 1], [(0, 1, 9), (1, 2, 9), (2, 4, 2)]),
    ],
)
def test_a_shard_ends_with_the_structure_that_fills_it(
    monkeypatch: pytest.MonkeyPatch, n_atoms: list[int], boundaries: list[tuple[int, int, int]]
) -> None:
    monkeypatch.setattr(features, "ATOMS_PER_SHARD", 8)
    planned = plan_shards("f", [str(k) for k in range(len(n_atoms))], n_atoms)
    assert [(shard.first, shard.last, shard.n_atoms) for shard in planned] == boundaries


def test_shards_of_today_are_those_of_yesterday() -> None:
    """Other names or boundaries would make all users compute their features anew."""
    planned = plan_shards("f", [str(k) for k in range(9)], [1000] * 9)
    assert planned == (
        Shard("shard-00000-5d2fab7ac7ac9abc3ed0bba0.npz", 0, 5, 5000),
        Shard("shard-00001-cf9076cb2a7acf1650a64962.npz", 5, 9, 4000),
    )


def test_the_name_of_a_shard_changes_with_what_its_content_depends_on(shards: tuple[Shard, ...]) -> None:
    assert [(shard.first, shard.last) for shard in shards] == [(0, 2), (2, 4), (4, 5)]
    assert plan_shards("f", HASHES, ATOMS) == shards
    other_parameters = plan_shards("g", HASHES, ATOMS)
    assert all(a.file != b.file for a, b in zip(shards, other_parameters, strict=True))
    other_structure = plan_shards("f", ["aa", "bb", "cc", "d2", "ee"], ATOMS)
    assert [a.file == b.file for a, b in zip(shards, other_structure, strict=True)] == [True, False, True]


def test_features_are_read_back_bit_by_bit_in_the_order_of_the_structures(
    tmp_path: Path, shards: tuple[Shard, ...]
) -> None:
    values = np.random.default_rng(0).normal(size=(31, 4))
    manifest = Manifest("f", "s", ("a", "b", "c", "d"), shards)
    row = 0
    for shard in shards:
        write_shard(tmp_path / shard.file, values[row : row + shard.n_atoms])
        row += shard.n_atoms
    stored = StoredFeatures(tmp_path, manifest)
    found = np.concatenate(list(stored))
    assert found.dtype == np.float64
    assert found.tobytes() == values.tobytes()
    offsets = np.cumsum([0, *ATOMS])
    for chosen in ([], [2], [1, 3], [0, 1, 2, 3, 4]):
        rows = list(stored.of_structures(np.array(chosen, dtype=np.int64), offsets))
        assert [row.tobytes() for row in rows] == [
            values[offsets[k] : offsets[k + 1]].tobytes() for k in chosen
        ]


def test_shards_without_any_of_the_structures_are_not_read(tmp_path: Path, shards: tuple[Shard, ...]) -> None:
    write_shard(tmp_path / shards[1].file, np.arange(22.0).reshape(22, 1))  # the others are missing
    stored = StoredFeatures(tmp_path, Manifest("f", "s", ("a",), shards))
    (rows,) = stored.of_structures(np.array([2]), np.cumsum([0, *ATOMS]))
    assert rows.tolist() == [[0.0], [1.0]]


def test_one_shard_is_held_at_a_time(tmp_path: Path) -> None:
    n, rows = 20, 500
    many = plan_shards("f", [str(k) for k in range(n)], [features.ATOMS_PER_SHARD] * n)
    assert len(many) == n
    small = tuple(replace(shard, n_atoms=rows) for shard in many)
    for shard in small:
        write_shard(tmp_path / shard.file, np.zeros((rows, 10)))
    stored = StoredFeatures(tmp_path, Manifest("f", "s", tuple("abcdefghij"), small))
    assert peak_bytes(lambda: sum(len(block) for block in stored)) < 8 * 10 * rows * n / 4


def test_only_shards_of_other_inputs_are_removed(tmp_path: Path, shards: tuple[Shard, ...]) -> None:
    others = plan_shards("g", HASHES, ATOMS)
    for shard in (*shards, *others):
        write_shard(tmp_path / shard.file, np.zeros((shard.n_atoms, 1)))
    (tmp_path / "manifest.json").write_text("{}", encoding="utf-8")
    assert remove_other_shards(tmp_path, shards) == 3
    assert {path.name for path in tmp_path.iterdir()} == {*(shard.file for shard in shards), "manifest.json"}


# --- damage -------------------------------------------------------------------------------------------------

WHOLE = Shard("shard.npz", 0, 3, 130)
# more than the 4096 bytes that zipfile reads, and so checks, at once
CONTENT = np.random.default_rng(1).normal(size=(130, 5))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("whole") / WHOLE.file
    write_shard(path, CONTENT)
    return path


def outcome(path: Path) -> NDArray[np.float64] | InputError:
    try:
        return read_shard(path.parent, replace(WHOLE, file=path.name), 5)
    except InputError as error:
        return error


def test_a_shard_with_a_wrong_bit_never_gives_wrong_features(whole: Path) -> None:
    content = whole.read_bytes()
    begin = content.index(CONTENT.tobytes())
    end = begin + CONTENT.nbytes
    damaged = whole.with_name("damaged.npz")
    for place in (*range(begin), *range(begin, end, 101), *range(end, len(content))):
        for bit in range(8):
            damaged.write_bytes(content[:place] + bytes([content[place] ^ 1 << bit]) + content[place + 1 :])
            found = outcome(damaged)
            if isinstance(found, InputError):
                assert found.file == str(damaged)
                assert found.reason.endswith(
                    f'delete it and run "tio2nn featurize -C {whole.parent.parent}" again'
                )
                assert "\n" not in str(found)
            else:
                # the bit was one that says nothing of the content, such as the time of writing
                assert not begin <= place < end
                assert found.tobytes() == CONTENT.tobytes()


@given(st.data())
def test_a_shard_that_ends_early_is_refused(whole: Path, data: st.DataObject) -> None:
    content = whole.read_bytes()
    (whole.parent / "short.npz").write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
    with pytest.raises(InputError, match=r"short\.npz: expected features, got a damaged file"):
        read_shard(whole.parent, Shard("short.npz", 0, 3, 130), 5)


def test_a_whole_shard_that_is_not_the_one_that_was_written_is_refused(whole: Path) -> None:
    known = replace(WHOLE, checksum=file_checksum(whole))
    assert read_shard(whole.parent, known, 5).tobytes() == CONTENT.tobytes()
    other = whole.with_name("other.npz")
    write_shard(other, CONTENT + 1.0)
    with pytest.raises(InputError, match="checksum differs from the manifest"):
        read_shard(whole.parent, replace(known, file="other.npz"), 5)


@pytest.mark.parametrize(
    "change",
    [
        lambda shards: shards.clear(),
        lambda shards: shards[0].update(n_atoms="130"),
        lambda shards: shards[0].update(file=5),
        lambda shards: shards[1].update(first=2),
        lambda shards: shards[0].pop("checksum"),
        lambda shards: shards[0].update(more=1),
        lambda shards: shards.append(7),
    ],
)
def test_a_manifest_of_shards_that_do_not_follow_one_another_is_refused(
    tmp_path: Path, change: Callable[[list[Any]], object]
) -> None:
    shards = (Shard("a.npz", 0, 3, 130, 1), Shard("b.npz", 3, 4, 20, 2))
    path = tmp_path / "manifest.json"
    Manifest("f", "s", ("a",), shards).write(path)
    assert Manifest.read(path).shards == shards
    content = json.loads(path.read_text("utf-8"))
    change(content["shards"])
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(
        InputError, match=r'expected a feature manifest, .*; run "tio2nn featurize -C .*" again'
    ):
        Manifest.read(path)


def test_a_shard_of_another_size_or_none_is_refused(whole: Path) -> None:
    with pytest.raises(InputError, match=r"expected features of shape \(131, 5\), got \(130, 5\); delete it"):
        read_shard(whole.parent, Shard(WHOLE.file, 0, 3, 131), 5)
    with pytest.raises(InputError, match=r"expected features of shape \(130, 6\), got \(130, 5\); delete it"):
        read_shard(whole.parent, WHOLE, 6)
    with pytest.raises(InputError, match=r'gone\.npz: expected a shard, got no file; run "tio2nn featurize'):
        read_shard(whole.parent, Shard("gone.npz", 0, 3, 130), 5)


# --- the manifest -------------------------------------------------------------------------------------------


def test_a_manifest_is_read_back(tmp_path: Path, shards: tuple[Shard, ...]) -> None:
    written = tuple(replace(shard, checksum=k) for k, shard in enumerate(shards))
    manifest = Manifest("f", "s", ("radial[Ti] eta=0.1 r_s=0", "radial[O] eta=0.1 r_s=0"), written)
    manifest.write(tmp_path / "manifest.json")
    assert Manifest.read(tmp_path / "manifest.json") == manifest
    content = json.loads((tmp_path / "manifest.json").read_text(encoding="utf-8"))
    assert (content["fingerprint"], content["unit"]) == ("f", "dimensionless")


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"fingerprint": "f"', '{"shards": [{"file": "a"}]}', '{"shards": 3}', "null"]
)
def test_what_is_no_manifest_is_refused_in_one_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "manifest.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError) as caught:
        Manifest.read(path)
    is_json = text not in ("", '{"fingerprint": "f"')
    expected = ": expected a feature manifest, got " if is_json else ":1: expected valid JSON, got "
    assert str(caught.value).startswith(f"{path}{expected}")
    assert str(caught.value).endswith(f'; run "tio2nn featurize -C {tmp_path.parent}" again')
    assert "\n" not in str(caught.value)
