"""Prove and measure the package on a machine with a CUDA GPU, in stages of which any may die without a loss."""
