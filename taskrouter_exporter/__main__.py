"""The command `python -m taskrouter_exporter`, which is also `taskrouter-exporter`."""

import gc
import sys

from taskrouter_exporter.early_signals import hold_signals


def main() -> int:
    """Run the exporter and return its exit status. Signals of the startup are handled after it."""
    hold_signals()
    # Imports make no garbage, and looking for it takes a fifth of their time: 0.45 s instead of 0.37 s.
    gc.disable()
    from taskrouter_exporter.cli import main  # noqa: PLC0415 -- takes a while, in which a SIGHUP would be fatal

    # What is imported stays, and full collections would look at it again each time: with 5,000 queries, that is
    # a seventh of the CPU time of a scrape.
    gc.freeze()
    gc.enable()
    return main()


if __name__ == "__main__":
    sys.exit(main())
