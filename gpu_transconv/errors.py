"""What the package adds to Python's own errors and warnings."""


class BackendUnavailableError(RuntimeError):
    """A backend asked for by name cannot run here; the message says why and what to install."""


class CacheWarning(UserWarning):
    """Something about the cache folder is wrong; the work goes on without it."""


def missing_library(library: str, extra: str) -> ImportError:
    """Error of an adapter whose library is not installed; the message names the extra that installs it."""
    return ImportError(
        f"gpu_transconv.{extra} needs {library}, the extra {extra}; pip install {extra} (or, in a checkout, "
        f'pip install ".[{extra}]")'
    )
