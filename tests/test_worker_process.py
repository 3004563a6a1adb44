"""Is a worker that ends, hangs or cannot start told apart, and is it gone afterwards?"""

import signal
import sys

import pytest

from tvm_conv3dt.worker_process import WorkerLostError, WorkerProcess, WorkerTimeoutError

ECHO = """
import sys
from multiprocessing.connection import Connection
with Connection(int(sys.argv[1])) as connection:
    while True:
        request = connection.recv()
        if isinstance(request, int):
            sys.exit(request)
        if request != "be silent":
            connection.send((request, sys.argv[2:]))
"""


@pytest.fixture
def worker(tmp_path):
    (tmp_path / "echo_worker.py").write_text(ECHO)
    started = WorkerProcess("echo_worker", ["a", "b"], {"PYTHONPATH": str(tmp_path)})
    yield started
    started.close()


def test_answer_comes_back(worker):
    assert worker.ask("hello", 60) == ("hello", ["a", "b"])


def test_worker_that_ends_is_told_with_its_code(worker):
    with pytest.raises(WorkerLostError) as caught:
        worker.ask(7, 60)
    assert caught.value.code == 7


def test_worker_that_hangs_is_ended(worker):
    worker.ask("hello", 60)
    with pytest.raises(WorkerTimeoutError, match="no answer within 1 s"):
        worker.ask("be silent", 1)
    assert worker._process.poll() is not None


def test_closed_worker_is_gone(worker):
    worker.close()
    assert worker._process.poll() is not None


@pytest.mark.parametrize("patience, code", [(60.0, 3), (0.0, -signal.SIGKILL)])
def test_closed_worker_ends_by_itself_where_there_is_patience(tmp_path, patience, code):
    (tmp_path / "orderly_worker.py").write_text(
        "import sys, time\n"
        "from multiprocessing.connection import Connection\n"
        "with Connection(int(sys.argv[1])) as connection:\n"
        "    connection.send('ready')\n"
        "    try:\n"
        "        connection.recv()\n"
        "    except EOFError:\n"
        "        time.sleep(0.5)\n"
        "        sys.exit(3)\n"
    )
    started = WorkerProcess("orderly_worker", [], {"PYTHONPATH": str(tmp_path)})
    assert started.receive(60) == "ready"
    started.close(patience)
    assert started._process.poll() == code


def test_closed_worker_that_does_not_end_is_ended(tmp_path):
    (tmp_path / "deaf_worker.py").write_text(
        "import sys, time\n"
        "from multiprocessing.connection import Connection\n"
        "Connection(int(sys.argv[1])).send('ready')\n"
        "time.sleep(600)\n"
    )
    started = WorkerProcess("deaf_worker", [], {"PYTHONPATH": str(tmp_path)})
    assert started.receive(60) == "ready"
    started.close(patience=0.1)
    assert started._process.poll() == -signal.SIGKILL


def test_variables_are_set_and_taken_away(tmp_path, monkeypatch):
    monkeypatch.setenv("NOT_FOR_WORKERS", "1")
    (tmp_path / "environment_worker.py").write_text(
        "import os, sys\n"
        "from multiprocessing.connection import Connection\n"
        "Connection(int(sys.argv[1])).send(dict(os.environ))\n"
    )
    added = {
        "PYTHONPATH": str(tmp_path),
        "FOR_WORKERS": "2",
        "NOT_FOR_WORKERS": None,
        "NEVER": None,
    }
    started = WorkerProcess("environment_worker", [], added)
    found = started.receive(60)
    started.close()
    assert found["FOR_WORKERS"] == "2"
    assert not {"NOT_FOR_WORKERS", "NEVER"} & set(found)


def test_program_that_is_absent_cannot_be_started(monkeypatch):
    monkeypatch.setattr(sys, "executable", "/bin/absent")
    with pytest.raises(OSError, match="absent"):
        WorkerProcess("echo_worker", [])
