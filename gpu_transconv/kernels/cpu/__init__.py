"""The CPU backend: Numba kernels, parallel, bitwise repeatable for any number of threads."""
