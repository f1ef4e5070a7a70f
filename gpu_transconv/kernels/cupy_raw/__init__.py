"""CuPy RawKernels in CUDA C++, compiled by NVRTC when first needed."""
