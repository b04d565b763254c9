"""Passwords against bcrypt hashes."""

import asyncio
import base64
import threading
from collections.abc import Callable, Iterator
from functools import partial
from unittest.mock import Mock

import bcrypt
import pytest

from taskrouter_exporter.server import basic_auth
from taskrouter_exporter.server.basic_auth import (
    MAX_WAITING,
    MAX_WAITING_PER_CLIENT,
    BasicAuth,
    Login,
    TooManyAttemptsError,
)

PASSWORD = b"correct horse"
USERS = {"alice": bcrypt.hashpw(PASSWORD, bcrypt.gensalt(4))}
ALICE = Login("alice", PASSWORD)


class Runs:
    """Counts the runs of bcrypt, and holds them up if told so."""

    def __init__(self) -> None:
        self.go_on = threading.Event()
        self.go_on.set()
        self.hashes: list[bytes] = []
        self.passwords: list[bytes] = []
        self.threads: set[str] = set()
        self.at_once = self.most_at_once = 0

    def check(self, password: bytes, hashed: bytes, _cost: int) -> bool:
        self.hashes.append(hashed)
        self.passwords.append(password)
        self.threads.add(threading.current_thread().name)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        self.go_on.wait(20)
        self.at_once -= 1
        return hashed != b"" and bcrypt.checkpw(password, hashed)


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> Iterator[Runs]:
    runs = Runs()
    monkeypatch.setattr(basic_auth, "_matches", runs.check)
    yield runs
    runs.go_on.set()


def accepts(auth: BasicAuth, *attempts: Login, client: str = "") -> list[bool]:
    async def ask() -> list[bool]:
        return [await auth.accepts(USERS, each, client) for each in attempts]

    return asyncio.run(ask())


def test_only_the_correct_password_is_accepted() -> None:
    wrong = [b"", b"correct horse ", b"Correct horse", b"\xff\x00", b"x" * 72, b"x" * 73, b"x" * 5000]
    answers = accepts(BasicAuth(), ALICE, *(Login("alice", each) for each in wrong))
    assert answers == [True] + [False] * len(wrong)


def test_an_unknown_user_is_refused_whatever_the_password() -> None:
    unknown = [Login("bob", PASSWORD), Login("", PASSWORD), Login("alice\0", PASSWORD)]
    assert accepts(BasicAuth(), *unknown) == [False] * 3


def test_a_correct_password_is_checked_once_and_a_wrong_one_each_time(runs: Runs) -> None:
    wrong = Login("alice", b"wrong")
    assert accepts(BasicAuth(), *[ALICE] * 50, wrong, wrong, ALICE) == [True] * 50 + [False, False, True]
    assert len(runs.hashes) == 3


def test_bcrypt_never_blocks_the_event_loop(runs: Runs) -> None:
    runs.go_on.clear()

    async def ask() -> bool:
        answer = asyncio.ensure_future(BasicAuth().accepts(USERS, ALICE, ""))
        await asyncio.sleep(0.05)
        runs.go_on.set()
        return await answer

    assert asyncio.run(ask())
    assert threading.current_thread().name not in runs.threads


