"""Who can do it: one folder per backend, in each the same two formulations of the operation.

``kernel``     what a kernel and a backend are: frozen values, the whole contract
``registry``   the backends by name, each imported when it is first asked for
``reference``  the definition, so that it can be asked for by name
``cpu``        Numba kernels for host memory
``numba_cuda`` CUDA kernels in Python, to be read, and to run in a simulator
``cupy``       CUDA C++ kernels, to be fast

Gather against scatter
----------------------
Both compute the same sums, up to rounding: ``y[o] += x[i] * w[k]`` over all ``o = i*stride - pad_low + k*dilation``.
They differ in which index the outer loop owns.

*gather* owns the output. For one output phase it knows the taps that reach it and the input shift of each,
collects the products, and writes the element once. Nothing is written twice, so nothing can race, and the
result is bitwise the same however the work is split.

*scatter* owns the input. Every input element multiplies the whole filter and adds that stamp into the output.
Stamps overlap where the filter is longer than the stride, so either additions are atomic, or one owner adds
all stamps of one tile of the output.

As matrix products the two are in `gpu_transconv.problem.product`.
"""
