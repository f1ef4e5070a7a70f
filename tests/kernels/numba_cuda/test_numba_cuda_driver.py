"""What the Numba-CUDA backend makes of the driver's answers: full memory, graphs, arrays of any strides."""

from __future__ import annotations

import ctypes
import importlib.util
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from gpu_transconv.kernels.numba_cuda import memory

pytestmark = pytest.mark.skipif(
    sys.platform == "darwin" and importlib.util.find_spec("numba_cuda") is None,
    reason="there is no numba-cuda for macOS",
)


@pytest.fixture
def driver(monkeypatch):
    """Function that puts a stand-in in the place of the module `numba.cuda`."""
    from gpu_transconv.kernels.numba_cuda import cuda as module

    monkeypatch.setattr(module, "SIMULATED", False)

    def put(**functions):
        fake = SimpleNamespace(external_stream=lambda address: f"stream {address}", **functions)
        monkeypatch.setattr(module, "cuda", fake)
        return fake

    return put


def full(code):
    """A function that fails as Numba does; 2 is CUDA_ERROR_OUT_OF_MEMORY."""
    from numba.cuda.cudadrv.driver import CudaAPIError

    def fail(*_arguments, **_keywords):
        raise CudaAPIError(code, "Call to cuMemAlloc results in CUDA_ERROR_OUT_OF_MEMORY")

    return fail


ALLOCATIONS = {
    "result": lambda: memory.empty((1000, 1000), "float32"),
    "scratch": lambda: memory.scratch((1000, 1000), "float32"),
    "copy": lambda: memory.as_device(np.zeros((1000, 1000), np.float32)),
    "constant": lambda: memory.constant(np.zeros((1000, 1000), np.float32)),
}


@pytest.mark.parametrize("what", ALLOCATIONS)
def test_a_full_device_is_a_memory_error(what, driver):
    driver(device_array=full(2), to_device=full(2))
    with pytest.raises(MemoryError, match=r"shape \(1000, 1000\) and dtype float32 needs 4,000,000 bytes"):
        ALLOCATIONS[what]()


def test_a_full_device_is_a_memory_error_for_results_of_numba(monkeypatch):
    import numba.cuda

    from gpu_transconv.arrays import cuda as arrays

    monkeypatch.setattr(numba.cuda, "device_array", full(2))
    plan = SimpleNamespace(result_shape=(10, 10), dtype="float64")
    with pytest.raises(MemoryError, match="needs 800 bytes"):
        arrays.NUMBA.empty(plan, None)


def test_other_errors_stay_what_they_are(driver):
    from numba.cuda.cudadrv.driver import CudaAPIError

    driver(device_array=full(700))
    with pytest.raises(CudaAPIError):
        memory.empty((3,), "float32")


class Block:
    """Memory of the caller's library."""

    def __init__(self, size):
        self.host = np.zeros(size, np.uint8)

    @property
    def __cuda_array_interface__(self):
        return self.host.__array_interface__ | {"version": 2}


@pytest.fixture
def capturing(monkeypatch):
    """Stream 64 is being captured."""
    monkeypatch.setattr(memory, "is_capturing", lambda: memory.current_stream() == 64)


@pytest.mark.usefixtures("capturing")
@pytest.mark.parametrize("what", ["result", "scratch", "constant", "workspace"])
def test_what_a_capture_must_not_begin_is_refused(what, driver):
    driver(device_array=lambda *_a, **_k: "made", to_device=lambda *_a, **_k: "made")

    def workspace():
        with memory.workspace(0, 10, "float32"):
            pass

    call = {**ALLOCATIONS, "workspace": workspace}[what]
    with memory.on_stream(64), pytest.raises(RuntimeError, match="captured into a CUDA graph"):
        call()


@pytest.mark.usefixtures("capturing")
def test_scratch_memory_of_a_capture_is_the_caller_s(driver):
    """Every call gets its own, which the caller's library keeps for the graph; nothing of it is shared."""
    given = []
    driver(from_cuda_array_interface=lambda traits, owner, sync: given.append((traits, owner, sync)) or traits)
    blocks = []

    def allocate(size):
        blocks.append(Block(size))
        return blocks[-1]

    with memory.on_stream(64, allocate):
        for _ in range(2):
            with memory.workspace(0, 10, "float32") as made:
                assert made["shape"] == (10,)
                assert made["typestr"] == "<f4"
    assert [owner for _, owner, _ in given] == blocks
    assert [block.host.size for block in blocks] == [40, 40]
    assert all(not sync for *_, sync in given)


@pytest.fixture
def workspaces(monkeypatch):
    """What is kept, nothing at first."""
    kept = type(memory._workspaces)()
    monkeypatch.setattr(memory, "_workspaces", kept)
    return kept


