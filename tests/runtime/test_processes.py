"""What depends on the process: which libraries it holds, its threads, its forks. Each test runs programs of its own."""

import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import tvm_conv3dt
from tvm_conv3dt.level import LibraryFile
from tvm_conv3dt.manifest import Manifest

ROOT = Path(tvm_conv3dt.__file__).parent.parent

# Loads a bundle and checks one layer on integers; `check(folder)` returns the operator.
PREAMBLE = """
import sys
sys.path.insert(0, {root!r})
BUNDLE = {bundle!r}

class NoTvm:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "tvm":
            raise ImportError("tvm must not be imported")

def check(folder=BUNDLE, name="test/large"):
    import numpy as np
    from tvm_conv3dt import runtime
    from tvm_conv3dt.reference import integer_data, reference
    bundle = runtime.load(folder)
    workload = bundle.workloads[name]
    x, filters, bias = integer_data(workload, 1)
    op = bundle.operator(name, filters, bias)
    assert np.array_equal(op(x), reference(workload, x, filters, bias))
    return op, x
"""


def run(bundle_folder, program, **environment):
    """Run a program in a fresh, isolated process and return what it printed."""
    text = PREAMBLE.format(root=str(ROOT), bundle=str(bundle_folder)) + textwrap.dedent(program)
    done = subprocess.run(
        [sys.executable, "-I", "-c", text],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, **environment},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_bundle_runs_where_tvm_cannot_be_imported(bundle_folder):
    program = """
        sys.meta_path.insert(0, NoTvm())
        check()
        print([name for name in sys.modules if name.split(".")[0] == "tvm"])
    """
    assert run(bundle_folder, program) == "[]"


def test_bundle_in_the_working_directory_loads(bundle_folder):
    # The system's loader looks elsewhere for a name without a folder.
    program = """
        import os
        sys.meta_path.insert(0, NoTvm())
        os.chdir(BUNDLE)
        check(".")
        check("")
        print("right")
    """
    assert run(bundle_folder, program) == "right"


def test_tvm_may_be_imported_after_loading(bundle_folder):
    program = """
        check()
        import tvm
        check()
        print(len(tvm.__version__) > 0)
    """
    assert run(bundle_folder, program) == "True"


def test_tvm_may_be_imported_before_loading(bundle_folder):
    program = """
        import tvm
        check()
        print("right")
    """
    assert run(bundle_folder, program) == "right"


def test_bundles_in_several_folders_share_one_runtime_library(bundle_folder, broken_folder):
    program = f"""
        sys.meta_path.insert(0, NoTvm())
        check()
        check({str(broken_folder)!r})
        maps = open("/proc/self/maps").read().splitlines()
        print(len({{line.split()[-1] for line in maps if "libtvm_runtime" in line}}))
    """
    assert run(bundle_folder, program) == "1"


def with_another_runtime(folder):
    """Make the bundle's runtime library differ from the installed one, and still work."""
    library = folder / "libtvm_runtime.so"
    with library.open("ab") as file:
        file.write(b"\0")
    manifest = Manifest.read(folder)
    values = {name: getattr(manifest, name) for name in manifest.__dataclass_fields__}
    Manifest(**{**values, "tvm": "0.26.0", "runtime": LibraryFile.of(library)}).write(folder)


def test_import_of_another_tvm_after_loading_is_refused_and_not_fatal(broken_folder):
    with_another_runtime(broken_folder)
    program = """
        check()
        try:
            import tvm
        except ImportError as error:
            print(error)
        check()
    """
    said = run(broken_folder, program)
    assert said.startswith("failed to import module tvm with runtime library")
    assert "a bundle of TVM 0.26.0 brought it" in said


def test_bundle_of_another_tvm_than_the_imported_one_is_refused(broken_folder):
    with_another_runtime(broken_folder)
    program = """
        import tvm
        from tvm_conv3dt import errors, runtime
        try:
            runtime.load(BUNDLE)
        except errors.LibraryError as error:
            print(error)
    """
    assert "already holds the runtime library of TVM 0.27" in run(broken_folder, program)


def test_runtime_library_that_cannot_be_loaded_is_refused(broken_folder):
    library = broken_folder / "libtvm_runtime.so"
    library.write_bytes(b"not a library")
    manifest = Manifest.read(broken_folder)
    values = {name: getattr(manifest, name) for name in manifest.__dataclass_fields__}
    Manifest(**{**values, "runtime": LibraryFile.of(library)}).write(broken_folder)
    program = """
        from tvm_conv3dt import errors, runtime
        try:
            runtime.load(BUNDLE)
        except errors.LibraryError as error:
            print(error)
    """
    assert "libtvm_runtime.so: the system's loader refused it" in run(broken_folder, program)


needs_two_cores = pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two cores")


