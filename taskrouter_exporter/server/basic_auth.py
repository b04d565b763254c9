"""Basic authentication against bcrypt hashes, with a cache of accepted passwords."""

import asyncio
import base64
import hmac
import secrets
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final

import bcrypt

MAX_WAITING: Final = 32
"""Passwords that are checked or wait for it. One is checked at a time, as in exporter-toolkit."""
MAX_WAITING_PER_CLIENT: Final = 4
"""The same for one client address, so that one client cannot lock out all others."""
_MAX_PASSWORD_BYTES: Final = 72
"""bcrypt ignores or refuses longer passwords."""


class TooManyAttemptsError(Exception):
    """Too many passwords wait to be checked."""


@dataclass(frozen=True, slots=True)
class Login:
    """The user name and password of a request."""

    user: str
    password: bytes = field(repr=False)

    @classmethod
    def from_header(cls, value: bytes) -> "Login | None":
        """Parse an Authorization header; return None if it is not basic authentication."""
        scheme, _, encoded = value.partition(b" ")
        if scheme.lower() != b"basic":
            return None
        try:
            user, colon, password = base64.b64decode(encoded.strip(), validate=True).partition(b":")
            return cls(user.decode(), password) if colon else None
        except ValueError:
            return None


class BasicAuth:
    """Checks user names and passwords.

    A correct password is cached as a keyed digest until its user's hash changes: a scrape does not cost a run
    of bcrypt, and a flood of wrong passwords does not delay known clients. bcrypt runs one at a time, in its
    own thread. An unknown user takes as long as a known one.
    """

    def __init__(self) -> None:
        self._secret = secrets.token_bytes(32)
        self._right: dict[str, bytes] = {}
        self._running: dict[bytes, asyncio.Future[bool]] = {}
        self._waiting: Counter[str] = Counter()
        self._thread = ThreadPoolExecutor(1, "bcrypt")

    async def accepts(self, users: Mapping[str, bytes], login: Login, client: str) -> bool:
        """Return whether the password is the user's.

        Args:
            users: bcrypt hashes by user name, at least one.
            login: The user name and password of the request.
            client: The client's address.

        Raises:
            TooManyAttemptsError: too many passwords wait to be checked.
        """
        user, password = login.user, login.password
        if len(password) > _MAX_PASSWORD_BYTES:
            return False
        hashed = users.get(user) or _unmatched_hash(users)
        digest = hmac.digest(self._secret, user.encode() + b":" + hashed + password, "sha256")
        if hmac.compare_digest(digest, self._right.get(user, b"")):
            return True
        right = await asyncio.shield(self._check(digest, password, hashed, client)) and user in users
        if right:
            self._right = {name: seen for name, seen in self._right.items() if name in users} | {user: digest}
        return right

    def _check(self, digest: bytes, password: bytes, hashed: bytes, client: str) -> asyncio.Future[bool]:
        """Return the check of a password, which requests with the same password share."""
        if digest in self._running:
            return self._running[digest]
        if len(self._running) >= MAX_WAITING or self._waiting[client] >= MAX_WAITING_PER_CLIENT:
            raise TooManyAttemptsError
        check = asyncio.get_running_loop().run_in_executor(self._thread, _matches, password, hashed)
        self._running[digest] = check
        self._waiting[client] += 1

        def done(_check: asyncio.Future[bool]) -> None:
            del self._running[digest]
            self._waiting[client] -= 1
            self._waiting += Counter()  # drops the clients that are at 0

        check.add_done_callback(done)
        return check


def _matches(password: bytes, hashed: bytes) -> bool:
    try:
        return bcrypt.checkpw(password, hashed)
    except ValueError:
        return False


def _unmatched_hash(users: Mapping[str, bytes]) -> bytes:
    """Return a hash that no password has, with the highest cost among the users' hashes."""
    cost = max(hashed.split(b"$")[2] for hashed in users.values())
    return b"$2b$" + cost + b"$" + b"." * 53
