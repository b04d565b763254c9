"""The command `python -m taskrouter_exporter`, which is also `taskrouter-exporter`."""

import sys

from taskrouter_exporter.early_signals import hold_signals


def main() -> int:
    """Run the exporter and return its exit status. Signals of the startup are handled after it."""
    hold_signals()
    from taskrouter_exporter.cli import main  # noqa: PLC0415 -- takes a while, in which a SIGHUP would be fatal

    return main()


if __name__ == "__main__":
    sys.exit(main())
