"""The command `python -m taskrouter_exporter`, which is also `taskrouter-exporter`."""

import gc
import sys
from importlib import import_module
from typing import Final

from taskrouter_exporter.early_signals import hold_signals

_COMMANDS: Final = {"query": "taskrouter_exporter.one_shot.command"}
"""The modules of the commands that are not the exporter itself."""


def main() -> int:
    """Run the exporter, or the command that the first argument names, and return the exit status."""
    arguments = sys.argv[1:]
    if arguments and arguments[0] in _COMMANDS:
        command: int = import_module(_COMMANDS[arguments[0]]).main(arguments[1:])
        return command
    # Signals of the startup are handled after it.
    hold_signals()
    # Imports make no garbage, and looking for it takes a fifth of their time: 0.45 s instead of 0.37 s.
    gc.disable()
    from taskrouter_exporter.cli import main  # noqa: PLC0415 -- takes a while, in which a SIGHUP would be fatal

    # What is imported stays, and full collections would look at it again each time. With 5,000 queries, that
    # is a seventh of the CPU time of a scrape.
    gc.freeze()
    gc.enable()
    return main()


if __name__ == "__main__":
    sys.exit(main())
