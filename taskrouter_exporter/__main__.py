"""The command `python -m taskrouter_exporter`, which is also `taskrouter-exporter`."""

import gc
import sys
from importlib import import_module
from typing import Final

from taskrouter_exporter.early_signals import hold_signals

_COMMANDS: Final = {"backfill": "taskrouter_exporter.history.command"}
"""Commands by their first argument, and the modules that they are in. Without one, the exporter runs."""


def main() -> int:
    """Run the exporter or a command, and return the exit status. It handles signals of the startup later."""
    hold_signals()
    # Imports make no garbage, and looking for it takes a fifth of their time: 0.45 s instead of 0.37 s.
    gc.disable()
    name = sys.argv[1] if len(sys.argv) > 1 else ""
    # An import takes a while, in which a SIGHUP would be fatal, and a command does not need the server's.
    module = import_module(_COMMANDS.get(name, "taskrouter_exporter.cli"))
    gc.enable()
    arguments = sys.argv[2:] if name in _COMMANDS else sys.argv[1:]
    status: int = module.main(arguments)
    return status


if __name__ == "__main__":
    sys.exit(main())
