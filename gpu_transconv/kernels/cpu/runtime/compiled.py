"""The decorators of the CPU kernels: compiled on the first call, the machine code kept by `machine_code`."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Hashable
from typing import Protocol, TypeAlias, TypeVar, cast

from numba import njit, typeof, types
from numba.core import config
from numba.core.ccallback import CFunc
from numba.core.codegen import CPUCodegen
from numba.core.compiler import CompileResult
from numba.core.cpu import CPUContext
from numba.core.runtime import rtsys
from numba.core.serialize import dumps
from numba.core.sigutils import normalize_signature

from . import machine_code
from .linked import KernelCompiler, LinkedCompiler
from .notice import compiling, finished

#: Types of arguments, as Numba tells them apart.
Signature: TypeAlias = Hashable


Function = TypeVar("Function", bound=Callable[..., object])


class CompiledKernel(Protocol):
    """What Numba makes of a function."""

    __name__: str
    overloads: dict[Signature, CompileResult]

    def __call__(self, *arguments: object) -> int:
        """Run it, compiled for the types of these arguments where it was not yet."""

    def compile(self, signature: Signature) -> object:
        """Compile it for some types."""


class Entry(Protocol):
    """A compiled function that is called by its address."""

    address: int

    def ctypes(self, argument: None) -> int:
        """Call it."""


#: How all of them are compiled: they release the interpreter's lock and divide as NumPy does. NUMBA_DEBUGINFO does not
#: reach them: the instructions that they are made of name no lines of a source.
_OPTIONS = {"nogil": True, "error_model": "numpy", "debug": False}
#: The same for those that one thread runs, and that only kernels call.
_KERNEL = {**_OPTIONS, "no_cfunc_wrapper": True, "pipeline_class": KernelCompiler}
_LINKED = {**_KERNEL, "no_cpython_wrapper": True, "pipeline_class": LinkedCompiler}
#: Settings of Numba that change the code that it makes.
_SETTINGS = ("OPT", "BOUNDSCHECK", "LOOP_VECTORIZE", "SLP_VECTORIZE", "DISABLE_INTEL_SVML")
#: The kernels that can be called from Python, by name.
KERNELS: dict[str, CompiledKernel] = {}

#: Decorator of a function that kernels call, compiled anew for every number that a caller writes in its place.
constant = njit(**_LINKED)


def inner(function: Function) -> Function:
    """Decorate a function that kernels call, compiled once whatever numbers a caller writes in its place."""
    made = njit(**_LINKED)(function)
    if not config.DISABLE_JIT:
        find = made.get_call_template
        made.get_call_template = lambda args, kws: find(
            [types.unliteral(kind) for kind in args], {name: types.unliteral(kind) for name, kind in kws.items()}
        )
    return cast(Function, made)


def kernel(function: Callable[..., object]) -> CompiledKernel:
    """Decorate a function that Python calls, for one thread."""
    return _kept(function, njit(**_KERNEL)(function))


def parallel_kernel(function: Callable[..., object]) -> CompiledKernel:
    """Decorate a function that Python calls, whose loops over `numba.prange` run on several threads."""
    return _kept(function, njit(parallel=True, **_OPTIONS)(function))


def address_of(kernel: CompiledKernel, *arguments: object) -> int:
    """Address of a kernel's machine code for arguments of these types, which lives as long as the process."""
    signature = tuple(map(typeof, arguments))
    kernel.compile(signature)
    made = kernel.overloads[signature]
    return int(made.library.get_pointer_to_function(made.fndesc.llvm_func_name))


def entry(signature: Signature, function: Callable[..., object]) -> Entry:
    """Compile a function that is called by its address."""
    made = _Entry(function, normalize_signature(signature), {}, {"debug": False}, KernelCompiler)
    made.enable_caching()
    made.compile()
    return cast(Entry, made)


class KernelCache:
    """What Numba asks before it compiles a function and tells afterwards; the methods are those of its own caches."""

    def __init__(self, function: Callable[..., object]) -> None:
        self._name = f"{function.__module__.rpartition('.')[2]}.{function.__name__}"

    @property
    def cache_path(self) -> str:
        """Folder that new files go to first."""
        return str(machine_code.folders()[0])

    def load_overload(self, signature: Signature, target_context: CPUContext) -> CompileResult | None:
        """Return the compiled function from its file, or None."""
        rtsys.initialize(target_context)  # what machine code needs; what compiling needs is a fifth of a second more
        payload = machine_code.read(self._name, _key(signature, target_context.codegen()), pickle.loads)
        if payload is None:
            compiling(self)
            return None
        return CompileResult._rebuild(target_context, *payload)

    def save_overload(self, signature: Signature, result: CompileResult) -> None:
        """Write a compiled function to its file; without a place to write, warn once."""
        finished(self)
        if not result.library.has_dynamic_globals:  # addresses are of this process only
            machine_code.write(self._name, _key(signature, result.codegen), dumps(result._reduce()))

    def enable(self) -> None:
        """Nothing to switch on."""

    disable = flush = enable


class _Entry(CFunc):
    _pyfunc: Callable[..., object]

    def enable_caching(self) -> None:
        self._cache = KernelCache(self._pyfunc)


def _kept(function: Callable[..., object], made: object) -> CompiledKernel:
    dispatcher = cast(CompiledKernel, made)
    if not config.DISABLE_JIT:
        setattr(dispatcher, "_cache", KernelCache(function))  # noqa: B010  (no part of Numba's promises)
        KERNELS[dispatcher.__name__] = dispatcher
    return dispatcher


def _key(signature: Signature, codegen: CPUCodegen) -> str:
    """All that decides the code besides the sources: types, processor, settings."""
    return repr((str(signature), codegen.magic_tuple(), [str(getattr(config, name, None)) for name in _SETTINGS]))
