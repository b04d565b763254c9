"""The tutorial, followed line by line in one shell, as a reader would."""

import os
import re
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, NamedTuple

import pytest
from support.exporter import ROOT
from support.faked_clock import FakedClock

PAGE: Final = ROOT / "docs" / "tutorial.md"
PORTS: Final = ("10142", "9190")
NEEDED: Final = (
    "LICENSE", "README.md", "config.example.yaml", "contrib", "docs", "monitoring", "pyproject.toml",
    "taskrouter_exporter",
)  # fmt: skip
"""What the tutorial uses of a checkout."""
NUMBER: Final = re.compile(r"\d+(?:\.\d+)?(?:e[-+]\d+)?")
END: Final = "end of a block"
SPIKE: Final = timedelta(minutes=25)
"""After startup, when all of the last 15 minutes is in the incident, whatever chance does."""


class Step(NamedTuple):
    """A block of commands, and the output that the page shows for it."""

    commands: str
    output: str


class Shell:
    """A shell in a directory, in which one block after the other runs."""

    def __init__(self, bash: str, directory: Path, environment: dict[str, str]) -> None:
        self._process = subprocess.Popen(
            [bash],
            cwd=directory,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, commands: str) -> str:
        """Return the output of commands; the last one must succeed."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(f'{commands}\necho "$? {END}"\n')
        self._process.stdin.flush()
        lines: list[str] = []
        for line in self._process.stdout:
            if line.endswith(f" {END}\n"):
                assert line.startswith("0 "), f"{commands}\n{''.join(lines)}"
                return "".join(lines)
            lines.append(line)
        raise AssertionError(f"the shell ended:\n{commands}\n{''.join(lines)}")

    def close(self) -> None:
        """End the shell and what it started."""
        assert self._process.stdin
        if self._process.poll() is None:
            self._process.stdin.write("kill $(jobs -p)\nwait\nexit\n")
        self._process.stdin.close()
        assert self._process.stdout
        self._process.stdout.close()
        self._process.wait(60)


def steps() -> list[Step]:
    """The blocks of commands of the page, each with the output that follows it."""
    fence = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
    found: list[Step] = []
    for language, text in fence.findall(PAGE.read_text(encoding="utf-8")):
        if language == "sh":
            found.append(Step(text, ""))
        else:
            assert language == "", f"{language}: neither commands nor output"
            assert found[-1].output == "", "output without commands"
            found[-1] = found[-1]._replace(output=text)
    return found


def matches(shown: str, output: str) -> bool:
    """Whether output is as the page shows it, with other numbers, and any text for an ellipsis."""
    pattern = re.escape(NUMBER.sub("0", shown)).replace("…", "(?s:.*)")
    return re.fullmatch(pattern, NUMBER.sub("0", output)) is not None


def with_ports(text: str, ports: Sequence[str]) -> str:
    for documented, free in zip(PORTS, ports, strict=True):
        text = text.replace(f":{documented}", f":{free}")
    return text


@pytest.fixture
def free_ports() -> Sequence[str]:
    """Ports that nothing listens on; the page's own may be in use."""
    with ExitStack() as stack:
        listening = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in PORTS]
        return [str(server.getsockname()[1]) for server in listening]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    directory = tmp_path / "checkout"
    directory.mkdir()
    for name in NEEDED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, directory / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, directory)
    return directory


@pytest.fixture
def shell(checkout: Path, program: Callable[[str, str], str]) -> Iterator[Shell]:
    environment = {name: os.environ[name] for name in ("HOME", "LANG", "PATH") if name in os.environ}
    environment |= {"PIP_NO_COMPILE": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    shell = Shell(program("bash", "bash"), checkout, environment)
    yield shell
    shell.close()


@pytest.mark.timeout(600)
def test_each_line_of_the_tutorial_works_up_to_the_firing_alert(
    shell: Shell,
    checkout: Path,
    free_ports: Sequence[str],
    program: Callable[[str, str], str],
    tmp_path: Path,
) -> None:
    for name in ("prometheus", "promtool"):
        program(name, "prometheus")
    now = datetime.now(UTC)
    clock = FakedClock(now, program("faketime", "faketime"), tmp_path)
    started = alerted = False
    for commands, output in steps():
        starts, waits = "--demo" in commands, "ALERTS" in commands
        if starts:
            shell.run("\n".join(f"export {name}='{value}'" for name, value in clock.environment.items()))
        if waits:
            clock.set(now + SPIKE)  # instead of waiting for as long
        said = shell.run(with_ports(commands, free_ports))
        if starts:
            shell.run(f"unset {' '.join(clock.environment)}")
        if output:
            assert matches(output, said), f"{commands}\n{said}\nis not as the page shows:\n{output}"
        started, alerted = started or starts, alerted or waits
    assert started
    assert alerted
    assert not (checkout / "tutorial").exists()
    assert sorted(path.name for path in checkout.iterdir()) == sorted(NEEDED)


@pytest.mark.parametrize("other", ["a 1\n", "b 12\n", "a 12\nb 3\n"])
def test_output_that_differs_in_more_than_numbers_is_found(other: str) -> None:
    assert matches("a 2\n", other) == (other == "a 1\n")
