"""Is the tracker understood, and whatever else answers in its place?"""

import socket
import struct
import threading
from contextlib import suppress

import pytest

pytest.importorskip("tvm")

from tvm_conv3dt.compiler.fleet import tracker
from tvm_conv3dt.compiler.fleet.tracker import Address, NoTrackerError, Queue, Summary, Tracker


@pytest.fixture
def answering():
    """Starts something that sends the given bytes to whoever connects; returns its address."""
    sockets = []

    def start(*answers):
        listening = socket.create_server(("127.0.0.1", 0))
        sockets.append(listening)

        def serve():
            with listening.accept()[0] as connection, suppress(OSError):
                for answer in answers:
                    connection.recv(1024)
                    connection.sendall(answer)
                connection.recv(1024)

        threading.Thread(target=serve, daemon=True).start()
        return Address("127.0.0.1", listening.getsockname()[1])

    yield start
    for each in sockets:
        each.close()


HELLO = struct.pack("<i", 0x2F271)


def message(text):
    return struct.pack("<i", len(text)) + text.encode()


def test_nothing_that_listens_is_an_os_error():
    with socket.create_server(("127.0.0.1", 0)) as closed:
        address = Address("127.0.0.1", closed.getsockname()[1])
    with pytest.raises(OSError):
        Tracker(address)


def test_something_else_is_no_tracker(answering):
    with pytest.raises(NoTrackerError, match="is no tracker"):
        Tracker(answering(b"SSH-2.0-OpenSSH_9.2\r\n"))


def test_something_silent_is_an_os_error(answering, monkeypatch):
    monkeypatch.setattr(tracker, "_SECONDS", 0.2)
    with pytest.raises(OSError):
        Tracker(answering(b""))


@pytest.mark.parametrize("answer", ["no JSON", "5", "[-1, null]"])
def test_answer_that_means_nothing_is_an_os_error(answer, answering):
    connection = Tracker(answering(HELLO, message(answer)))
    with pytest.raises(OSError):
        connection.summary()
    connection.close()


def test_summary_counts_boards_by_key(answering):
    text = (
        '[0, {"queue_info": {"pi": {"free": 1, "pending": 2}}, "server_info": ['
        '{"key": "server:pi", "addr": ["10.0.0.7", 9090]},'
        ' {"key": "server:pi", "addr": ["10.0.0.8", 9091]}]}]'
    )
    connection = Tracker(answering(HELLO, message(text)))
    summary = connection.summary()
    connection.close()
    assert summary == Summary(
        {"pi": (Address("10.0.0.7", 9090), Address("10.0.0.8", 9091))}, {"pi": Queue(1, 2)}
    )
    assert summary.text() == "2 of key pi, 1 free"


def test_no_boards_are_told_as_such():
    assert Summary({}, {}).text() == "no boards"
