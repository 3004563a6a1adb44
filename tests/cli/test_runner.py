"""The options that say where candidates are measured, and the fleet that `device` shows."""

import json
import socket

import pytest
from click.testing import CliRunner

from tvm_conv3dt.cli import app

pytest.importorskip("tvm")

from tvm_conv3dt.compiler import promote as promoting
from tvm_conv3dt.compiler import tuning
from tvm_conv3dt.compiler.fleet import tracker
from tvm_conv3dt.compiler.fleet.recruiter import FleetSettings
from tvm_conv3dt.compiler.fleet.tracker import Address, Queue, Summary

FLEET = ("--runner", "rpc", "--tracker", "pi.local:9190", "--key", "pi4")


def invoke(*arguments):
    return CliRunner().invoke(app.group, [str(word) for word in arguments])


@pytest.fixture
def asked(monkeypatch):
    """The fleets that `tune` and `promote` were called with."""
    fleets = []

    def take(named, device, *, fleet, **settings):
        fleets.append((device.name, fleet))
        return []

    monkeypatch.setattr(tuning, "tune", take)
    monkeypatch.setattr(promoting, "promote", take)
    return fleets


@pytest.mark.parametrize("verb", ["tune", "promote"])
def test_fleet_is_handed_on_for_a_device_that_cannot_run_here(verb, asked):
    limits = ("--board-timeout", 7.5, "--wait", 3)
    words = (verb, "--workloads", "nnunet/up1", "--device", "raspberry-pi-4", *FLEET, *limits)
    result = invoke(*words)
    assert result.exit_code == 0, result.output
    settings = FleetSettings(Address("pi.local", 9190), "pi4", 7.5, 3.0)
    assert asked == [("raspberry-pi-4", settings)]


def test_address_in_brackets_is_of_ipv6(asked):
    words = ("--runner", "rpc", "--tracker", "[fd00::1]:9190", "--key", "pi4")
    assert invoke("tune", "--workloads", "nnunet/up1", *words).exit_code == 0
    assert asked[0][1].tracker == Address("fd00::1", 9190)


@pytest.mark.parametrize(
    "address", ["", "pi.local", "pi.local:", ":9190", "pi:0", "pi:65536", "pi:x"]
)
def test_address_without_host_or_port_is_refused(address, asked):
    words = ("--runner", "rpc", "--tracker", address, "--key", "pi4")
    result = invoke("tune", "--workloads", "nnunet/up1", *words)
    assert (result.exit_code, asked) == (2, [])
    assert "is not HOST:PORT, as in workstation.local:9190" in result.stderr


@pytest.mark.parametrize("missing", ["--tracker", "--key"])
def test_fleet_needs_tracker_and_key(missing, asked):
    words = [*FLEET]
    where = words.index(missing)
    del words[where : where + 2]
    result = invoke("tune", "--workloads", "nnunet/up1", *words)
    assert (result.exit_code, asked) == (2, [])
    assert "--runner rpc needs --tracker HOST:PORT and --key NAME" in result.stderr


@pytest.mark.parametrize(
    "option", [("--tracker", "pi:1"), ("--key", "pi"), ("--board-timeout", "9"), ("--wait", "9")]
)
def test_options_of_boards_are_refused_for_this_machine(option, asked):
    result = invoke("tune", "--workloads", "nnunet/up1", *option)
    assert (result.exit_code, asked) == (2, [])
    assert f"{option[0]} is for boards: give --runner rpc too" in result.stderr


class Knows:
    """Stands for a tracker."""

    def __init__(self, address):
        self.address = address

    def summary(self):
        boards = (Address("10.0.0.8", 9090), Address("10.0.0.7", 9090))
        queues = {"pi4": Queue(1, 0), "pi5": Queue(0, 2), "gone": Queue(0, 0)}
        return Summary({"pi4": boards}, queues)

    def close(self):
        pass


def test_fleet_is_shown(monkeypatch):
    monkeypatch.setattr(tracker, "Tracker", Knows)
    found = json.loads(invoke("device", "--tracker", "pi.local:9190", "--json").stdout)
    boards = ["10.0.0.7:9090", "10.0.0.8:9090"]
    assert found == {
        "tracker": "pi.local:9190",
        "keys": [
            {"key": "pi4", "boards": boards, "free": 1, "busy": 1, "waiting": 0},
            {"key": "pi5", "boards": [], "free": 0, "busy": 0, "waiting": 2},
        ],
    }
    lines = invoke("device", "--tracker", "pi.local:9190").stdout.splitlines()
    assert lines[1].split() == ["pi4", "2", "1", "1", "0", *boards]


def test_fleet_without_boards_is_told(monkeypatch):
    monkeypatch.setattr(tracker, "Tracker", Knows)
    monkeypatch.setattr(Knows, "summary", lambda self: Summary({}, {}))
    result = invoke("device", "--tracker", "pi.local:9190")
    assert result.stdout == "the tracker at pi.local:9190 has no boards\n"


def test_no_tracker_is_an_error():
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    result = invoke("device", "--tracker", f"127.0.0.1:{port}")
    assert result.exit_code == 3
    start = f"error: failed to ask the tracker with 127.0.0.1:{port}: it does not answer"
    assert result.stderr.startswith(start)


@pytest.mark.parametrize("words", [("--key", "pi4"), ("--tracker", "pi.local:9190")])
def test_a_board_needs_a_tracker_and_a_key(words):
    assert invoke("serve", *words).exit_code == 2
