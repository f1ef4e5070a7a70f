"""The kernels: one package per backend, in each the same two formulations behind the same launch signature.

``pack_gather(plan, weight, bias)`` prepares the weights once for all input sizes, and ``launch_gather(plan,
x, weight, bias, out, packed)`` fills `out` with what it returned; the same for scatter. The arrays are
contiguous, share ``plan.dtype`` and do not overlap `out`; the shapes are those of the plan (x and out without
the batch axis where ``plan.unbatched``); the batch may be empty. ``prefer(plan)`` names the backend's cheaper
formulation.

Gather against scatter
----------------------
Both compute the same sums, ``y[o] += x[i] * w[k]`` over all ``o = i*stride - pad_low + k*dilation``; they
differ in which index the outer loop owns.

*gather* owns the output. For one output phase it knows the taps that reach it and the input shift of each,
collects the products, and writes the element once. Nothing is written twice, so nothing can race, and the
result is bitwise the same however the work is split.

*scatter* owns the input. Every input element multiplies the whole filter and adds that stamp into the output.
Stamps overlap where the filter is longer than the stride, so either additions are atomic, or one owner adds
all stamps of one tile of the output.
"""
