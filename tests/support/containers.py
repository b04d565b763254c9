"""Images built by buildah on a local base image, and run by bubblewrap as a container runtime would."""

import ast
import fcntl
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from support.exporter import ROOT
from support.programs import IN_BACKGROUND

_BASE: Final = "localhost/python-base"
_BASE_TREE: Final = ROOT / "build" / "bookworm-python.tar"
_BASE_PIP: Final = """
pip=$(echo /usr/share/python-wheels/pip-*.whl)
python3 "$pip/pip" install --quiet --no-index --break-system-packages --root-user-action=ignore "$pip"
"""
"""Puts pip into /usr/local as in Python's official images."""
_TO_PIP: Final = ("index-url", "extra-index-url", "trusted-host", "proxy", "timeout")
_CERTIFICATES: Final = "/run/secrets/ca.pem"
_CAPABILITIES_TO_LEAVE_ROOT: Final = ("CAP_SETUID", "CAP_SETGID", "CAP_SETPCAP")


class Builder:
    """buildah with its own storage in `directory`, without a daemon or a user namespace."""

    def __init__(self, buildah: str, directory: Path) -> None:
        self._directory = directory
        self._buildah = [
            *IN_BACKGROUND,
            buildah,
            f"--root={directory / 'storage'}",
            f"--runroot={directory / 'run'}",
            "--storage-driver=vfs",
        ]

    def run(self, *arguments: str | Path) -> str:
        """Run a buildah command and return its output."""
        ended = subprocess.run(
            [*self._buildah, *arguments],
            env={**os.environ, "TMPDIR": str(self._directory)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert ended.returncode == 0, ended.stdout + ended.stderr
        return ended.stdout.strip()

    def make_base(self, mmdebstrap: str) -> str:
        """Return an image of Debian's Python and pip."""
        container = self.run("from", "scratch")
        self.run("add", container, base_tree(mmdebstrap), "/")
        self.run("config", "--env=PATH=/usr/local/bin:/usr/bin:/bin", container)
        self.run("commit", "--rm", container, _BASE)
        return _BASE

    def build(self, context: Path, tag: str, arguments: Mapping[str, str], *more: str) -> None:
        """Build `context` with these build arguments."""
        given = [f"--build-arg={name}={value}" for name, value in arguments.items()]
        self.run("build", "--isolation=chroot", "--format=docker", *given, *more, f"--tag={tag}", context)

    def inspect(self, image: str) -> dict[str, Any]:
        """Return an image's manifest, configuration and history."""
        inspected: dict[str, Any] = json.loads(self.run("inspect", "--type=image", image))
        return inspected

    def mount(self, image: str) -> Path:
        """Return the directory with an image's files."""
        return Path(self.run("mount", self.run("from", image)))

    def download_size(self, image: str) -> int:
        """Return the bytes that a pull transfers: the compressed layers."""
        layout = self._directory / "layout"
        self.run("push", image, f"oci:{layout}")
        return sum(blob.stat().st_size for blob in (layout / "blobs" / "sha256").iterdir())


def base_tree(mmdebstrap: str) -> Path:
    """Return a tar archive of Debian's Python and pip. Created once, removed by `make clean`."""
    _BASE_TREE.parent.mkdir(exist_ok=True)
    with _BASE_TREE.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two workers of the tests need it
        if not _BASE_TREE.exists():
            with tempfile.TemporaryDirectory(dir=_BASE_TREE.parent, prefix="base-") as directory:
                _bootstrap(mmdebstrap, Path(directory, "bookworm.tar"))
    return _BASE_TREE


def _bootstrap(mmdebstrap: str, tree: Path) -> None:
    command = [
        *IN_BACKGROUND,
        mmdebstrap,
        "--variant=minbase",
        "--include=ca-certificates,python3,python3-venv",
        f"--customize-hook=chroot \"$1\" sh -ec '{_BASE_PIP}'",
        # Of this machine.
        '--customize-hook=rm -f "$1/etc/resolv.conf" "$1/etc/hostname" "$1"/etc/apt/sources.list',
        "bookworm",
        str(tree),
    ]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    tree.rename(_BASE_TREE)


def pip_secrets(directory: Path, mark: str) -> list[str]:
    """Return this machine's pip settings and certificates as build secrets, each with a marker."""
    pip = [sys.executable, "-m", "pip", "config", "list"]
    listed = subprocess.run(pip, capture_output=True, text=True, check=True).stdout.splitlines()
    pairs = (line.partition("=")[::2] for line in sorted(listed, reverse=True))  # the environment's come last
    settings = {
        name.rpartition(".")[2].removeprefix("default-"): ast.literal_eval(value) for name, value in pairs
    }
    lines = ["[global]", f"# {mark}", *(f"{name} = {settings[name]}" for name in _TO_PIP if name in settings)]
    secrets = {"pip.conf": directory / "pip.conf"}
    if "cert" in settings:
        secrets["ca.pem"] = directory / "ca.pem"
        secrets["ca.pem"].write_text(
            f"# {mark}\n" + Path(settings["cert"]).read_text("utf-8"), encoding="utf-8"
        )
        lines.append(f"cert = {_CERTIFICATES}")
    secrets["pip.conf"].write_text("\n".join(lines), encoding="utf-8")
    return [f"--secret=id={name},src={path}" for name, path in secrets.items()]


class Container:
    """An image's entrypoint, as its user, on a read-only root, without capabilities, on its own loopback.

    Args:
        bwrap: bubblewrap, which needs no cgroups where a container runtime does.
        root: The image's files.
        config: The image's configuration.
        arguments: For the entrypoint.
        volumes: Directories of this machine by their place in the container, read-only.
    """

    def __init__(
        self, bwrap: str, root: Path, config: dict[str, Any], *arguments: str, volumes: Mapping[str, Path]
    ) -> None:
        self._config = config
        user, _, group = config["User"].partition(":")
        isolation = [
            bwrap,
            "--ro-bind",
            str(root),
            "/",
            "--proc",
            "/proc",
            "--dev",
            "/dev",
            "--die-with-parent",
        ]
        isolation += ["--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts", "--as-pid-1"]
        for place, directory in volumes.items():
            isolation += ["--ro-bind", str(directory), place]
        isolation += ["--clearenv", "--chdir", config["WorkingDir"], "--cap-drop", "ALL"]
        for variable in config["Env"]:
            isolation += ["--setenv", *variable.split("=", 1)]
        for capability in _CAPABILITIES_TO_LEAVE_ROOT:
            isolation += ["--cap-add", capability]
        drop = ["setpriv", f"--reuid={user}", f"--regid={group}", "--clear-groups"]
        drop += ["--inh-caps=-all", "--bounding-set=-all"]
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 -- closed in stop()
        told, tell = os.pipe()
        self.begin = time.monotonic()
        self.process = subprocess.Popen(
            [*isolation, "--info-fd", str(tell), *drop, *config["Entrypoint"], *arguments],
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            pass_fds=[tell],
        )
        os.close(tell)
        with os.fdopen(told) as information:
            self.pid: int = json.load(information)["child-pid"]

    @property
    def log(self) -> str:
        return os.pread(self._log.fileno(), 1_000_000, 0).decode()

    def wait_for_log(self, pattern: str) -> float:
        """Wait until a line of the log matches; return the seconds since the start."""
        while not re.search(pattern, self.log):
            assert self.process.poll() is None, self.log
            assert time.monotonic() < self.begin + 60, self.log
            time.sleep(0.01)
        return time.monotonic() - self.begin

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command in the container, as the image's user."""
        user, _, group = self._config["User"].partition(":")
        enter = ["nsenter", f"--target={self.pid}", "--mount", "--pid", "--net", "--ipc", "--uts"]
        enter += [f"--setuid={user}", f"--setgid={group}", f"--wdns={self._config['WorkingDir']}"]
        environment = ["env", "--ignore-environment", *self._config["Env"]]
        return subprocess.run([*enter, *environment, *command], capture_output=True, text=True, check=False)

    def get(self, path: str) -> str:
        """Return the body of a page, requested from within the container."""
        ask = "import sys, urllib.request as u; sys.stdout.buffer.write(u.urlopen(sys.argv[1]).read())"
        ended = self.run("python", "-c", ask, f"http://127.0.0.1:10142{path}")
        assert ended.returncode == 0, ended.stderr
        return ended.stdout

    def health(self) -> int:
        """Run the image's health check and return its exit status."""
        kind, *command = self._config["Healthcheck"]["Test"]
        assert kind == "CMD"
        return self.run(*command).returncode

    def stop(self) -> int:
        """Send SIGTERM to the process number 1, as `docker stop` does, and wait for the exit status."""
        if self.process.poll() is None:
            os.kill(self.pid, signal.SIGTERM)
        try:
            return self.process.wait(20)
        finally:
            self.process.kill()
            self._log.close()
