"""A GPU that is none: queues for streams, the CPU's memory under another device's name, frameworks that use both.

TVM's runtime provides and copies the memory, by its interface for CPUs under the name of an extension device, so no GPU
that a machine may have is touched. Work is queued as on a GPU: kernels and the frameworks' copies are done when somebody
waits for their stream, and no earlier; copies of the runtime are done at once.
"""

import contextlib
import ctypes
import sys
import types
from collections import defaultdict

import numpy as np
import pytest
import tvm_ffi

from tvm_conv3dt.level import Kernel, LibraryFile, ScheduleSummary
from tvm_conv3dt.manifest import Layer
from tvm_conv3dt.reference import reference
from tvm_conv3dt.runtime import cuda_memory, device_arrays
from tvm_conv3dt.runtime.cuda_place import CudaPlace
from tvm_conv3dt.runtime.operator import Operator
from tvm_conv3dt.spec import Workload

NAME, KIND = "ext_dev", 12
ROOM = 256  # bytes beside an array, so that it can start at any offset

_pointer = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(
    ("PyCapsule_GetPointer", ctypes.pythonapi)
)


def array_at(address, shape, dtype):
    """An array over memory that somebody else keeps."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    memory = (ctypes.c_uint8 * size).from_address(address)
    return np.frombuffer(memory, np.uint8).view(dtype).reshape(shape)


class Gpu:
    """What the CPU is told, and what has been done."""

    def __init__(self):
        self.queues = defaultdict(list)
        self.waits = []
        self.launched = []

    def launch(self, stream, work):
        self.launched.append(stream)
        self.queues[stream].append(work)

    def drain(self, stream):
        queue = self.queues[stream]
        while queue:
            queue.pop(0)()

    def order(self, first, then):
        """Have one stream wait for what another has been given until now, as by an event."""
        passed = []
        self.queues[first].append(lambda: passed.append(True))

        def wait():
            while not passed:
                self.queues[first].pop(0)()

        self.launch(then, wait)

    def synchronize(self, device, stream):
        assert device.dlpack_device_type() == KIND
        self.waits.append(stream)
        self.drain(stream)


class Exporter:
    """An array on the GPU of no framework in particular; it exports what DLPack's old versions had."""

    stream = None  # on which its values come to be
    half = False  # whether they are the bits of bfloat16
    read_only = False
    versions = False

    def __init__(self, gpu, values, index=0):
        self.gpu, self.values, self.index = gpu, values, index
        self.exports = []

    def __dlpack_device__(self):
        return KIND, self.index

    def __dlpack__(self, *, stream, **options):
        if options and not self.versions:
            raise TypeError("max_version")
        assert stream != 0, "0 is no stream of DLPack's"
        self.exports.append(stream)
        own = self.own_stream()
        if stream != -1 and own is not None:
            stream = 0 if stream == 1 else stream
            if stream != own:
                self.gpu.order(own, stream)
        return self.capsule(**options)

    def own_stream(self):
        return self.stream

    def capsule(self, **options):
        capsule = self.values.__dlpack__(**options)
        start = _pointer(capsule, b"dltensor_versioned" if options else b"dltensor")
        if options:
            flags = ctypes.c_uint64.from_address(start + 24)
            flags.value = flags.value | 1 if self.read_only else flags.value & ~1
            start += 32
        ctypes.c_int32.from_address(start + 8).value = KIND
        ctypes.c_int32.from_address(start + 12).value = self.index
        if self.half:
            ctypes.c_uint8.from_address(start + 20).value = 4  # kDLBfloat
        return capsule

    @property
    def address(self):
        return self.values.__array_interface__["data"][0]


class Versioned(Exporter):
    versions = True


class Framework:
    """What PyTorch and CuPy have in common."""

    def __init__(self, gpu, stream):
        self.gpu, self.current = gpu, stream
        self.device = 7  # current one, which nobody may change
        self.devices = []

    @contextlib.contextmanager
    def on(self, index):
        self.devices.append(index)
        yield
        self.devices.append(None)

    def fresh(self, shape, dtype):
        dtype = np.uint16 if dtype == "bfloat16" else dtype
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        memory = np.full(size + ROOM, 255, np.uint8)  # not a number
        start = -memory.__array_interface__["data"][0] % 64
        return memory[start : start + size].view(dtype).reshape(shape)


