"""Is a lock open in a forked child, whoever held it in the parent?"""

import subprocess
import sys
from pathlib import Path

import tvm_conv3dt
from tvm_conv3dt.locks import Lock

PROGRAM = """
import os, signal, sys, threading
sys.path.insert(0, sys.argv[1])
from tvm_conv3dt.locks import Lock

lock, held, done = Lock(), threading.Event(), threading.Event()

def hold():
    with lock:
        held.set()
        done.wait()

threading.Thread(target=hold).start()
held.wait()
child = os.fork()
if child == 0:
    signal.alarm(20)
    with lock:
        os._exit(7)
done.set()
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_forked_child_does_not_wait_for_a_thread_of_its_parent():
    root = str(Path(tvm_conv3dt.__file__).parents[1])
    command = [sys.executable, "-c", PROGRAM, root]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "7\n"


def test_one_thread_may_take_it_twice():
    lock = Lock()
    with lock, lock:
        pass
