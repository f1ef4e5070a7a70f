"""Layers of models, contenders (the package, other libraries), fair timing: what ``bench`` and `benchmarks/` share."""
