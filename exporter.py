"""Entry point for `python exporter.py`."""

import sys

from taskrouter_exporter.__main__ import main

if __name__ == "__main__":
    sys.exit(main())