class Queued(Exporter):
    """An array of a framework that has streams."""

    def own_stream(self):
        return self.owner.current

    def like(self, values):
        made = type(self)(self.gpu, values, self.index)
        made.half = self.half
        return made

    def __getitem__(self, index):
        return self.like(self.values[index])

    @property
    def shape(self):
        return self.values.shape

    def copied(self):
        result = self.like(self.owner.fresh(self.values.shape, self.values.dtype))
        result.put(self)
        return result

    def put(self, source):
        target, values = self.values, source.values

        def work():
            target[...] = values

        self.gpu.launch(self.owner.current, work)


@pytest.fixture
def gpu(monkeypatch):
    if tvm_ffi.get_global_func(f"device_api.{NAME}", allow_missing=True) is None:
        tvm_ffi.register_global_func(
            f"device_api.{NAME}", tvm_ffi.get_global_func("device_api.cpu")
        )
    gpu = Gpu()
    monkeypatch.setattr(cuda_memory, "synchronize", gpu.synchronize)
    monkeypatch.setattr(device_arrays, "_CUDA", KIND)
    return gpu


@pytest.fixture
def torch(gpu, monkeypatch):
    owner = Framework(gpu, 0x7000)

    class Tensor(Queued):
        requires_grad = negative = False
        changes = 0

        @property
        def dtype(self):
            return f"torch.{self.values.dtype}"

        def is_neg(self):
            return self.negative

        def is_inference(self):
            return False

        def resolve_neg(self):
            return self.like(-self.values)

        def detach(self):
            found = self.like(self.values)
            return found

        def data_ptr(self):
            return self.address

        def clone(self, memory_format):
            assert memory_format == "contiguous"
            return self.copied()

        def copy_(self, source):
            self.put(source)

    Tensor.owner = owner

    def empty(shape, dtype, device):
        kind, index = device
        assert kind == "cuda"
        made = Tensor(gpu, owner.fresh(shape, dtype), index)
        made.half = dtype == "bfloat16"
        return made

    def increment(tensor):
        tensor.changes += 1

    module = types.ModuleType("torch")
    module.owner, module.Tensor, module.empty = owner, Tensor, empty
    module.contiguous_format = "contiguous"
    for name in ("float16", "float32", "float64", "bfloat16"):
        setattr(module, name, name)
    module.device = lambda kind, index: (kind, index)
    module.is_grad_enabled = lambda: True
    module.autograd = types.SimpleNamespace(
        graph=types.SimpleNamespace(increment_version=increment)
    )
    module.cuda = types.SimpleNamespace(
        current_stream=lambda index: types.SimpleNamespace(cuda_stream=owner.current),
        device=owner.on,
    )
    module.array = lambda values, index=0: Tensor(gpu, values, index)
    monkeypatch.setitem(sys.modules, "torch", module)
    return module


@pytest.fixture
def cupy(gpu, monkeypatch):
    owner = Framework(gpu, 0xC000)

    class ndarray(Queued):
        @property
        def dtype(self):
            return self.values.dtype

        def copy(self, order):
            assert order == "C"
            return self.copied()

        def __setitem__(self, index, source):
            self[index].put(source)

        def astype(self, dtype):
            raise NotImplementedError

    ndarray.owner = owner
    module = types.ModuleType("cupy")
    module.owner, module.ndarray = owner, ndarray
    module.empty = lambda shape, dtype: ndarray(gpu, owner.fresh(shape, dtype))
    module.cuda = types.SimpleNamespace(
        get_current_stream=lambda: types.SimpleNamespace(ptr=owner.current), Device=owner.on
    )
    module.array = lambda values, index=0: ndarray(gpu, values, index)
    monkeypatch.setitem(sys.modules, "cupy", module)
    return module