def test_default_is_what_the_process_may_use(bundle_folder):
    program = """
        import tvm_ffi
        from tvm_conv3dt import runtime, threads
        check()
        used = tvm_ffi.get_global_func("runtime.NumThreads")()
        print(used == runtime.get_num_threads() == threads.available())
    """
    assert run(bundle_folder, program) == "True"


def test_default_does_not_listen_to_other_libraries_settings(bundle_folder):
    program = """
        import tvm_ffi
        from tvm_conv3dt import threads
        check()
        print(tvm_ffi.get_global_func("runtime.NumThreads")() == threads.available())
    """
    assert run(bundle_folder, program, OMP_NUM_THREADS="1", TVM_NUM_THREADS="7") == "True"


def test_affinity_of_the_process_stays(bundle_folder):
    program = """
        import os
        before = os.sched_getaffinity(0)
        op, x = check()
        from tvm_conv3dt import runtime
        for count in (1, len(before)):
            runtime.set_num_threads(count)
            op(x)
            tasks = [int(task) for task in os.listdir("/proc/self/task")]
            print(all(os.sched_getaffinity(task) == before for task in tasks))
    """
    assert run(bundle_folder, program).split() == ["True", "True"]


@needs_two_cores
def test_narrower_affinity_is_respected(bundle_folder):
    program = """
        import os, tvm_ffi
        last = max(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {last})
        check()
        print(tvm_ffi.get_global_func("runtime.NumThreads")(), os.sched_getaffinity(0) == {last})
    """
    assert run(bundle_folder, program) == "1 True"


@needs_two_cores
def test_results_do_not_depend_on_the_number_of_threads(bundle_folder):
    program = """
        import numpy as np, tvm_ffi
        from tvm_conv3dt import runtime
        op, x = check()
        x = np.random.default_rng(0).standard_normal(x.shape, np.float32)
        results = []
        for count in (1, 2, 1, 2, None):
            runtime.set_num_threads(count)
            results.append(op(x).tobytes())
            print(tvm_ffi.get_global_func("runtime.NumThreads")())
        print(len(set(results)))
    """
    *counts, different = run(bundle_folder, program).split()
    assert counts[:4] == ["1", "2", "1", "2"]
    assert different == "1"


@needs_two_cores
def test_setting_reaches_every_python_thread(bundle_folder):
    program = """
        import threading, tvm_ffi
        from tvm_conv3dt import runtime
        op, x = check()
        used = tvm_ffi.get_global_func("runtime.NumThreads")
        def call():
            op(x)
            print(used())
        for count in (2, 1):
            runtime.set_num_threads(count)
            caller = threading.Thread(target=call)
            caller.start()
            caller.join()
    """
    assert run(bundle_folder, program).split() == ["2", "1"]


@needs_two_cores
def test_pool_made_by_other_uses_of_tvm_is_reported(bundle_folder):
    program = """
        import os, warnings, tvm_ffi
        from tvm_conv3dt import runtime
        cores = os.sched_getaffinity(0)
        runtime.load(BUNDLE)
        tvm_ffi.get_global_func("runtime.config_threadpool")(-3, 1, ["0"])
        os.sched_setaffinity(0, cores)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            check()
        print(*(str(warning.message) for warning in caught))
    """
    said = run(bundle_folder, program)
    assert said.startswith("failed to set threads with count=")
    assert said.count("TVM's pool of this thread was made earlier, for 1") == 1


@pytest.mark.parametrize("threads", ["1", "None"])
def test_forked_child_runs(bundle_folder, threads):
    program = f"""
        import os, signal
        from tvm_conv3dt import runtime
        runtime.set_num_threads({threads})
        op, x = check()
        expected = op(x).tobytes()
        child = os.fork()
        if child == 0:
            signal.alarm(20)
            os._exit(0 if op(x).tobytes() == expected else 1)
        print(os.waitpid(child, 0)[1])
        assert op(x).tobytes() == expected
    """
    assert run(bundle_folder, program) == "0"


def test_thread_of_a_forked_child_runs(bundle_folder):
    program = """
        import os, signal, threading
        op, x = check()
        expected = op(x).tobytes()
        child = os.fork()
        if child == 0:
            signal.alarm(20)
            right = []
            caller = threading.Thread(target=lambda: right.append(op(x).tobytes() == expected))
            caller.start()
            caller.join()
            os._exit(0 if right == [True] else 1)
        print(os.waitpid(child, 0)[1])
    """
    assert run(bundle_folder, program) == "0"


def test_bundle_on_a_path_that_cannot_be_written_loads(bundle_folder, tmp_path):
    folder = Path(shutil.copytree(bundle_folder, tmp_path / "read-only"))
    for path in (*folder.iterdir(), folder):
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        assert run(folder, "check()\nprint('right')") == "right"
    finally:
        folder.chmod(0o755)
