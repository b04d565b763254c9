"""The password of an account, reread when its file changes."""

import threading

import structlog

from taskrouter_exporter.config.model import Account
from taskrouter_exporter.config.passwords import PasswordError, read_password_file
from taskrouter_exporter.files import Stamp, stamp

log = structlog.get_logger()


class Credentials:
    """The password of one account. Safe to use from several threads.

    Attributes:
        generation: How often the password has been reloaded.
    """

    def __init__(self, account: Account) -> None:
        self.generation = 0
        self._account = account
        self._lock = threading.Lock()
        self._seen = self._stamp()
        self._password = read_password(account)

    def password(self) -> str:
        """Return the current password.

        A file that cannot be read, in the middle of a rotation for example, leaves the last one in use.
        """
        with self._lock:
            seen = self._stamp()
            if seen != self._seen:
                self._seen = seen
                self._read_again()
            return self._password

    def _read_again(self) -> None:
        try:
            self._password = read_password(self._account)
        except (OSError, ValueError) as error:
            log.warning(
                "invalid password file; keeping the previous password",
                account=self._account.name,
                error=str(error),
            )
        else:
            self.generation += 1
            log.info("password file reloaded", account=self._account.name)

    def _stamp(self) -> Stamp:
        return stamp(self._account.password_file) if self._account.password_file else None


def read_password(account: Account) -> str:
    """Return the configured password of an account, or the current one in its file.

    Raises:
        PasswordError: the file does not exist, or does not contain a password.
    """
    if account.password is not None:
        return account.password.get_secret_value()
    if account.password_file is None:
        raise PasswordError(f"account {account.name} has neither a password nor a password file")
    return read_password_file(account.password_file)
