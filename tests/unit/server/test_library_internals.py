"""What the exporter overrides or reads inside its libraries, in the versions that pyproject.toml pins.

After a failure, compare the library's new code with server/http.py or web/exposition.py, and then update the
expectation here.
"""

import asyncio
import hashlib
import inspect
import re
import tomllib
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import h11
import pytest
import uvicorn
from h11._receivebuffer import ReceiveBuffer
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from prometheus_client import exposition
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.samples import Sample
from prometheus_client.utils import floatToGoString
from support.exporter import ROOT
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle
from uvicorn.server import Server, ServerState

PARAMETERS: dict[Callable[..., Any], str] = {
    H11Protocol.__init__: "self config server_state app_state _loop",
    H11Protocol.connection_made: "self transport",
    H11Protocol.connection_lost: "self exc",
    H11Protocol.data_received: "self data",
    H11Protocol.on_response_complete: "self",
    H11Protocol.send_400_response: "self msg",
    H11Protocol.timeout_keep_alive_handler: "self",
    H11Protocol.pause_writing: "self",
    H11Protocol.resume_writing: "self",
    Server.startup: "self sockets",
    Server.capture_signals: "self",
    exposition.generate_latest: "registry escaping",
    openmetrics.generate_latest: "registry escaping version",
    floatToGoString: "d",
    h11.Connection.next_event: "self",
    ReceiveBuffer.maybe_extract_at_most: "self count",
}
"""The functions that are overridden or called, and their parameters."""

SOURCES: dict[Callable[..., Any], str] = {
    H11Protocol.__init__: "7db4cae269a9d681",
    H11Protocol.connection_made: "8c1d055fd33a60ae",
    H11Protocol.connection_lost: "474302a269fe52cf",
    H11Protocol.data_received: "451973e755addb35",
    H11Protocol.on_response_complete: "7ac8f37b73eb25b5",
    H11Protocol.send_400_response: "1e1ffd817fc1cf68",
    H11Protocol.timeout_keep_alive_handler: "1b11ba9fade5f956",
    H11Protocol.pause_writing: "643ac2a92560edd2",
    H11Protocol.resume_writing: "2d00dab848fb5ef9",
    RequestResponseCycle.__init__: "9f7d71e0b02ed134",
    RequestResponseCycle.send: "0f726394fb9097bb",
    h11.Connection.next_event: "53b0919bcc035d24",
    Server.startup: "2bfdba268bb8d096",
    Server.capture_signals: "8ad971b4e4ae1d60",
}
"""Digests of the code that is overridden, or replaced without a call of the original."""


def source_digest(function: Callable[..., Any]) -> str:
    """Return a digest of a function's code, without regard to white space and comments."""
    code = re.sub(r"#.*", "", inspect.getsource(function))
    return hashlib.sha256("".join(code.split()).encode()).hexdigest()[:16]


@pytest.mark.parametrize("function", PARAMETERS, ids=lambda function: function.__qualname__)
def test_functions_have_the_expected_parameters(function: Callable[..., Any]) -> None:
    assert " ".join(inspect.signature(function).parameters) == PARAMETERS[function]


@pytest.mark.parametrize("function", SOURCES, ids=lambda function: function.__qualname__)
def test_overridden_code_is_the_code_that_was_tested(function: Callable[..., Any]) -> None:
    assert source_digest(function) == SOURCES[function], "see this module's docstring"


def test_a_protocol_has_the_attributes_that_are_read() -> None:
    async def scenario() -> None:
        config = uvicorn.Config(lambda *_: None, http=H11Protocol, lifespan="off", log_config=None)
        protocol = H11Protocol(config, ServerState(), {})
        assert protocol.cycle is None
        assert protocol.transport is None
        assert protocol.conn.our_state is h11.IDLE
        assert protocol.loop is asyncio.get_running_loop()
        assert protocol.connections is protocol.server_state.connections
        assert isinstance(protocol.conn._receive_buffer, ReceiveBuffer)
        assert protocol.app_state == {}
        assert protocol.logger.name == "uvicorn.error"

    asyncio.run(scenario())


def test_a_cycle_has_the_attributes_that_are_read_and_set() -> None:
    code = inspect.getsource(RequestResponseCycle.__init__)
    for attribute in ("response_complete", "disconnected", "message_event", "body"):
        assert f"self.{attribute} = " in code


def test_a_server_has_the_attributes_that_are_set() -> None:
    config = uvicorn.Config(lambda *_: None, log_config=None)
    server = Server(config)
    assert (server.started, server.should_exit, server.force_exit) == (False, False, False)
    assert server.server_state.connections == set()
    assert config.h11_max_incomplete_event_size is None


def test_a_sample_has_the_attributes_that_are_written_and_no_new_ones() -> None:
    assert Sample._fields == ("name", "labels", "value", "timestamp", "exemplar", "native_histogram")


@pytest.mark.parametrize("library", ["uvicorn", "h11"])
def test_a_library_with_overridden_internals_is_pinned_to_its_minor_version(library: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    requirements = {each.name: each.specifier for each in map(Requirement, project["dependencies"])}
    major, minor, *_ = map(int, version(library).split("."))
    assert requirements[library] == SpecifierSet(f">={major}.{minor},<{major}.{minor + 1}")
