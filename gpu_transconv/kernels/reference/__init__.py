"""The definition as a backend, so that it can be asked for by name."""
