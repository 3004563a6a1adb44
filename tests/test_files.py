"""Are files written whole or not at all, and is a damaged one refused?"""

import hashlib
import os

import pytest

from tvm_conv3dt import files
from tvm_conv3dt.errors import FileFormatError, FileWriteError


def test_text_is_written_as_utf8_with_newlines_unchanged(tmp_path):
    files.write_atomic(tmp_path / "a.txt", "é\n")
    assert (tmp_path / "a.txt").read_bytes() == "é\n".encode()


def test_missing_folders_are_made(tmp_path):
    files.write_atomic(tmp_path / "a" / "b" / "c", b"1")
    assert (tmp_path / "a" / "b" / "c").read_bytes() == b"1"


def test_an_existing_file_is_replaced_and_nothing_else_stays(tmp_path):
    files.write_atomic(tmp_path / "a", b"old")
    files.write_atomic(tmp_path / "a", b"new")
    assert [(each.name, each.read_bytes()) for each in tmp_path.iterdir()] == [("a", b"new")]


def test_a_failure_before_the_rename_leaves_the_old_file_and_no_other(tmp_path, monkeypatch):
    files.write_atomic(tmp_path / "a", b"old")

    def full(_descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(FileWriteError, match=r"failed to write file .*No space left"):
        files.write_atomic(tmp_path / "a", b"new")
    assert [(each.name, each.read_bytes()) for each in tmp_path.iterdir()] == [("a", b"old")]


def test_an_interrupt_leaves_no_file_behind(tmp_path, monkeypatch):
    def interrupt(_descriptor):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        files.write_atomic(tmp_path / "a", b"new")
    assert list(tmp_path.iterdir()) == []


def test_a_name_of_the_longest_length_can_be_written(tmp_path):
    files.write_atomic(tmp_path / ("a" * 255), b"1")
    assert (tmp_path / ("a" * 255)).read_bytes() == b"1"


def test_names_that_utf8_does_not_hold_are_written_as_escapes(tmp_path):
    files.write_json(tmp_path / "a", {"schema": 1, "é": "\udcff"})
    assert files.read_json(tmp_path / "a", 1) == {"schema": 1, "é": "\udcff"}
    assert "é".encode() in (tmp_path / "a").read_bytes()


@pytest.mark.parametrize(
    ("use", "name"),
    [(files.is_file, "a" * 300), (files.real_path, "a\0b"), (files.sha256, "a\0b")],
)
def test_a_name_that_no_file_can_have_is_refused(use, name, tmp_path):
    with pytest.raises(FileFormatError, match="failed to read file"):
        use(tmp_path / name)


def test_a_link_to_itself_has_a_path(tmp_path):
    (tmp_path / "a").symlink_to("a")
    assert files.real_path(tmp_path / "a").name == "a"


def test_a_folder_in_the_way_is_an_error(tmp_path):
    (tmp_path / "a").mkdir()
    with pytest.raises(FileWriteError, match="failed to write file"):
        files.write_atomic(tmp_path / "a", b"1")


def test_the_mode_follows_the_umask(tmp_path):
    old = os.umask(0o027)
    try:
        files.write_atomic(tmp_path / "a", b"1")
    finally:
        os.umask(old)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o640


def test_json_comes_back(tmp_path):
    value = {"schema": 3, "name": "é", "sizes": [1, 2], "nothing": None}
    files.write_json(tmp_path / "a.json", value)
    assert files.read_json(tmp_path / "a.json", schema=3) == value


def test_json_is_refused_where_it_has_no_form(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        files.write_json(tmp_path / "a.json", {"schema": 1, "median_ms": float("nan")})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not valid JSON"),
        (b'{"schema": 1', "not valid JSON"),
        (b'{"schema": 1, "x": NaN}', "NaN is not a JSON number"),
        (b"\xff\xfe", "not UTF-8 text .byte 0"),
        (b"[" * 200_000, "not valid JSON"),
        (b"[1]", "must be an object, not list"),
        (b"{}", "field schema must be the integer 1, not None"),
        (b'{"schema": true}', "field schema must be the integer 1, not True"),
        (b'{"schema": 2}', "its schema is 2 and this version reads 1"),
    ],
)
def test_damaged_json_is_refused_with_its_path(tmp_path, content, message):
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(FileFormatError, match=message) as caught:
        files.read_json(path, schema=1)
    assert str(caught.value).startswith(f"failed to read file with {path}: ")
    assert str(caught.value).count("failed to") == 1


@pytest.mark.parametrize("read", [files.read_json, files.read_toml])
def test_a_missing_file_is_refused(tmp_path, read):
    with pytest.raises(FileFormatError, match="No such file"):
        read(tmp_path / "a", schema=1)


def test_toml_comes_back(tmp_path):
    (tmp_path / "a.toml").write_text("schema = 1\nx = [1, 2]\n")
    assert files.read_toml(tmp_path / "a.toml", schema=1) == {"schema": 1, "x": [1, 2]}


def test_damaged_toml_is_refused_with_the_line(tmp_path):
    (tmp_path / "a.toml").write_text("schema = 1\nx = \n")
    with pytest.raises(FileFormatError, match=r"not valid TOML .*line 2"):
        files.read_toml(tmp_path / "a.toml", schema=1)


def test_sha256_is_that_of_the_content(tmp_path):
    content = bytes(range(256)) * 10_000  # more than one piece
    (tmp_path / "a").write_bytes(content)
    assert files.sha256(tmp_path / "a") == hashlib.sha256(content).hexdigest()


def test_sha256_of_a_missing_file_is_an_error(tmp_path):
    with pytest.raises(FileFormatError, match="No such file"):
        files.sha256(tmp_path / "a")
