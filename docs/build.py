"""Build the site into docs/_build/html; a warning is an error.

::

    python -m docs.build            # what has not changed since the last build is kept
    python -m docs.build --fresh    # everything anew, the gallery's scripts too
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

DOCS = Path(__file__).resolve().parent
#: What a build writes: the site, and pages made of scripts and docstrings.
MADE = ("_build", "paint", "reference/made")


def main(arguments: Sequence[str] | None = None) -> int:
    """Build; the exit status is Sphinx's, 1 where there was a warning."""
    parser = argparse.ArgumentParser(prog="python -m docs.build", description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--fresh", action="store_true", help="keep nothing of the last build")
    options = parser.parse_args(arguments)
    if options.fresh:
        for name in MADE:
            shutil.rmtree(DOCS / name, ignore_errors=True)
    from sphinx.cmd.build import main as sphinx_build

    target = DOCS / "_build" / "html"
    status = int(sphinx_build(["-W", "-n", "--keep-going", "-q", "-b", "html", str(DOCS), str(target)]))
    if not status:
        print(f"built: {target / 'index.html'}")
    return status


if __name__ == "__main__":
    sys.exit(main())
