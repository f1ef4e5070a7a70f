"""The one exception type that the package adds to Python's own."""


class BackendUnavailableError(RuntimeError):
    """A backend asked for by name cannot run here; the message says why and what to install."""
