"""Does the number of threads respect affinity mask and quota?"""

import os

import pytest

from tvm_conv3dt import threads


def cgroup(root, line, **quotas):
    """A file system with the process in one cgroup; keys are paths with '__' for '/'."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(line + "\n")
    for name, text in quotas.items():
        path = root / "sys/fs/cgroup" / name.replace("__", "/").replace("_MAX", "cpu.max")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    return root


def test_there_is_at_least_one_and_no_more_than_the_mask():
    assert 1 <= threads.available() <= len(os.sched_getaffinity(0))


def test_the_affinity_mask_counts():
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert threads.available() == 1
    finally:
        os.sched_setaffinity(0, before)


@pytest.mark.parametrize(
    ("quota", "expected"),
    [
        ("200000 100000", 2),
        ("250000 100000", 3),
        ("10000 100000", 1),
        ("max 100000", None),
        ("", None),
    ],
)
def test_a_quota_of_cgroup_v2_is_rounded_up(tmp_path, quota, expected):
    root = cgroup(tmp_path, "0::/", _MAX=quota)
    assert threads._quota(root) == (expected or os.cpu_count())


def test_the_tightest_quota_above_counts(tmp_path):
    root = cgroup(
        tmp_path, "0::/a/b", _MAX="max 100000", a___MAX="100000 100000", a__b___MAX="400000 100000"
    )
    assert threads._quota(root) == 1


def test_a_group_that_is_not_mounted_leaves_the_root(tmp_path):
    root = cgroup(tmp_path, "0::/docker/0123", _MAX="100000 100000")
    assert threads._quota(root) == 1


def test_a_group_outside_of_the_namespace_leaves_the_root(tmp_path):
    root = cgroup(tmp_path, "0::/../other", _MAX="100000 100000")
    assert threads._quota(root) == 1


@pytest.mark.parametrize("folder", ["cpu,cpuacct", "cpu"])
def test_a_quota_of_cgroup_v1_counts(tmp_path, folder):
    (tmp_path / "sys/fs/cgroup" / folder).mkdir(parents=True)
    (tmp_path / "sys/fs/cgroup" / folder / "cpu.cfs_quota_us").write_text("150000\n")
    (tmp_path / "sys/fs/cgroup" / folder / "cpu.cfs_period_us").write_text("100000\n")
    assert threads._quota(cgroup(tmp_path, "4:cpu,cpuacct:/")) == 2


def test_no_quota_in_cgroup_v1_is_no_limit(tmp_path):
    root = cgroup(tmp_path, "4:cpu:/", cpu__cpu_quota="")
    (root / "sys/fs/cgroup/cpu/cpu.cfs_quota_us").write_text("-1\n")
    (root / "sys/fs/cgroup/cpu/cpu.cfs_period_us").write_text("100000\n")
    assert threads._quota(root) == os.cpu_count()


def test_no_cgroups_are_no_limit(tmp_path):
    assert threads._quota(tmp_path) == os.cpu_count()


def test_a_malformed_cgroup_file_is_no_limit(tmp_path):
    assert threads._quota(cgroup(tmp_path, "nonsense")) == os.cpu_count()
