"""The command `python -m taskrouter_exporter`."""

import sys

from taskrouter_exporter.cli import main

sys.exit(main())
