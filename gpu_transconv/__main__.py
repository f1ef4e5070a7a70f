"""Run the command line as ``python -m gpu_transconv``."""

import sys

from .tools.cli import main

if __name__ == "__main__":
    sys.exit(main())
