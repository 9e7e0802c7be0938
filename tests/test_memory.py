from __future__ import annotations

import os
from pathlib import Path

import pytest

from tio2nn.errors import UsageError
from tio2nn.memory import free_memory, memory_for_derivatives, usable_memory

PHYSICAL = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def machine(root: Path, cgroup: str, limits: dict[str, str]) -> Path:
    """A file system with the cgroup of this process, and limits by their paths below sys/fs/cgroup."""
    for path, text in {
        "proc/self/cgroup": cgroup,
        **{f"sys/fs/cgroup/{k}": v for k, v in limits.items()},
    }.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(f"{text}\n", encoding="utf-8")
    return root


@pytest.mark.parametrize(
    ("cgroup", "limits", "expected"),
    [
        ("0::/", {}, PHYSICAL),
        ("0::/job/step", {"job/step/memory.max": "max", "job/memory.max": "max"}, PHYSICAL),
        ("0::/job/step", {"job/step/memory.max": "max", "job/memory.max": "1000000"}, 1_000_000),
        ("0::/", {"memory.max": "2000000"}, 2_000_000),
        (
            "3:cpu,cpuacct:/x\n2:memory:/job\n0::/",
            {
                "memory/job/memory.limit_in_bytes": "3000000",
                "memory/memory.limit_in_bytes": "9223372036854771712",
            },
            3_000_000,
        ),
    ],
)
def test_the_limits_of_all_cgroups_that_a_process_lies_in_count(
    tmp_path: Path, cgroup: str, limits: dict[str, str], expected: int
) -> None:
    assert usable_memory(machine(tmp_path, cgroup, limits)) == expected


def test_without_cgroups_it_is_the_memory_of_the_machine(tmp_path: Path) -> None:
    assert usable_memory(tmp_path) == PHYSICAL


def test_free_memory_is_what_the_system_says_within_the_limits(tmp_path: Path) -> None:
    assert free_memory(tmp_path) == 0
    root = machine(tmp_path, "0::/", {"memory.max": "3000000"})
    (root / "proc/meminfo").write_text("MemTotal: 9 kB\nMemAvailable:    2000 kB\n", encoding="utf-8")
    assert free_memory(root) == 2_048_000
    (root / "proc/meminfo").write_text("MemAvailable:    4000 kB\n", encoding="utf-8")
    assert free_memory(root) == 3_000_000


@pytest.mark.parametrize(
    ("cgroup", "folder", "limit", "used", "files"),
    [
        ("0::/job", "job", "memory.max", "memory.current", "file"),
        ("2:memory:/job", "memory/job", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_cache"),
    ],
)
def test_what_a_cgroup_uses_is_not_free_but_its_file_cache_is(
    tmp_path: Path, cgroup: str, folder: str, limit: str, used: str, files: str
) -> None:
    stat = f"anon 1\n{files} 1000000\nfile_mapped 7"
    found = {limit: "4000000", used: "3500000", "memory.stat": stat}
    root = machine(tmp_path, cgroup, {f"{folder}/{name}": text for name, text in found.items()})
    (root / "proc/meminfo").write_text("MemAvailable:    9000 kB\n", encoding="utf-8")
    assert free_memory(root) == 1_500_000
    assert usable_memory(root) == 4_000_000
    (root / "sys/fs/cgroup" / folder / used).write_text("6000000\n", encoding="utf-8")
    assert free_memory(root) == 0


def test_the_memory_for_derivatives_is_that_of_the_environment_else_half() -> None:
    assert memory_for_derivatives({"TIO2NN_MEMORY": "2.5"}) == 2.5e9
    assert memory_for_derivatives({"TIO2NN_MEMORY": ""}) == memory_for_derivatives({})
    assert memory_for_derivatives({}) == usable_memory() / 2


@pytest.mark.parametrize("text", ["0", "-1", "two", "nan", "inf", "1_0", "²"])
def test_what_is_no_positive_number_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="TIO2NN_MEMORY: expected a positive number of GB, got "):
        memory_for_derivatives({"TIO2NN_MEMORY": text})
