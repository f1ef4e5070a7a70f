"""The kernels: one package per backend, in each the same two formulations behind the same launch signature.

What a backend offers
---------------------
``launch.py`` has, per formulation and, where the table in `gpu_transconv.table` lists variants, per variant:

``pack_<formulation>[_<variant>](plan, weight, bias) -> packed``
    Prepares the weights, once for all input sizes for which ``packing`` returns the same.
``launch_<formulation>[_<variant>](plan, x, weight, bias, out, packed)``
    Fills `out` with what ``pack`` returned. On a GPU it enqueues on the current stream and does not synchronise.
``supports_<formulation>[_<variant>](plan) -> str or None``
    The reason why it cannot run a plan, or None. May be left out where it runs all of the backend's dtypes.
``packing_<formulation>[_<variant>](plan) -> hashable``
    All that the prepared weights depend on besides their values; plans with the same share them. May be left out
    where weights are prepared in one way for all input sizes.
``prefer(plan) -> "gather" or "scatter"``
    The backend's cheaper formulation.
``efforts(plan) -> dict of str to float``
    May be left out: by ``<formulation>[_<variant>]`` how many times the useful operations the kernel takes, as the
    cost model (`gpu_transconv.cost`) multiplies them.
``details_<formulation>[_<variant>](plan) -> dict``
    May be left out: ``kernel``, which kernel runs, in words; ``saved``, the share of the definition's multiplications
    that it does without; and ``workspace_bytes``. For explanations.

The arrays are contiguous, in native byte order, share ``plan.dtype`` and do not overlap `out`; the shapes are
those of the plan (x and out without the batch axis where ``plan.unbatched``); the batch may be empty on the
CPU, and is not on a GPU. Variants of one formulation are tried in the table's order; `atomic`, whose result may
change in the last bit from run to run, only where the caller named scatter or allowed that.

The package itself, of a backend whose arrays are in host memory, and else ``memory.py`` has

``status() -> str or None``
    None where the backend can run here, else why not and what to install. Never raises.

``memory.py``, of a backend whose arrays are not in host memory:

``as_device(array)``
    The array on the device, contiguous, in native byte order: a copy of a NumPy array, the same memory for a
    contiguous array with ``__cuda_array_interface__``.
``empty(shape, dtype_name)``
    A new array on the current device, for a result or for weights.
``scratch(shape, dtype_name)``
    The same for what one call needs: by the allocator that ``on_stream`` was given, where it was given one.
``copy_to(source, out)``
    Copies an array of the device into `out`, a NumPy array (it then waits) or one on a CUDA device.
``on_stream(pointer, allocate=None)``
    Context in which work goes to that CUDA stream, or with None to the library's current one. `allocate` is the
    allocator of the caller's library: bytes to an array with ``__cuda_array_interface__``.
``current_stream()``
    The address of the stream that work goes to.
``wait_for(pointer)``, ``let_wait(pointer)``
    Let the current stream wait for what is on another one, and another one for what is on the current one.
``hold(objects)``, ``held``
    Keep objects until what is on the current stream has passed; those that are kept (`gpu_transconv.kernels.held`).
``share(packed)``
    Work on any stream may read what ``pack`` returned from now on; it is complete.
``refuse_capture(why)``
    Raises RuntimeError where the current stream is being captured into a CUDA graph.
``device_of(pointer)``, ``on_device(index)``
    Number of the device on which an address is, or None; context in which a device is the current one.

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
"""
