from __future__ import annotations

from pathlib import Path

from tio2nn.files.digests import digest, digest_of, digest_of_file


def test_digests_are_those_that_projects_hold() -> None:
    """Another digest would make all parts of all projects stale."""
    assert digest(b"") == "b8e1dda3ac0aa3820ad2990b"


def test_a_sequence_of_other_parts_has_another_digest(tmp_path: Path) -> None:
    assert digest_of(["a", "b"]) == digest(b"a\nb")
    assert len({digest_of(parts) for parts in (["a", "b"], ["b", "a"], ["ab"], ["a"], [])}) == 5
    file = tmp_path / "file"
    file.write_bytes(b"a\nb")
    assert digest_of_file(file) == digest_of(["a", "b"])
