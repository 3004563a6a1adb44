"""Where schedules and logs are looked for."""

from pathlib import Path

import pytest

from tvm_conv3dt import paths

ROOT = Path(__file__).resolve().parent.parent


def test_checkout_uses_its_own_top_level_folders():
    assert paths.packaged_schedules() == ROOT / "schedules"
    assert paths.packaged_logs() == ROOT / "tuning_logs"


def test_installed_package_uses_its_data(tmp_path, monkeypatch):
    (tmp_path / "_data" / "schedules").mkdir(parents=True)
    monkeypatch.setattr(paths, "_PACKAGE", tmp_path)
    assert paths.packaged_schedules() == tmp_path / "_data" / "schedules"


def test_cache_is_where_the_variable_says(tmp_path, monkeypatch):
    monkeypatch.setenv("TVM_CONV3DT_CACHE", str(tmp_path))
    assert paths.user_cache() == tmp_path


def test_cache_is_in_the_platforms_own_place(monkeypatch):
    platformdirs = pytest.importorskip("platformdirs")
    monkeypatch.delenv("TVM_CONV3DT_CACHE", raising=False)
    assert paths.user_cache() == platformdirs.user_cache_path("tvm-conv3dt")


def test_own_schedules_come_first(tmp_path):
    assert paths.schedule_folders(tmp_path) == [tmp_path, ROOT / "schedules"]


@pytest.mark.parametrize("own", [None, ROOT / "schedules"])
def test_same_folder_is_looked_at_once(monkeypatch, own):
    monkeypatch.chdir(ROOT)
    assert len(paths.schedule_folders(own)) == 1
