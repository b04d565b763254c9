"""Basic authentication against bcrypt hashes, with a cache of accepted passwords."""

import asyncio
import base64
import hmac
import ipaddress
import secrets
from collections import deque
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Final

import bcrypt

MAX_WAITING: Final = 64
"""Passwords that are checked or wait for it. One is checked at a time, as in exporter-toolkit."""
MAX_WAITING_PER_CLIENT: Final = 4
"""The same for one client address."""
_MAX_PASSWORD_BYTES: Final = 72
"""bcrypt refuses longer passwords."""
_IPV6_NETWORK_BITS: Final = 64
"""What one IPv6 client is usually assigned."""


class TooManyAttemptsError(Exception):
    """Too many passwords wait to be checked."""


@dataclass(frozen=True, slots=True)
class Login:
    """The user name and password of a request."""

    user: str
    password: bytes = field(repr=False)

    @classmethod
    def from_header(cls, value: bytes) -> "Login | None":
        """Parse an Authorization header; return None if it is not basic authentication.

        Malformed credentials are a login of nobody, so that they cost as much as any other wrong ones.
        """
        scheme, _, encoded = value.partition(b" ")
        if scheme.lower() != b"basic" or not encoded.strip():
            return None
        try:
            user, colon, password = base64.b64decode(encoded.strip(), validate=True).partition(b":")
            return cls(user.decode() if colon else "", password)
        except ValueError:
            return cls("", encoded)


@dataclass(frozen=True, slots=True)
class _Check:
    """A password that waits to be checked."""

    digest: bytes = field(repr=False)
    password: bytes = field(repr=False)
    hashed: bytes = field(repr=False)
    cost: int
    answer: asyncio.Future[bool]


class BasicAuth:
    """Checks user names and passwords.

    A correct password is cached as a keyed digest until its user's hash changes: a scrape does not cost a run
    of bcrypt, and a known client does not wait for others. bcrypt runs one at a time, in its own thread.
    Clients take turns, and while too many passwords wait, a new client replaces the last password of the
    client with the most.

    Everything that is refused takes as long as the highest cost among the users' hashes.
    """

    def __init__(self) -> None:
        self._secret = secrets.token_bytes(32)
        self._right: dict[str, bytes] = {}
        self._answers: dict[bytes, asyncio.Future[bool]] = {}
        self._waiting: dict[str, deque[_Check]] = {}
        self._checking = ""
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
        hashed = users.get(user, b"")
        digest = hmac.digest(self._secret, b"%d:" % len(user) + user.encode() + hashed + password, "sha256")
        if hmac.compare_digest(digest, self._right.get(user, b"")):
            return True
        right = await asyncio.shield(self._check(digest, password, hashed, client, _highest_cost(users)))
        if right:
            self._right = {name: seen for name, seen in self._right.items() if name in users} | {user: digest}
        return right

    def _check(
        self, digest: bytes, password: bytes, hashed: bytes, client: str, cost: int
    ) -> asyncio.Future[bool]:
        """Return the check of a password, which requests with the same password share."""
        if digest in self._answers:
            return self._answers[digest]
        network = _network(client)
        self._make_room(network)
        answer: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._answers[digest] = answer
        self._waiting.setdefault(network, deque()).append(_Check(digest, password, hashed, cost, answer))
        self._check_next()
        return answer

    def _make_room(self, network: str) -> None:
        """Raise TooManyAttemptsError, or withdraw a password of the client with the most of them."""
        count = len(self._waiting.get(network, ())) + (network == self._checking)
        if count >= MAX_WAITING_PER_CLIENT:
            raise TooManyAttemptsError
        if len(self._answers) < MAX_WAITING:
            return
        most = max(self._waiting.values(), key=len)
        if len(most) <= count + 1:
            raise TooManyAttemptsError
        withdrawn = most.pop()
        del self._answers[withdrawn.digest]
        withdrawn.answer.set_exception(TooManyAttemptsError())

    def _check_next(self) -> None:
        if self._checking or not self._waiting:
            return
        network = self._checking = next(iter(self._waiting))
        checks = self._waiting.pop(network)
        check = checks.popleft()
        if checks:
            self._waiting[network] = checks  # now the last
        run = asyncio.get_running_loop().run_in_executor(
            self._thread, _matches, check.password, check.hashed, check.cost
        )
        run.add_done_callback(partial(self._checked, check))

    def _checked(self, check: _Check, run: asyncio.Future[bool]) -> None:
        self._checking = ""
        del self._answers[check.digest]
        if error := run.exception():
            check.answer.set_exception(error)
        else:
            check.answer.set_result(run.result())
        self._check_next()


def _matches(password: bytes, hashed: bytes, cost: int) -> bool:
    """Return whether the password has the hash, empty for an unknown user.

    Anything else takes as long as a run of bcrypt at the given cost.
    """
    own_cost = _cost(hashed) if hashed and len(password) <= _MAX_PASSWORD_BYTES else None
    if own_cost is None:
        _run(password, cost)
        return False
    if bcrypt.checkpw(password, hashed):
        return True
    for missing in range(own_cost, cost):  # each step doubles the time: 2 ** own_cost + … = 2 ** cost
        _run(password, missing)
    return False


def _run(password: bytes, cost: int) -> None:
    bcrypt.hashpw(password[:_MAX_PASSWORD_BYTES], b"$2b$%02d$" % cost + b"." * 22)


def _cost(hashed: bytes) -> int:
    return int(hashed.split(b"$")[2])


def _highest_cost(users: Mapping[str, bytes]) -> int:
    return max(map(_cost, users.values()))


def _network(client: str) -> str:
    """Return what counts as one client: an IPv4 address, or the network of an IPv6 address."""
    try:
        address = ipaddress.ip_address(client.partition("%")[0])
    except ValueError:
        return client or "unknown"
    if address.version == 4:  # noqa: PLR2004 -- IPv4
        return str(address)
    if address.ipv4_mapped:
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((int(address), _IPV6_NETWORK_BITS), strict=False))
