"""The one exception that ends a backfill."""


class BackfillError(Exception):
    """A backfill that cannot start or go on. The message is one line, without secrets."""


def reason_of(error: OSError) -> str:
    """Return the operating system's own words for an error, without the name of the file."""
    return error.strerror or type(error).__name__
