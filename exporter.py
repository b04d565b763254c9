"""The command `python exporter.py`, for a checkout."""

import sys

from taskrouter_exporter.cli import main

if __name__ == "__main__":
    sys.exit(main())
