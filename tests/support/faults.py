"""A TaskRouter simulator whose answers about a workspace go wrong on purpose.

`simulator.faults.set(sid, Fault.status(503, times=2))` replaces the next two answers about a workspace.
"""

import json
import socket
import struct
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Any, Final

from taskrouter_exporter.sids import sid_key
from taskrouter_exporter.simulator import ContactCentre, Simulator
from taskrouter_exporter.simulator.wire import Answer, Connection, Request, error_answer

_CHUNK: Final = 65_536
_MORE_THAN_1_MIB: Final = 1024 * 1024 + _CHUNK

Rewrite = Callable[[Answer], Answer]
Deliver = Callable[[Connection, Answer], None]


def _unchanged(answer: Answer) -> Answer:
    return answer


def _every_path(_path: str) -> bool:
    return True


@dataclass(frozen=True, slots=True)
class Fault:
    """One way to go wrong. The constructors below all take `times`: the number of requests, None for all.

    Attributes:
        name: The constructor's name.
        times: The number of requests that it lasts for.
        rewrite: Changes the answer before it is sent.
        deliver: Sends the answer, or fails to.
        concerns: Whether requests for a path are affected.
    """

    name: str
    times: int | None = None
    rewrite: Rewrite = _unchanged
    deliver: Deliver = Connection.send_answer
    concerns: Callable[[str], bool] = _every_path

    def where(self, concerns: Callable[[str], bool]) -> "Fault":
        """Return the fault for the requests whose path is concerned."""
        return replace(self, concerns=concerns)

    def after(self, seconds: float) -> "Fault":
        """Return the fault with every answer delayed."""

        def deliver(connection: Connection, answer: Answer) -> None:
            if not connection.gone_within(seconds):
                self.deliver(connection, answer)

        return replace(self, deliver=deliver)

    @staticmethod
    def replaced(old: bytes, new: bytes, times: int | None = None) -> "Fault":
        """Replace some bytes of the body by others."""
        return Fault("replaced", times, lambda answer: replace(answer, body=answer.body.replace(old, new)))

    @staticmethod
    def latency(seconds: float, times: int | None = None) -> "Fault":
        """Answer correctly after this many seconds."""

        def deliver(connection: Connection, answer: Answer) -> None:
            if not connection.gone_within(seconds):
                connection.send_answer(answer)

        return Fault("latency", times, deliver=deliver)

    @staticmethod
    def hang(times: int | None = None) -> "Fault":
        """Never answer; wait until the client or the simulator closes the connection."""

        def deliver(connection: Connection, _answer: Answer) -> None:
            connection.gone_within(None)

        return Fault("hang", times, deliver=deliver)

    @staticmethod
    def reset(times: int | None = None) -> "Fault":
        """Reset the connection instead of answering."""

        def deliver(connection: Connection, _answer: Answer) -> None:
            connection.keep_alive = False
            connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

        return Fault("reset", times, deliver=deliver)

    @staticmethod
    def slow_drip(interval: float = 0.1, times: int | None = None, *, headers: bool = False) -> "Fault":
        """Send the body (with `headers`, the whole answer) one byte every `interval` seconds."""

        def deliver(connection: Connection, answer: Answer) -> None:
            head = answer.head(keep_alive=connection.keep_alive)
            at_once, slowly = (b"", head + answer.body) if headers else (head, answer.body)
            connection.send(at_once)
            for position in range(len(slowly)):
                if connection.gone_within(interval):
                    return
                connection.send(slowly[position : position + 1])

        return Fault("slow_drip", times, deliver=deliver)

    @staticmethod
    def truncated(times: int | None = None) -> "Fault":
        """Announce the whole body, send half of it and close the connection."""

        def deliver(connection: Connection, answer: Answer) -> None:
            connection.send(answer.head(keep_alive=True) + answer.body[: len(answer.body) // 2])
            connection.keep_alive = False

        return Fault("truncated", times, deliver=deliver)

    @staticmethod
    def html(status: int = 502, times: int | None = None) -> "Fault":
        """Answer with an HTML page, as a proxy does."""
        page = f"<!DOCTYPE html><html><head><title>{status}</title></head><body>Sorry.</body></html>"
        answer = Answer(status, page.encode(), "text/html; charset=utf-8")
        return Fault("html", times, lambda _answer: answer)

    @staticmethod
    def invalid_json(times: int | None = None) -> "Fault":
        """Answer 200 with a complete body that is half of a JSON document."""
        return Fault(
            "invalid_json", times, lambda answer: replace(answer, body=answer.body[: len(answer.body) // 2])
        )

    @staticmethod
    def wrong_types(
        attribute: str = "reservations_created", value: object = "12", times: int | None = None
    ) -> "Fault":
        """Replace an attribute's value by one of another type, or by `NaN`."""
        return Fault("wrong_types", times, _rewrite_content(lambda content: {**content, attribute: value}))

    @staticmethod
    def nulls(attribute: str | None = None, times: int | None = None) -> "Fault":
        """Replace the value of one attribute, or of all, by null."""

        def change(content: dict[str, Any]) -> object:
            return {key: None if attribute in (key, None) else value for key, value in content.items()}

        return Fault("nulls", times, _rewrite_content(change))

    @staticmethod
    def missing(attribute: str | None = None, times: int | None = None) -> "Fault":
        """Leave out one attribute, or all."""

        def change(content: dict[str, Any]) -> object:
            return {key: value for key, value in content.items() if attribute not in (key, None)}

        return Fault("missing", times, _rewrite_content(change))

    @staticmethod
    def not_object(times: int | None = None) -> "Fault":
        """Answer with the JSON object inside a list."""
        return Fault("not_object", times, _rewrite_content(lambda content: [content]))

    @staticmethod
    def huge_body(
        size: int = _MORE_THAN_1_MIB, times: int | None = None, *, chunked: bool = False
    ) -> "Fault":
        """Answer correctly, padded with spaces to `size` bytes; with `chunked`, without a Content-Length."""

        def deliver(connection: Connection, answer: Answer) -> None:
            head = answer.head(keep_alive=connection.keep_alive)
            connection.send(
                head.replace(b"Content-Length: %d" % len(answer.body), b"Transfer-Encoding: chunked")
            )
            for position in range(0, len(answer.body), _CHUNK):
                chunk = answer.body[position : position + _CHUNK]
                connection.send(b"%x\r\n%b\r\n" % (len(chunk), chunk))
            connection.send(b"0\r\n\r\n")

        return Fault(
            "huge_body",
            times,
            lambda answer: replace(answer, body=answer.body.ljust(size)),
            deliver if chunked else Connection.send_answer,
        )

    @staticmethod
    def redirect(
        location: str = "http://127.0.0.1:9/elsewhere", status: int = 302, times: int | None = None
    ) -> "Fault":
        """Redirect, by default to a port on which nothing should listen."""
        answer = Answer(status, headers=(("Location", location),))
        return Fault("redirect", times, lambda _answer: answer)

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
            status: The answer's status.
            times: The number of requests that it lasts for.
            retry_after: The header's value: seconds, an HTTP date, or nonsense.
            problem: Whether the body is a problem detail (RFC 9457) instead of Twilio's older form.
        """
        error = _problem_answer(status) if problem else error_answer(status)
        if status in (HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED):
            error = replace(error, body=b"")
        headers = () if retry_after is None else (("Retry-After", str(retry_after)),)
        return Fault("status", times, lambda answer: replace(error, headers=(*answer.headers, *headers)))


class Faults:
    """The present fault of each workspace; safe to use from several threads.

    SIDs are compared without regard to case.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._faults: dict[str, Fault] = {}
        self._following: dict[str, list[Fault]] = {}

    def set(self, workspace_sid: str, fault: Fault) -> None:
        """Set the fault of a workspace, in place of a previous one."""
        with self._lock:
            self._faults[sid_key(workspace_sid)] = fault

    def follow(self, workspace_sid: str, faults: Iterable[Fault]) -> None:
        """Set faults of a workspace, each when the one before it is used up."""
        with self._lock:
            first, *rest = faults
            self._faults[sid_key(workspace_sid)], self._following[sid_key(workspace_sid)] = first, rest

    def clear(self, workspace_sid: str | None = None) -> None:
        """Remove the fault of a workspace, or every fault."""
        with self._lock:
            self._following.clear()
            if workspace_sid is None:
                self._faults.clear()
            else:
                self._faults.pop(sid_key(workspace_sid), None)

    def take(self, workspace_sid: str, path: str = "") -> Fault | None:
        """Return the fault for the next request about a workspace, and count it as used once."""
        key = sid_key(workspace_sid)
        with self._lock:
            fault = self._faults.get(key)
            if fault is None or not fault.concerns(path):
                return None
            if fault.times is not None:
                if fault.times > 1:
                    self._faults[key] = replace(fault, times=fault.times - 1)
                elif following := self._following.get(key):
                    self._faults[key] = following.pop(0)
                else:
                    del self._faults[key]
            return fault

    def deliver(self, connection: Connection, request: Request, answer: Answer) -> None:
        """Send an answer, changed by the fault of the workspace in the request's path."""
        fault = self.take(request.path.split("/")[3], request.path) if request.path.count("/") > 2 else None
        if fault is None:
            connection.send_answer(answer)
        else:
            fault.deliver(connection, fault.rewrite(answer))


class FaultySimulator(Simulator):
    """A simulator with a fault for each workspace that a test chooses."""

    def __init__(self, centre: ContactCentre, *arguments: Any, **options: Any) -> None:
        self.faults = Faults()
        super().__init__(centre, *arguments, deliver=self.faults.deliver, **options)


def _rewrite_content(change: Callable[[dict[str, Any]], object]) -> Rewrite:
    """Return a rewrite of the JSON object in a 200; other answers stay as they are."""

    def rewrite(answer: Answer) -> Answer:
        if answer.status != HTTPStatus.OK:
            return answer
        return replace(answer, body=json.dumps(change(json.loads(answer.body))).encode())

    return rewrite


def _problem_answer(status: int) -> Answer:
    """Return an error as Twilio's newer APIs send it: a problem detail (RFC 9457)."""
    error = error_answer(status)
    content = json.loads(error.body)
    problem = {
        "type": content["more_info"],
        "title": content["message"],
        "status": status,
        "code": content["code"],
        "detail": content["message"],
    }
    return replace(error, body=json.dumps(problem).encode(), content_type="application/problem+json")
