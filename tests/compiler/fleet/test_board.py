"""Does a board say what it is, and is one that cannot run a device's code known before it tries?"""

from dataclasses import replace

import pytest

pytest.importorskip("tvm")

from tvm_conv3dt import device as catalogue
from tvm_conv3dt.compiler.fleet import board
from tvm_conv3dt.compiler.fleet.board import Board, this_board

PI = catalogue.get("raspberry-pi-5")
BOARD = Board("pi5", "Raspberry Pi 5", "linux", "aarch64", ("asimd", "asimdhp"), 4, "0.27.0")


def test_what_a_board_sends_is_read_again():
    assert Board.from_json(BOARD.to_json()) == BOARD


def test_fields_of_a_later_version_are_passed_over():
    assert Board.from_json(BOARD.to_json().replace("{", '{"fan": "on", ', 1)) == BOARD


def test_earlier_version_does_not_tell_its_server():
    sent = replace(BOARD, server="any")
    assert Board.from_json(sent.to_json().replace(', "server": "any"', "")) == BOARD


def test_each_start_of_a_server_is_another():
    assert this_board("").server != this_board("").server != ""


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"name": "pi5"}', "no"])
def test_anything_else_is_no_description(text):
    with pytest.raises(ValueError):
        Board.from_json(text)


def test_this_machine_fits_what_it_is(host):
    assert this_board("0.27.0").why_unfit(host, host.cores, "0.27.0") == ""


def test_board_of_the_device_fits():
    assert BOARD.why_unfit(PI, 4, "0.27.0") == ""


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"arch": "x86_64"}, "it runs linux on x86_64, and raspberry-pi-5 is linux on aarch64"),
        ({"os": "darwin"}, "it runs darwin on aarch64, and raspberry-pi-5 is linux on aarch64"),
        (
            {"cpu_features": ("asimd",)},
            "its CPU has not asimdhp, which code for raspberry-pi-5 needs",
        ),
        (
            {"threads": 2},
            "2 threads may run on it, and candidates use 4: give --threads 2",
        ),
        (
            {"tvm": "0.26.0"},
            "it has TVM 0.26.0, and here is 0.27.0: install the same on both",
        ),
    ],
)
def test_board_that_does_not_fit_says_why(change, reason):
    assert replace(BOARD, **change).why_unfit(PI, 4, "0.27.0") == reason


def test_model_is_what_the_firmware_says(tmp_path, monkeypatch):
    (tmp_path / "model").write_bytes(b"Raspberry Pi 4 Model B Rev 1.4\0")
    monkeypatch.setattr(board, "_MODEL", tmp_path / "model")
    assert this_board("").model == "Raspberry Pi 4 Model B Rev 1.4"


def test_model_is_the_cpus_where_the_firmware_says_nothing(tmp_path, monkeypatch):
    (tmp_path / "cpuinfo").write_text("processor\t: 0\nmodel name\t: Some CPU @ 2 GHz\n")
    monkeypatch.setattr(board, "_MODEL", tmp_path / "absent")
    monkeypatch.setattr(board, "_CPU_INFO", tmp_path / "cpuinfo")
    assert this_board("").model == "Some CPU @ 2 GHz"
