"""Kernels and what they call: each function optimised once, and only kernels with machine code of their own.

Numba optimises every function, makes machine code and two wrappers of it, links what was optimised into the next
function, and optimises that again there: what is five calls deep five times. Here a function sees only those of the
functions it calls that are short enough to become part of it, already optimised. All others are linked as they are when
the kernel is complete.
"""

from __future__ import annotations

import gc

import llvmlite.binding as llvm
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import CompilerBase, DefaultPassBuilder
from numba.core.compiler_machinery import register_pass
from numba.core.typed_passes import NativeLowering

#: Instructions of a function above which LLVM makes it part of no other: each counts five, and 250 is the limit, which
#: numbers and addresses known to a caller can raise. No function with more than 150 was made part of a kernel.
_SHORT = 300


class _Library(JITCodeLibrary):  # type: ignore[misc]
    """The code of a function, with what became part of it of those that it calls."""

    def __init__(self, codegen, name):
        super().__init__(codegen, name)
        self.function = ""  # its name in the code
        self.called: dict[str, _Library] = {}  # all that it calls, and those call, by their names
        self.short: llvm.ModuleRef | None = None  # a copy to become part of others

    def _optimize_functions(self, module):
        """Leave that to the optimisation of the whole."""
        module.data_layout = self._codegen._data_layout

    def finalize(self):
        """Optimise the function."""
        for library in dict.fromkeys(self._linking_libraries):
            if isinstance(library, _Library):
                self.called |= {**library.called, library.function: library}
            else:
                self._final_module.link_in(library._get_module_for_linking(), preserve=True)
        for library in self.called.values():
            if library.short is not None:
                self._final_module.link_in(library.short, preserve=True)
        self._optimize_final_module()
        self._finish()

    def _finish(self):
        """Keep the function for kernels, and for other functions where it is short."""
        self._finalize_dynamic_globals()
        self._finalized = True
        made = self._final_module.get_function(self.function)
        if sum(1 for block in made.blocks for _ in block.instructions) <= _SHORT:
            self.short = self._final_module.clone()
            self.short.get_function(self.function).linkage = "available_externally"
        made.linkage = "linkonce_odr"

    def _link_called(self):
        """Add the functions that are called and did not become part."""
        unseen, linked = [self._final_module], set[str]()
        while unseen:
            for name in [each.name for each in unseen.pop().functions if each.is_declaration]:
                if name in self.called and name not in linked:
                    linked.add(name)
                    unseen.append(self.called[name]._final_module)
                    self._final_module.link_in(unseen[-1], preserve=True)


class _KernelLibrary(_Library):
    """The code of a kernel."""

    def _finish(self):
        """Complete it, and make machine code."""
        self._link_called()
        self._final_module.verify()
        self._finalize_final_module()

    def _get_module_for_linking(self):
        """Names alone: they are written beside the machine code, and no function is linked to a kernel."""
        module = self._final_module
        every = [*module.functions, *module.global_variables]
        seen = (each.name for each in every if each.linkage in (llvm.Linkage.external, llvm.Linkage.common))
        return llvm.parse_assembly("\n".join(f'@"{name}" = global i8 0' for name in seen))


@register_pass(mutates_CFG=True, analysis_only=False)
class _Lowering(NativeLowering):  # type: ignore[misc]
    _name = "gpu_transconv_lowering"

    def run_pass(self, state):
        """Emit the code, and tell Numba by which value it finds this function."""
        context = state.targetctx
        state.library = _Library(context.codegen(), state.func_id.func_qualname)
        state.flags.no_compile = True
        super().run_pass(state)
        found = state["cr"]
        state.library.function = found.fndesc.llvm_func_name
        never_called = list[object]().remove  # a function of C, as Numba wants it, that is another one each time
        context.insert_user_function(never_called, found.fndesc, [state.library])
        state["cr"] = found._replace(cfunc=never_called)
        return True


@register_pass(mutates_CFG=True, analysis_only=False)
class _KernelLowering(NativeLowering):  # type: ignore[misc]
    _name = "gpu_transconv_kernel_lowering"

    def run_pass(self, state):
        """Emit the code and make it ready to run."""
        state.library = _KernelLibrary(state.targetctx.codegen(), state.func_id.func_qualname)
        state.library.enable_object_caching()
        return super().run_pass(state)


class KernelCompiler(CompilerBase):  # type: ignore[misc]
    """Numba's compiler with another last step, for kernels, and functions that are called by their address."""

    lowering: type[NativeLowering] = _KernelLowering

    def compile_extra(self, func):
        """Compile while the garbage collector rests, which would look through all of Numba's tables several times."""
        if not gc.isenabled():
            return super().compile_extra(func)
        gc.disable()
        try:
            return super().compile_extra(func)
        finally:
            gc.enable()

    def define_pipelines(self):
        """Put it in its place."""
        pipeline = DefaultPassBuilder.define_nopython_pipeline(self.state)
        pipeline.add_pass_after(self.lowering, NativeLowering)
        pipeline.passes = [step for step in pipeline.passes if step[0] is not NativeLowering]
        pipeline.finalize()
        return [pipeline]


class LinkedCompiler(KernelCompiler):
    """The same for functions that kernels call."""

    lowering = _Lowering
