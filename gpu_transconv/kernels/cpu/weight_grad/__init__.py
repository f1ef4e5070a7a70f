"""The gradient by the weight, ``dw[ci, co, tap] = sum of x[ci, i] * grad_output[co, o]``: its two formulations."""