MIXED = {
    "alice": bcrypt.hashpw(PASSWORD, bcrypt.gensalt(5)),
    "bob": bcrypt.hashpw(PASSWORD, bcrypt.gensalt(8)),
}
REFUSED = {
    "known user": Login("bob", b"wrong"),
    "known user with a cheaper hash": Login("alice", b"wrong"),
    "unknown user": Login("carol", b"wrong"),
    "unknown user with the password of another": Login("carol", PASSWORD),
    "password of 73 bytes": Login("alice", b"x" * 73),
    "password of 10,000 bytes": Login("carol", b"x" * 10_000),
    "empty password": Login("alice", b""),
    "malformed": Login.from_header(b"Basic " + base64.b64encode(b"alice")),
    "malformed base64": Login.from_header(b"Basic alice:wrong"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_whatever_is_refused_has_the_cost_of_the_most_expensive_hash(
    case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    spent = 0
    check, run = bcrypt.checkpw, bcrypt.hashpw

    def counted(call: Callable[[bytes, bytes], object], password: bytes, salt: bytes) -> object:
        nonlocal spent
        spent += 2 ** int(salt.split(b"$")[2])
        return call(password, salt)

    monkeypatch.setattr(bcrypt, "checkpw", partial(counted, check))
    monkeypatch.setattr(bcrypt, "hashpw", partial(counted, run))
    login = REFUSED[case]
    assert login is not None
    assert asyncio.run(BasicAuth().accepts(MIXED, login, "")) is False
    assert spent == 2**8


def test_a_changed_hash_invalidates_the_cache(runs: Runs) -> None:
    other = {"alice": bcrypt.hashpw(b"another", bcrypt.gensalt(4))}
    auth = BasicAuth()

    async def ask() -> list[bool]:
        return [await auth.accepts(users, ALICE, "") for users in (USERS, other, USERS)]

    assert asyncio.run(ask()) == [True, False, True]
    assert len(runs.hashes) == 2  # what was right once still is: the hash is the same


def test_a_user_who_was_removed_is_refused() -> None:
    auth = BasicAuth()

    async def ask() -> list[bool]:
        return [await auth.accepts(users, ALICE, "") for users in (USERS, {"bob": USERS["alice"]})]

    assert asyncio.run(ask()) == [True, False]


def test_concurrent_equal_attempts_share_a_check(runs: Runs) -> None:
    auth = BasicAuth()

    async def ask() -> list[bool]:
        return await asyncio.gather(*(auth.accepts(USERS, ALICE, "") for _ in range(1000)))

    assert all(asyncio.run(ask()))
    assert len(runs.hashes) == 1


def test_a_flood_of_wrong_passwords_does_not_delay_known_clients(runs: Runs) -> None:
    auth = BasicAuth()

    async def flood() -> None:
        assert await auth.accepts(USERS, ALICE, "10.0.0.1")
        runs.go_on.clear()
        attempts = [
            asyncio.ensure_future(auth.accepts(USERS, Login("alice", b"%d" % n), f"10.0.1.{n % 100}"))
            for n in range(1000)
        ]
        await asyncio.sleep(0.05)
        assert await asyncio.wait_for(auth.accepts(USERS, ALICE, "10.0.0.1"), 5)
        runs.go_on.set()
        answers = await asyncio.gather(*attempts, return_exceptions=True)
        assert answers.count(False) == MAX_WAITING
        assert sum(isinstance(answer, TooManyAttemptsError) for answer in answers) == 1000 - MAX_WAITING

    asyncio.run(flood())
    assert runs.most_at_once == 1


def test_one_client_cannot_lock_out_others(runs: Runs) -> None:
    auth = BasicAuth()
    runs.go_on.clear()

    async def flood() -> None:
        attempts = [
            asyncio.ensure_future(auth.accepts(USERS, Login("alice", b"%d" % n), "10.6.6.6"))
            for n in range(1000)
        ]
        await asyncio.sleep(0)
        newcomer = asyncio.ensure_future(auth.accepts(USERS, ALICE, "10.0.0.1"))
        await asyncio.sleep(0)
        runs.go_on.set()
        assert await newcomer
        answers = await asyncio.gather(*attempts, return_exceptions=True)
        assert answers.count(False) == MAX_WAITING_PER_CLIENT
        assert await auth.accepts(USERS, Login("alice", b"later"), "10.6.6.6") is False

    asyncio.run(flood())


def test_a_flood_from_many_addresses_does_not_keep_out_the_right_password(runs: Runs) -> None:
    auth = BasicAuth()
    runs.go_on.clear()

    async def flood() -> None:
        attempts = [
            asyncio.ensure_future(auth.accepts(USERS, Login("alice", b"%d" % n), f"10.6.6.{n % 30}"))
            for n in range(1000)
        ]
        await asyncio.sleep(0)
        newcomers = [asyncio.ensure_future(auth.accepts(USERS, ALICE, f"10.0.0.{n}")) for n in range(20)]
        await asyncio.sleep(0)
        runs.go_on.set()
        assert all(await asyncio.gather(*newcomers))
        # Its turn came after one attempt of each other address, and that which was under way.
        assert runs.passwords.index(PASSWORD) <= 1 + 30
        answers = await asyncio.gather(*attempts, return_exceptions=True)
        assert answers.count(False) == MAX_WAITING - 1

    asyncio.run(flood())


@pytest.mark.parametrize(
    ("clients", "accepted"),
    [
        ([f"2001:db8:0:1::{n:x}" for n in range(20)], MAX_WAITING_PER_CLIENT),
        ([f"2001:db8:0:{n:x}::1" for n in range(20)], 20),
        ([f"::ffff:10.0.0.{n}" for n in range(20)], 20),
        ([f"fe80::{n:x}%eth0" for n in range(20)], MAX_WAITING_PER_CLIENT),
        ([""] * 20, MAX_WAITING_PER_CLIENT),
    ],
)
def test_an_ipv6_network_counts_as_one_client(clients: list[str], accepted: int, runs: Runs) -> None:
    auth = BasicAuth()
    runs.go_on.clear()

    async def ask() -> list[object]:
        attempts = [
            asyncio.ensure_future(auth.accepts(USERS, Login("alice", b"%d" % n), client))
            for n, client in enumerate(clients)
        ]
        await asyncio.sleep(0)
        runs.go_on.set()
        return list(await asyncio.gather(*attempts, return_exceptions=True))

    assert asyncio.run(ask()).count(False) == accepted


def test_an_error_of_bcrypt_reaches_the_request_and_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    auth = BasicAuth()
    monkeypatch.setattr(basic_auth, "_matches", Mock(side_effect=[MemoryError, True]))

    async def ask() -> bool:
        with pytest.raises(MemoryError):
            await auth.accepts(USERS, ALICE, "")
        return await auth.accepts(USERS, ALICE, "")

    assert asyncio.run(ask())


def test_a_cancelled_request_leaves_the_check_to_the_others(runs: Runs) -> None:
    auth = BasicAuth()
    runs.go_on.clear()

    async def ask() -> bool:
        first, second = (asyncio.ensure_future(auth.accepts(USERS, ALICE, "")) for _ in range(2))
        await asyncio.sleep(0.01)
        first.cancel()
        runs.go_on.set()
        return await second

    assert asyncio.run(ask())


def header(text: bytes) -> bytes:
    return b"Basic " + base64.b64encode(text)


@pytest.mark.parametrize(
    ("value", "user", "password"),
    [
        (header(b"alice:secret"), "alice", b"secret"),
        (header("zoë:pässword".encode()), "zoë", "pässword".encode()),
        (header(b"alice:a:b:c"), "alice", b"a:b:c"),
        (header(b":"), "", b""),
        (b"BASIC  " + base64.b64encode(b"a:b"), "a", b"b"),
    ],
)
def test_a_login_is_parsed_from_the_header(value: bytes, user: str, password: bytes) -> None:
    assert Login.from_header(value) == Login(user, password)


@pytest.mark.parametrize(
    "value",
    [
        b"", b"Basic", b"Basic ", b"Bearer abc", b"Digest username=a", b"\xff\xff",
    ],
)  # fmt: skip
def test_a_header_without_basic_authentication_has_no_login(value: bytes) -> None:
    assert Login.from_header(value) is None


@pytest.mark.parametrize(
    "value",
    [
        b"Basic !!!!", b"Basic YQ", header(b"no colon"), header(b"\xff:a"), b"Basic " + b"=" * 100,
    ],
)  # fmt: skip
def test_malformed_credentials_are_those_of_nobody(value: bytes) -> None:
    login = Login.from_header(value)
    assert login is not None
    assert login.user == ""


def test_a_password_is_not_in_the_repr() -> None:
    assert "horse" not in repr(ALICE)
