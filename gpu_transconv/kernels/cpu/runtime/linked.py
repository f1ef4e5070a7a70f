"""Functions that kernels call, as code that is linked into these, with no machine code of its own.

Numba optimises every function, makes machine code and two wrappers of it, and links what was optimised into the next
function. Of functions that only kernels call nobody runs that machine code. They are still optimised by themselves:
linked as they are, and optimised once in the kernel, it would compile in half the time, but depthwise layers and boxes
of few channels were up to 1.05 times slower.
"""

from __future__ import annotations

from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import CompilerBase, DefaultPassBuilder
from numba.core.compiler_machinery import register_pass
from numba.core.typed_passes import NativeLowering


class _Library(JITCodeLibrary):  # type: ignore[misc]
    """The code of a function and of those that it calls, to be linked."""

    def _finalize_final_module(self) -> None:
        self._finalize_dynamic_globals()
        self._finalized = True


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
        never_called = list[object]().remove  # a function of C, as Numba wants it, that is another one each time
        context.insert_user_function(never_called, found.fndesc, [state.library])
        state.reload_init.extend(state.library._reload_init)
        state["cr"] = found._replace(cfunc=never_called)
        return True


class LinkedCompiler(CompilerBase):  # type: ignore[misc]
    """Numba's compiler with another last step."""

    def define_pipelines(self):
        """Put it in its place."""
        pipeline = DefaultPassBuilder.define_nopython_pipeline(self.state)
        pipeline.add_pass_after(_Lowering, NativeLowering)
        pipeline.passes = [step for step in pipeline.passes if step[0] is not NativeLowering]
        pipeline.finalize()
        return [pipeline]
