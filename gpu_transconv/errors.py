"""What the package adds to Python's own errors and warnings."""


class BackendUnavailableError(RuntimeError):
    """A backend asked for by name cannot run here; the message says why and what to install."""


class CacheWarning(UserWarning):
    """Something about the cache folder is wrong; the work goes on without it."""
