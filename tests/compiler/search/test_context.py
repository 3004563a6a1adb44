"""Is Ctrl-C what it is also where TVM calls Python?"""

import os
import signal
import threading

import pytest

pytest.importorskip("tvm")

import tvm_ffi

from tvm_conv3dt.compiler.search.context import interruptible


def press():
    os.kill(os.getpid(), signal.SIGINT)
    for _ in range(1000):  # until Python sees it
        pass


@pytest.mark.parametrize("function", [press, tvm_ffi.convert(press)], ids=["python", "tvm"])
def test_interrupt_is_a_keyboard_interrupt(function):
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), interruptible():
        function()
    assert signal.getsignal(signal.SIGINT) is before


def test_other_errors_stay_what_they_are():
    with pytest.raises(RuntimeError, match="no such point"), interruptible():
        raise RuntimeError("no such point")


def test_other_threads_have_no_signals():
    found = []

    def run():
        with interruptible():
            found.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert found == [signal.getsignal(signal.SIGINT)]


def test_handler_of_the_callers_stays(monkeypatch):
    def own(*_):
        pass

    before = signal.signal(signal.SIGINT, own)
    try:
        with interruptible():
            assert signal.getsignal(signal.SIGINT) is own
    finally:
        signal.signal(signal.SIGINT, before)
