"""Real layers, the package and other libraries as contenders, fair timing: what ``bench`` and `benchmarks/` share."""
