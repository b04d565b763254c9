"""Basic authentication against bcrypt hashes, without a run of bcrypt for every request."""

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
"""Passwords that wait for their check, or are in it. One is checked at a time, as in the exporter-toolkit."""
MAX_WAITING_PER_CLIENT: Final = 4
"""Likewise, for one client's address: nobody alone keeps all others out."""
_MAX_PASSWORD_BYTES: Final = 72
"""bcrypt takes no more."""


class TooManyAttemptsError(Exception):
    """So many passwords wait for their check that this one is not looked at."""


@dataclass(frozen=True, slots=True)
class Login:
    """What a client says it is."""

    user: str
    password: bytes = field(repr=False)

    @classmethod
    def from_header(cls, value: bytes) -> "Login | None":
        """Read the value of an Authorization header; None where it holds no basic authentication."""
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

    A password that was right is remembered, as a keyed digest, until its user has another hash: a scrape does
    not cost a run of bcrypt, and a flood of wrong passwords delays nobody who has been here before. Runs
    happen one at a time in a thread of their own. An unknown user costs as much time as a known one.
    """

    def __init__(self) -> None:
        self._secret = secrets.token_bytes(32)
        self._right: dict[str, bytes] = {}
        self._running: dict[bytes, asyncio.Future[bool]] = {}
        self._waiting: Counter[str] = Counter()
        self._thread = ThreadPoolExecutor(1, "bcrypt")

    async def accepts(self, users: Mapping[str, bytes], credentials: Login, client: str) -> bool:
        """Whether the password is the user's.

        Args:
            users: bcrypt hashes by user name, at least one.
            credentials: What the client says it is.
            client: The client's address.

        Raises:
            TooManyAttemptsError: too many other passwords wait to be checked.
        """
        user, password = credentials.user, credentials.password
        if len(password) > _MAX_PASSWORD_BYTES:
            return False
        hashed = users.get(user) or _nobodys_hash(users)
        digest = hmac.digest(self._secret, user.encode() + b":" + hashed + password, "sha256")
        if hmac.compare_digest(digest, self._right.get(user, b"")):
            return True
        right = await asyncio.shield(self._check(digest, password, hashed, client)) and user in users
        if right:
            self._right = {name: seen for name, seen in self._right.items() if name in users} | {user: digest}
        return right

    def _check(self, digest: bytes, password: bytes, hashed: bytes, client: str) -> asyncio.Future[bool]:
        """The check of a password; one that is under way already is shared."""
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


def _nobodys_hash(users: Mapping[str, bytes]) -> bytes:
    """A hash that no password has, and that costs as much as the dearest of the users'."""
    cost = max(hashed.split(b"$")[2] for hashed in users.values())
    return b"$2b$" + cost + b"$" + b"." * 53
