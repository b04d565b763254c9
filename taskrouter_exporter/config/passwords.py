"""Passwords in files: how they are read, and what is refused."""

from pathlib import Path
from typing import Final

from taskrouter_exporter.config.fields import (
    CREDENTIAL_FORMAT,
    has_quotation_marks,
    is_placeholder,
    is_secret,
    without_newline,
)
from taskrouter_exporter.files import FileError, read_regular_file

_MAX_PASSWORD_BYTES: Final = 4096


class PasswordError(ValueError):
    """A password file without a password. The message is one line, names the file and quotes none of it."""


def read_password_file(path: Path) -> str:
    """Return the password in a file.

    Raises:
        PasswordError: the file does not exist, or does not contain a password.
    """
    try:
        content = read_regular_file(path, _MAX_PASSWORD_BYTES)
    except FileError as error:
        raise PasswordError(f"{path} {error}") from None
    password = without_newline(content.decode("utf-8-sig", errors="replace"))
    if not password:
        raise PasswordError(f"{path} is empty")
    if is_placeholder(password):
        raise PasswordError(f"{path} contains a placeholder, which is not expanded")
    if has_quotation_marks(password):
        raise PasswordError(f"{path} contains quotation marks around the password; remove them")
    if not is_secret(password):
        raise PasswordError(f"{path} must contain one line of {CREDENTIAL_FORMAT}")
    return password
