"""A tracker and boards on loopback: processes of this machine, which may be killed, stopped and started again."""

import json
import os
import signal
import socket
import subprocess
import sys
import time

from tvm_conv3dt.compiler.fleet.tracker import Address, Tracker

KEY = "bench"
START_SECONDS = 120

# A board that says of itself what the test wants.
PRETENDER = """
import json, sys
from dataclasses import replace
from tvm_conv3dt.compiler.fleet import board, server
true = board.this_board
server.this_board = lambda tvm: replace(true(tvm), **json.loads(sys.argv[1]))
server.serve(("127.0.0.1", int(sys.argv[2])), sys.argv[3], "127.0.0.1", int(sys.argv[4]))
"""


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def start(*arguments, python=(sys.executable,), **variables):
    """Start a program of Python's in a group of its own, which is killed as one."""
    return subprocess.Popen(
        [*python, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        env={**os.environ, "TVM_USE_RUNTIME_LIB": "1", **variables},
    )


def signal_all(process, kind):
    """Send a signal to a program and all that it started."""
    try:
        os.killpg(process.pid, kind)
    except ProcessLookupError:
        pass
    if kind == signal.SIGKILL:
        process.wait(10)


class LoopbackFleet:
    """A tracker and what is started for it; all end with `close`."""

    def __init__(self):
        self.address = Address("127.0.0.1", free_port())
        self.boards = {}
        self.tracker = None
        self.start_tracker()

    def start_tracker(self):
        port = str(self.address.port)
        options = ("--host", "127.0.0.1", "--port", port, "--port-end", str(self.address.port + 1))
        self.tracker = start("-m", "tvm.exec.rpc_tracker", *options)
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                return Tracker(self.address).close()
            except OSError:
                assert time.monotonic() < deadline, "the tracker did not start"
                time.sleep(0.1)

    def add(self, key=KEY, port=None, **pretended):
        """Start a board; return its port."""
        port = free_port() if port is None else port
        if pretended:
            words = ("-c", PRETENDER, json.dumps(pretended), str(self.address.port), key, str(port))
        else:
            options = ("--key", key, "--host", "127.0.0.1", "--port", str(port))
            words = ("-m", "tvm_conv3dt", "serve", "--tracker", str(self.address), *options)
        self.boards[port] = start(*words)
        return port

    def add_stock(self, key, **variables):
        """Start a board with TVM's own server."""
        port = free_port()
        tracker = ("--tracker", str(self.address), "--key", key)
        ports = ("--host", "127.0.0.1", "--port", str(port), "--port-end", str(port + 1))
        self.boards[port] = start("-m", "tvm.exec.rpc_server", *tracker, *ports, **variables)
        return port

    def add_emulated(self, key, python, **variables):
        """Start a board with another Python, which needs no command line of this package's."""
        port = free_port()
        program = (
            "import sys; from tvm_conv3dt.compiler.fleet.server import serve; "
            "serve(('127.0.0.1', int(sys.argv[1])), sys.argv[2], '127.0.0.1', int(sys.argv[3]))"
        )
        words = ("-c", program, str(self.address.port), key, str(port))
        self.boards[port] = start(*words, python=python, **variables)
        return port

    def wait_for(self, count, key=KEY):
        """Wait until so many boards of a key are free."""
        deadline = time.monotonic() + START_SECONDS
        connection = Tracker(self.address)
        try:
            while True:
                queue = connection.summary().queues.get(key)
                if queue is not None and queue.free >= count:
                    return
                assert time.monotonic() < deadline, "boards did not come"
                time.sleep(0.1)
        finally:
            connection.close()

    def signal(self, port, kind):
        signal_all(self.boards[port], kind)

    def close(self):
        for process in (*self.boards.values(), self.tracker):
            signal_all(process, signal.SIGKILL)
