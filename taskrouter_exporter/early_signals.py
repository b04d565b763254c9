"""Signals that arrive during the startup, before their handlers exist."""

import os
import signal


def hold_signals() -> None:
    """Block SIGHUP, whose default action is to end the process, until `release_signals`.

    The kernel discards a SIGTERM that PID 1 has no handler for: it is blocked there as well. Elsewhere its
    default action ends the startup at once.
    """
    held = {signal.SIGHUP, signal.SIGTERM} if os.getpid() == 1 else {signal.SIGHUP}
    signal.pthread_sigmask(signal.SIG_BLOCK, held)


def release_signals() -> None:
    """Receive the signals that were held, once their handlers exist."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP, signal.SIGTERM})
