"""What can go wrong with the answers of a workspace, on purpose.

A fault is switched on from Python (`simulator.faults.set(sid, Fault.status(503, times=2))`) or over the test
API (`PUT /simulator/faults/{sid}` with `{"fault": "status", "status": 503, "times": 2}`), with the same
constructors and the same names.
"""

import inspect
import json
import threading
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from typing import Any, Final

from taskrouter_exporter.sids import sid_key
from taskrouter_exporter.simulator.wire import Answer, Connection, Request, error_answer, json_answer

_CHUNK: Final = 65_536
_MORE_THAN_1_MIB: Final = 1024 * 1024 + _CHUNK

FAULTS_PATH: Final = "/simulator/faults"

Rewrite = Callable[[Answer], Answer]
Deliver = Callable[[Connection, Answer], None]


def _as_it_is(answer: Answer) -> Answer:
    return answer


@dataclass(frozen=True, slots=True)
class Fault:
    """One way to go wrong; made by the constructors below, which all take `times`: None is for ever.

    Attributes:
        name: The constructor's name.
        parameters: What the constructor got, its defaults included.
        times: How many requests it lasts.
        rewrite: Changes the answer before it is sent.
        deliver: Sends it, or fails to.
    """

    name: str
    parameters: Mapping[str, Any] = field(hash=False)
    times: int | None
    rewrite: Rewrite = field(default=_as_it_is, compare=False, repr=False)
    deliver: Deliver = field(default=Connection.send_answer, compare=False, repr=False)

    def __post_init__(self) -> None:
        if self.times is not None and self.times < 1:
            raise ValueError(f"{self.name}: times is at least 1, or null for ever")

    @staticmethod
    def latency(seconds: float, times: int | None = None) -> "Fault":
        """Answer right, but only after so long."""
        _check_seconds("latency", seconds)

        def deliver(connection: Connection, answer: Answer) -> None:
            if not connection.gone_within(seconds):
                connection.send_answer(answer)

        return Fault("latency", {"seconds": seconds}, times, deliver=deliver)

    @staticmethod
    def hang(times: int | None = None) -> "Fault":
        """Never answer; wait until the client or the simulator closes the connection."""

        def deliver(connection: Connection, _answer: Answer) -> None:
            connection.gone_within(None)

        return Fault("hang", {}, times, deliver=deliver)

    @staticmethod
    def reset(times: int | None = None) -> "Fault":
        """Reset the connection instead of answering."""

        def deliver(connection: Connection, _answer: Answer) -> None:
            connection.reset()

        return Fault("reset", {}, times, deliver=deliver)

    @staticmethod
    def slow_drip(interval: float = 0.1, times: int | None = None, *, headers: bool = False) -> "Fault":
        """Send the body (or, with `headers`, all of it) one byte every `interval` seconds."""
        _check_seconds("slow_drip", interval)

        def deliver(connection: Connection, answer: Answer) -> None:
            head = answer.head(keep_alive=connection.keep_alive)
            at_once, slowly = (b"", head + answer.body) if headers else (head, answer.body)
            connection.send(at_once)
            for position in range(len(slowly)):
                if connection.gone_within(interval):
                    return
                connection.send(slowly[position : position + 1])

        return Fault("slow_drip", {"interval": interval, "headers": headers}, times, deliver=deliver)

    @staticmethod
    def truncated(times: int | None = None) -> "Fault":
        """Announce the whole body, send half of it and close."""

        def deliver(connection: Connection, answer: Answer) -> None:
            connection.send(answer.head(keep_alive=True) + answer.body[: len(answer.body) // 2])
            connection.keep_alive = False

        return Fault("truncated", {}, times, deliver=deliver)

    @staticmethod
    def html(status: int = 502, times: int | None = None) -> "Fault":
        """Answer like a proxy in between: an HTML page."""
        _check_status("html", status)
        page = f"<!DOCTYPE html><html><head><title>{status}</title></head><body>Sorry.</body></html>"
        answer = Answer(status, page.encode(), "text/html; charset=utf-8")
        return Fault("html", {"status": status}, times, lambda _answer: answer)

    @staticmethod
    def invalid_json(times: int | None = None) -> "Fault":
        """Answer 200 with a complete body that is half a JSON document."""
        return Fault(
            "invalid_json",
            {},
            times,
            lambda answer: replace(answer, body=answer.body[: len(answer.body) // 2]),
        )

    @staticmethod
    def wrong_types(
        attribute: str = "reservations_created", value: object = "12", times: int | None = None
    ) -> "Fault":
        """Put a value of another type, or `NaN`, in an attribute's place."""
        return Fault(
            "wrong_types",
            {"attribute": attribute, "value": value},
            times,
            _rewrite_content(lambda content: {**content, attribute: value}),
        )

    @staticmethod
    def nulls(attribute: str | None = None, times: int | None = None) -> "Fault":
        """Answer null for every attribute, or for one."""
        return Fault(
            "nulls",
            {"attribute": attribute},
            times,
            _rewrite_content(
                lambda content: {k: None if attribute in (k, None) else v for k, v in content.items()}
            ),
        )

    @staticmethod
    def missing(attribute: str | None = None, times: int | None = None) -> "Fault":
        """Leave every attribute out, or one."""
        return Fault(
            "missing",
            {"attribute": attribute},
            times,
            _rewrite_content(
                lambda content: {k: v for k, v in content.items() if attribute not in (k, None)}
            ),
        )

    @staticmethod
    def not_object(times: int | None = None) -> "Fault":
        """Answer with the JSON object in a list."""
        return Fault("not_object", {}, times, _rewrite_content(lambda content: [content]))

    @staticmethod
    def huge_body(
        size: int = _MORE_THAN_1_MIB, times: int | None = None, *, chunked: bool = False
    ) -> "Fault":
        """Answer right, but padded with blanks to `size` bytes; with `chunked` without saying how many."""
        if not 0 < size <= 1 << 30:
            raise ValueError("huge_body: size is between 1 byte and 1 GiB")

        def deliver(connection: Connection, answer: Answer) -> None:
            connection.send(answer.head(keep_alive=connection.keep_alive, chunked=True))
            for position in range(0, len(answer.body), _CHUNK):
                chunk = answer.body[position : position + _CHUNK]
                connection.send(b"%x\r\n%b\r\n" % (len(chunk), chunk))
            connection.send(b"0\r\n\r\n")

        return Fault(
            "huge_body",
            {"size": size, "chunked": chunked},
            times,
            lambda answer: replace(answer, body=answer.body.ljust(size)),
            deliver if chunked else Connection.send_answer,
        )

    @staticmethod
    def redirect(
        location: str = "http://127.0.0.1:9/elsewhere", status: int = 302, times: int | None = None
    ) -> "Fault":
        """Point elsewhere, by default to a port where nobody should listen."""
        _check_status("redirect", status)
        _check_header("redirect", location)
        answer = Answer(status, headers=(("Location", location),))
        return Fault("redirect", {"location": location, "status": status}, times, lambda _answer: answer)

    @staticmethod
    def status(
        status: int,
        times: int | None = None,
        retry_after: int | str | None = None,
        *,
        problem: bool = False,
    ) -> "Fault":
        """Answer with an error.

        Args:
            status: Of the answer.
            times: How many requests it lasts.
            retry_after: The header's value: seconds, an HTTP date, or nonsense.
            problem: Whether the body is a problem detail (RFC 9457) instead of Twilio's older form.
        """
        _check_status("status", status)
        headers: tuple[tuple[str, str], ...] = ()
        if retry_after is not None:
            _check_header("status", str(retry_after))
            headers = (("Retry-After", str(retry_after)),)
        error = error_answer(status, problem=problem)
        return Fault(
            "status",
            {"status": status, "retry_after": retry_after, "problem": problem},
            times,
            lambda answer: replace(error, headers=(*answer.headers, *headers)),
        )

    @classmethod
    def from_json(cls, content: object) -> "Fault":
        """The fault that a JSON object describes: its constructor as `fault`, and the parameters.

        Raises:
            ValueError: There is no such fault or parameter, or a value is not what it should be.
        """
        if not isinstance(content, dict):
            raise ValueError('write an object: {"fault": "hang"}')  # noqa: TRY004 - one kind of error for a bad fault
        name = content.get("fault")
        if name not in FAULT_NAMES:
            raise ValueError(f"no fault {name!r}: choose from {', '.join(FAULT_NAMES)}")
        constructor: Callable[..., Fault] = getattr(cls, name)
        parameters = {key: value for key, value in content.items() if key != "fault"}
        signature = inspect.signature(constructor)
        for key, value in parameters.items():
            if key not in signature.parameters:
                raise ValueError(f"{name} has no {key!r}: it takes {', '.join(signature.parameters)}")
            _check_type(name, key, value, signature.parameters[key].annotation)
        try:
            return constructor(**parameters)
        except TypeError as error:
            raise ValueError(f"{name}: {error}") from error

    def to_json(self) -> dict[str, Any]:
        """The JSON object that describes this fault."""
        return {"fault": self.name, **self.parameters, "times": self.times}


FAULT_NAMES: Final = (
    "latency", "hang", "reset", "slow_drip", "truncated", "html", "invalid_json", "wrong_types", "nulls",
    "missing", "not_object", "huge_body", "redirect", "status",
)  # fmt: skip


class Faults:
    """Which workspace has which fault at present; any thread may ask and change it.

    SIDs are compared without regard to case.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._faults: dict[str, Fault] = {}

    def set(self, workspace_sid: str, fault: Fault) -> None:
        """Switch a fault on, in place of one that the workspace has."""
        with self._lock:
            self._faults[sid_key(workspace_sid)] = fault

    def clear(self, workspace_sid: str | None = None) -> None:
        """Switch the fault of a workspace off, or every one."""
        with self._lock:
            if workspace_sid is None:
                self._faults.clear()
            else:
                self._faults.pop(sid_key(workspace_sid), None)

    def take(self, workspace_sid: str) -> Fault | None:
        """The fault for the next request of a workspace, which it uses up by one."""
        key = sid_key(workspace_sid)
        with self._lock:
            fault = self._faults.get(key)
            if fault is not None and fault.times is not None:
                if fault.times > 1:
                    self._faults[key] = replace(fault, times=fault.times - 1)
                else:
                    del self._faults[key]
            return fault

    def active(self) -> dict[str, Fault]:
        """Every fault that is on, by workspace; `times` is what is left of it."""
        with self._lock:
            return dict(self._faults)


def answer_about_faults(faults: Faults, workspace_sids: Collection[str], request: Request) -> Answer:
    """Serve the test API: GET all faults, PUT one workspace's, DELETE one workspace's or all."""
    sid = request.path.removeprefix(FAULTS_PATH).removeprefix("/") or None
    if not (request.path + "/").startswith(FAULTS_PATH + "/") or (
        sid and sid_key(sid) not in map(sid_key, workspace_sids)
    ):
        return error_answer(HTTPStatus.NOT_FOUND)
    match request.method, sid:
        case "GET", None:
            return json_answer({sid: fault.to_json() for sid, fault in faults.active().items()})
        case "DELETE", _:
            faults.clear(sid)
            return Answer(HTTPStatus.NO_CONTENT)
        case "PUT", str():
            try:
                fault = Fault.from_json(json.loads(request.body))
            except ValueError as error:
                return error_answer(HTTPStatus.BAD_REQUEST, str(error))
            faults.set(sid, fault)
            return json_answer(fault.to_json())
        case _:
            return error_answer(HTTPStatus.METHOD_NOT_ALLOWED)


def _rewrite_content(change: Callable[[dict[str, Any]], object]) -> Rewrite:
    """A rewrite of the JSON object in a good answer; an error stays what it is."""

    def rewrite(answer: Answer) -> Answer:
        if answer.status != HTTPStatus.OK:
            return answer
        return replace(answer, body=json.dumps(change(json.loads(answer.body))).encode())

    return rewrite


def _check_seconds(name: str, seconds: float) -> None:
    if not 0 <= seconds <= 3600:  # noqa: PLR2004 - an hour
        raise ValueError(f"{name}: seconds are between 0 and 3600")


def _check_status(name: str, status: int) -> None:
    if not 200 <= status <= 599:  # noqa: PLR2004 - the final ones (RFC 9110, section 15)
        raise ValueError(f"{name}: status is between 200 and 599")


def _check_header(name: str, value: str) -> None:
    if not (value.isascii() and value.isprintable()):
        raise ValueError(f"{name}: {value!r} is not printable ASCII")


def _check_type(name: str, key: str, value: object, annotation: Any) -> None:  # noqa: ANN401 - it is a type or a union
    allowed = annotation | int if annotation is float else annotation
    if not isinstance(value, allowed) or (isinstance(value, bool) and annotation not in (bool, object)):
        raise ValueError(f"{name}: {key} is not {value!r} (write {inspect.formatannotation(annotation)})")
