"""An account's password as it is now: read again when its file changes."""

import threading

import structlog

from taskrouter_exporter.config.accounts import read_password
from taskrouter_exporter.config.model import Account

log = structlog.get_logger()


class Credentials:
    """The password of one account. Safe to use from several threads.

    Attributes:
        generation: How often the password has been read again.
    """

    def __init__(self, account: Account) -> None:
        self.generation = 0
        self._account = account
        self._lock = threading.Lock()
        self._seen = self._stamp()
        self._password = read_password(account)

    def password(self) -> str:
        """The current password.

        A file that cannot be read, in the middle of a rotation for example, leaves the last one in use.
        """
        with self._lock:
            stamp = self._stamp()
            if stamp != self._seen:
                self._seen = stamp
                self._read_again()
            return self._password

    def _read_again(self) -> None:
        try:
            self._password = read_password(self._account)
        except (OSError, ValueError) as error:
            log.warning(
                "password file not usable, the last password stays",
                account=self._account.name,
                error=str(error),
            )
        else:
            self.generation += 1
            log.info("password file read again", account=self._account.name)

    def _stamp(self) -> tuple[int, int, int] | None:
        """What changes when the file does, also when a symbolic link is moved as Kubernetes does."""
        if self._account.password_file is None:
            return None
        try:
            status = self._account.password_file.stat()
        except OSError:
            return None
        return status.st_ino, status.st_mtime_ns, status.st_size
