"""A package, so that pytest leaves this folder off the path: there ``import cupy`` would find ``cupy/`` beside it."""