def lend(stream: int, size: int, dtype: str = "float32"):
    with memory.on_stream(stream), memory.workspace(0, size, dtype) as lent:
        return lent


@pytest.mark.usefixtures("workspaces")
def test_a_stream_has_one_workspace_which_grows(driver, monkeypatch):
    monkeypatch.setattr(memory, "is_capturing", lambda: False)
    driver(device_array=lambda shape, *_a, **_k: np.empty(shape))
    first = lend(1, 10)
    assert lend(1, 7) is first
    larger = lend(1, 11)
    assert (larger is first, larger.size) == (False, 11)
    assert lend(1, 10) is larger
    assert lend(2, 10) is not larger
    assert lend(1, 10, "float64") is not larger


def test_workspaces_of_ever_new_streams_are_let_go(workspaces, driver, monkeypatch):
    monkeypatch.setattr(memory, "is_capturing", lambda: False)
    driver(device_array=lambda shape, *_a, **_k: np.empty(shape))
    own = lend(1, 10)
    for stream in range(2, 5 * memory._MOST_WORKSPACES):
        lend(stream, 10)
        assert lend(1, 10) is own  # used all the time
        assert len(workspaces) <= memory._MOST_WORKSPACES
    assert len(workspaces) == memory._MOST_WORKSPACES


def test_the_driver_is_asked_about_a_capture(monkeypatch):
    from cuda.bindings import driver as bindings

    from gpu_transconv.kernels.numba_cuda import cuda as module

    monkeypatch.setattr(module, "SIMULATED", False)
    state = {64: 1, 128: 0}
    answer = lambda stream: (bindings.CUresult.CUDA_SUCCESS, bindings.CUstreamCaptureStatus(state[stream]))  # noqa: E731
    monkeypatch.setattr(bindings, "cuStreamIsCapturing", answer)
    for stream, expected in ((64, True), (128, False), (0, False), (1, False)):
        with memory.on_stream(stream):
            assert memory.is_capturing() is expected


def test_streams_are_ordered_by_events(driver, monkeypatch):
    monkeypatch.setattr(memory, "is_capturing", lambda: False)
    log = []
    event = SimpleNamespace(
        record=lambda stream: log.append(("record", stream)),
        wait=lambda stream: log.append(("wait", stream)),
        query=lambda: True,
    )
    driver(event=lambda timing: event)  # noqa: ARG005
    with memory.on_stream(64):
        memory.wait_for(128)
        memory.let_wait(128)
    assert log == [("record", "stream 128"), ("wait", "stream 64"), ("record", "stream 64"), ("wait", "stream 128")]


LAYOUTS = {
    "contiguous": lambda a: a,
    "every second": lambda a: a[..., ::2],
    "transposed": lambda a: a.transpose(0, 4, 2, 3, 1),
    "unit axes": lambda a: a[:1, :, :1],
    "one element": lambda a: a[:1, :1, :1, :1, :1],
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_copies_take_arrays_of_any_strides(layout):
    """A kernel that has been compiled for one signature looks up no types: it gets the strides as they are."""
    if importlib.import_module("numba.cuda.core.config").ENABLE_CUDASIM:
        pytest.skip("the simulator has arrays of NumPy")
    from numba.cuda.cudadrv.devicearray import DeviceNDArray
    from numba.cuda.dispatcher import _Kernel

    from gpu_transconv.kernels.numba_cuda.cuda import signature

    host = LAYOUTS[layout](np.zeros((2, 3, 4, 5, 6), np.float32))
    data = SimpleNamespace(device_ctypes_pointer=ctypes.c_void_p(host.ctypes.data))
    array, arguments = DeviceNDArray(host.shape, host.strides, host.dtype, gpu_data=data), []
    (expected,) = signature("float32[5]").args
    assert array._numba_type_.can_convert_to(None, expected) is not None or array._numba_type_ == expected
    _Kernel._prepare_args(SimpleNamespace(extensions=[]), expected, array, 0, [], arguments)
    assert arguments == [0, 0, host.size, 4, host.ctypes.data, *host.shape, *host.strides]


def test_a_signature_makes_a_kernel_that_looks_up_no_types(monkeypatch):
    from numba.cuda import dispatcher

    from gpu_transconv.kernels.numba_cuda import cuda as module

    if module.SIMULATED:
        pytest.skip("the simulator compiles nothing")
    monkeypatch.setattr(dispatcher.CUDADispatcher, "compile", lambda self, sig: self.overloads.update({sig: None}))
    kernel = module.compile_kernel(lambda source, target: None, ("float32[5]",) * 2, "copy")  # noqa: ARG005
    assert kernel.specialized
    kernel.overloads.clear()
