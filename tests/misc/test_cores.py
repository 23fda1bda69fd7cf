"""Cores: what the scheduler allows, what the container pays for, what torchrun leaves."""

import os

import pytest

from misc import cores
from misc.cores import available_cores, cpu_quota


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """machine("0::/a\\n", {"a/cpu.max": "150000 100000"}): 64 cores, and files of control groups as Linux has them."""

    def pretend(own: str | None, files: dict[str, str]) -> None:
        monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(64)), raising=False)
        monkeypatch.setattr(cores, "CGROUPS", tmp_path / "sys")
        monkeypatch.setattr(cores, "OWN_GROUPS", tmp_path / "own")
        monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
        if own is not None:
            (tmp_path / "own").write_text(own)
        for name, content in files.items():
            path = tmp_path / "sys" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content + "\n")

    return pretend


V1 = "12:memory:/docker/1a\n4:cpu,cpuacct:/docker/1a\n1:name=systemd:/docker/1a\n"


@pytest.mark.parametrize(
    ("own", "files", "expected"),
    [
        (None, {}, 64),  # no Linux
        ("0::/\n", {}, 64),  # no limits: the top has no such file
        ("0::/\n", {"cpu.max": "400000 100000"}, 4),  # in a container
        ("0::/\n", {"cpu.max": "max 100000"}, 64),
        ("0::/\n", {"cpu.max": "150000 100000"}, 2),  # one core and a half keep two threads busy
        ("0::/\n", {"cpu.max": "5000 100000"}, 1),
        ("0::/\n", {"cpu.max": "9900000 100000"}, 64),  # more than there are
        ("0::/\n", {"cpu.max": "of another kernel"}, 64),
        # the group above has less
        ("0::/pods/one\n", {"pods/one/cpu.max": "800000 100000", "pods/cpu.max": "300000 100000"}, 3),
        (V1, {"cpu,cpuacct/cpu.cfs_quota_us": "200000", "cpu,cpuacct/cpu.cfs_period_us": "100000"}, 2),  # inside
        (V1, {"cpu/docker/1a/cpu.cfs_quota_us": "50000", "cpu/docker/1a/cpu.cfs_period_us": "10000"}, 5),  # outside
        (V1, {"cpu/docker/1a/cpu.cfs_quota_us": "-1", "cpu/docker/1a/cpu.cfs_period_us": "100000"}, 64),
        (V1, {"memory/docker/1a/cpu.cfs_quota_us": "1", "memory/docker/1a/cpu.cfs_period_us": "1"}, 64),
        # both versions at once: the controller of CPU time is the first one's
        (V1 + "0::/x\n", {"cpu/cpu.cfs_quota_us": "700000", "cpu/cpu.cfs_period_us": "100000"}, 7),
        ("nonsense\n", {"cpu.max": "100000 100000"}, 64),
    ],
)
def test_the_quota_of_a_container_counts(own, files, expected, machine):
    machine(own, files)
    assert available_cores() == expected


def test_the_least_of_all_limits_is_shared_by_the_processes(machine, monkeypatch):
    machine("0::/\n", {"cpu.max": "850000 100000"})
    assert cpu_quota() == 8.5
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert available_cores() == 2
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "16")
    assert available_cores() == 1
    monkeypatch.delenv("LOCAL_WORLD_SIZE")
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 3, 5}, raising=False)
    assert available_cores() == 3