@pytest.fixture
def jax(gpu, monkeypatch):
    class Array(Exporter):
        ready = False
        tensor = None

        def block_until_ready(self):
            self.ready = True

        def __dlpack__(self, *, stream=None):
            assert stream is None
            assert self.ready
            return self.capsule()

        def __getitem__(self, index):
            return Array(gpu, np.ascontiguousarray(self.values[index]), self.index)

        @property
        def shape(self):
            return self.values.shape

    def from_dlpack(tensor):
        made = Array(gpu, array_at(tensor.data_ptr(), tensor.shape, str(tensor.dtype)))
        made.tensor = tensor
        return made

    def concatenate(parts, axis):
        return Array(gpu, np.concatenate([part.values for part in parts], axis))

    module = types.ModuleType("jax")
    module.Array = Array
    module.dlpack = types.SimpleNamespace(from_dlpack=from_dlpack)
    module.numpy = types.SimpleNamespace(concatenate=concatenate)
    module.array = lambda values, index=0: Array(gpu, values, index)
    monkeypatch.setitem(sys.modules, "jax", module)
    return module


class Code:
    """Stands for a compiled library: ``run`` and ``pack`` queue what they compute on tvm-ffi's stream."""

    def __init__(self, gpu, workload, index=0):
        self.gpu, self.workload, self.index = gpu, workload, index
        self.calls, self.packed = [], []

    def function(self, symbol):
        return tvm_ffi.convert({"run": self.run, "pack": self.pack}[symbol])

    def array(self, tensor, shape, dtype=None):
        workload = self.workload
        assert tensor.__dlpack_device__() == (KIND, self.index)
        assert tensor.is_contiguous()
        assert tensor.shape == tuple(shape)
        assert tensor.data_ptr() % 16 == 0
        dtype = dtype or workload.numpy_dtype
        assert str(tensor.dtype) == cuda_memory.stored_name(dtype)
        capsule = tensor.__dlpack__()
        offset = ctypes.c_uint64.from_address(_pointer(capsule, b"dltensor") + 40)
        assert offset.value == 0
        return array_at(tensor.data_ptr(), tensor.shape, dtype)

    def stream(self):
        return tvm_ffi.get_raw_stream(tvm_ffi.device(NAME, self.index))

    def pack(self, filters, packed):
        workload = self.workload
        source = self.array(filters, workload.filters)
        target = self.array(packed, workload.filters, np.dtype(workload.sum_dtype))
        self.packed.append(packed)
        kept = filters, packed

        def work():
            assert kept
            target[...] = source

        self.gpu.launch(self.stream(), work)

    def run(self, x, packed, *rest):
        workload = self.workload
        *bias, y = rest
        source = self.array(x, workload.input)
        filters = self.array(packed, workload.filters, np.dtype(workload.sum_dtype))
        added = [self.array(each, (workload.out_channels,)) for each in bias]
        target = self.array(y, workload.output_shape)
        self.calls.append((x.data_ptr(), y.data_ptr(), self.stream()))
        kept = x, packed, rest  # as a GPU's memory is: giving it back waits

        def work():
            assert kept
            values = filters.astype(workload.numpy_dtype)
            target[...] = reference(workload, source, values, *added)

        self.gpu.launch(self.stream(), work)


@pytest.fixture
def make(gpu):
    def make(workload, filters, bias=None, index=0):
        code = Code(gpu, workload, index)
        file = LibraryFile("none.so", "0" * 64, 0)
        schedule = ScheduleSummary("default", "gemm", None)
        kernel = Kernel("test", file, workload.filters, workload.sum_dtype, 0, schedule)
        layer = Layer("test", workload, "run", "pack")
        operator = Operator(layer, kernel, code, filters, bias, CudaPlace(index, NAME))
        gpu.waits.clear()
        gpu.launched.clear()
        return operator, code

    return make


SHAPES = {
    "NDHWC": ([2, 3, 2, 4, 4], [3, 3, 3, 8, 4], [2, 6, 4, 8, 8]),
    "NCDHW": ([2, 4, 3, 2, 4], [3, 3, 3, 8, 4], [2, 8, 6, 4, 8]),
}


@pytest.fixture
def workload():
    return Workload.make(*SHAPES["NDHWC"], 2, bias=True)


@pytest.fixture
def exporter():
    return Exporter


@pytest.fixture
def versioned():
    return Versioned
