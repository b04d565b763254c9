"""The container image: built by buildah on a Debian base, looked into, and run without any privilege."""

import json
import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile
import time
import uuid
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from prometheus_client.parser import text_string_to_metric_families
from support.containers import Builder, Container, pip_secrets
from support.exporter import ROOT

# One worker makes the base and builds the image, for all of these tests.
pytestmark = pytest.mark.timeout(600)

FindProgram = Callable[[str, str], str]
RunImage = Callable[..., Container]
VERSION, REVISION, SOURCE = "1.2.3", "0123abc", "https://git.example/exporter"
MARK = f"marked-{uuid.uuid4()}"
NOT_FOR_RUNNING = re.compile(
    r"(pip|setuptools|pkg_resources|wheel|hatchling|ensurepip)([-0-9].*)?|(.*-)?(gcc|g\+\+|cc|clang|tcc|as|ld|make)(-[0-9.]+)?"
)


@dataclass(frozen=True)
class Image:
    """The image under test."""

    builder: Builder
    name: str
    root: Path
    inspected: dict[str, Any]

    @property
    def config(self) -> dict[str, Any]:
        config: dict[str, Any] = self.inspected["Docker"]["config"]
        return config

    @property
    def site_packages(self) -> Path:
        (directory,) = self.root.glob("opt/taskrouter-exporter/lib/python3*/site-packages")
        return directory


@pytest.fixture(scope="module")
def builder(program: FindProgram) -> Iterator[Builder]:
    buildah = program("buildah", "buildah")
    if os.geteuid() != 0:
        pytest.skip("an image is built by root")
    # Several times the image's size: not in /tmp, which may be in memory.
    (ROOT / "build").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=ROOT / "build", prefix="image-") as directory:
        yield Builder(buildah, Path(directory))


@pytest.fixture(scope="module")
def base(builder: Builder, program: FindProgram) -> str:
    return builder.make_base(program("mmdebstrap", "mmdebstrap"))


@pytest.fixture(scope="module")
def image(builder: Builder, base: str, tmp_path_factory: pytest.TempPathFactory) -> Image:
    arguments = {"PYTHON_IMAGE": base, "VERSION": VERSION, "REVISION": REVISION, "SOURCE": SOURCE}
    secrets = pip_secrets(tmp_path_factory.mktemp("secrets"), MARK)
    name = "localhost/taskrouter-exporter"
    builder.build(ROOT, name, arguments, *secrets)
    return Image(builder, name, builder.mount(name), builder.inspect(name))


@pytest.fixture
def run_image(image: Image, program: FindProgram) -> Iterator[RunImage]:
    started: list[Container] = []

    def run(
        *arguments: str,
        volumes: Mapping[str, Path] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> Container:
        bwrap = program("bwrap", "bubblewrap")
        given = [f"{name}={value}" for name, value in (environment or {}).items()]
        config = {**image.config, "Env": [*image.config["Env"], *given]}
        container = Container(bwrap, image.root, config, *arguments, volumes=volumes or {})
        started.append(container)
        return container

    yield run
    for container in started:
        container.stop()


def test_the_image_configuration_defines_how_to_run_it(image: Image) -> None:
    config = image.config
    assert config["User"] == "65532:65532"
    assert config["Entrypoint"] == ["taskrouter-exporter"]
    assert not config["Cmd"]
    assert config["Healthcheck"]["Test"][0] == "CMD"
    assert config["ExposedPorts"] == {"10142/tcp": {}}


def test_the_image_labels_describe_it(image: Image) -> None:
    labels = image.config["Labels"]
    for label, value in [
        ("title", "taskrouter-exporter"),
        ("licenses", "Apache-2.0"),
        ("version", VERSION),
        ("revision", REVISION),
        ("source", SOURCE),
    ]:
        assert labels[f"org.opencontainers.image.{label}"] == value


def unneeded(root: Path) -> set[str]:
    """The names of whatever builds or installs something."""
    places = re.compile(r"/(bin|sbin|site-packages|dist-packages|python-wheels|lib/python3[.0-9]*)$")
    return {
        name
        for directory, directories, files in os.walk(root)
        if places.search(directory)
        for name in (*directories, *files)
        if NOT_FOR_RUNNING.fullmatch(name)
    }


def test_the_image_contains_no_build_or_installation_tools(image: Image, base: str) -> None:
    assert {"pip", "ensurepip"} <= unneeded(image.builder.mount(base))
    assert unneeded(image.root) == set()
    assert image.inspected["OCIv1"]["rootfs"]["diff_ids"][1:] == []


def test_the_dependencies_are_those_that_are_pinned(image: Image) -> None:
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    pins = [Requirement(line.rstrip(" \\")) for line in lines if line[:1].isalpha()]
    python = {"python_full_version": "3.11.2", "python_version": "3.11"}
    pinned = {
        canonicalize_name(pin.name): str(pin.specifier).removeprefix("==")
        for pin in pins
        if pin.marker is None or pin.marker.evaluate(python)
    }
    installed = {
        canonicalize_name(each.name): each.version for each in distributions(path=[str(image.site_packages)])
    }
    del installed[canonicalize_name("taskrouter-exporter")]
    assert installed == pinned


@pytest.mark.skipif(os.environ.get("CI") != "true", reason="asks the package index: where CI=true")
@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_every_dependency_has_a_wheel_for_the_pinned_python(machine: str, tmp_path: Path) -> None:
    dockerfile = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    (version,) = re.findall(r"^FROM python:(3\.\d+)\.\d+-slim-\w+ AS pinned$", dockerfile, re.MULTILINE)
    # The image's Debian has a newer glibc than either.
    platforms = [f"--platform={name}_{machine}" for name in ("manylinux2014", "manylinux_2_28")]
    target = [f"--python-version={version}", *platforms, f"--target={tmp_path}"]
    install = [sys.executable, "-m", "pip", "install", "--dry-run", "--no-deps", "--require-hashes"]
    install += ["--only-binary=:all:", *target]
    for requirements in ("requirements.txt", "requirements-build.txt"):
        ended = subprocess.run(
            [*install, f"--requirement={ROOT / requirements}"],
            capture_output=True,
            text=True,
            check=False,
        )
        assert ended.returncode == 0, ended.stderr


def regular_files(root: Path) -> Iterator[Path]:
    for directory, _, names in os.walk(root):
        for name in names:
            path = Path(directory, name)
            if stat.S_ISREG(path.lstat().st_mode):
                yield path


def test_the_image_has_the_files_of_the_wheel_and_the_revision(image: Image, tmp_path: Path) -> None:
    build_wheel = [
        sys.executable,
        "-m",
        "hatchling",
        "build",
        "--directory",
        str(tmp_path),
        "--target",
        "wheel",
    ]
    subprocess.run(build_wheel, check=True, cwd=ROOT, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        expected = {name for name in archive.namelist() if name.startswith("taskrouter_exporter/")}
    package = image.site_packages / "taskrouter_exporter"
    installed = [path for path in package.rglob("*") if path.is_file() and path.suffix != ".pyc"]
    names = {str(path.relative_to(image.site_packages)) for path in installed}
    assert names == expected | {"taskrouter_exporter/REVISION"}


def test_nothing_of_the_build_machine_is_in_the_image(image: Image) -> None:
    for path in regular_files(image.root):
        assert MARK.encode() not in path.read_bytes(), path
    assert MARK not in str(image.inspected)
    assert list(image.root.glob("**/pip.conf")) == []


def test_only_the_needed_files_reach_the_build(builder: Builder, tmp_path: Path) -> None:
    context = tmp_path / "context"
    left_out = shutil.ignore_patterns(".git", ".venv", "build", ".*_cache", ".hypothesis")
    shutil.copytree(ROOT, context, ignore=left_out)
    for name in (".git/config", ".venv/bin/python", "config.yaml", "auth_token", ".env", "server.key",
                 "taskrouter_exporter/__pycache__/cli.pyc", "docs/notes.txt", "build/image.txt"):  # fmt: skip
        (context / name).parent.mkdir(parents=True, exist_ok=True)
        (context / name).write_text("a-secret", encoding="utf-8")
    (context / "Dockerfile").write_text("FROM scratch\nCOPY . /\n", encoding="utf-8")
    builder.build(context, "localhost/context", {})
    arrived = builder.mount("localhost/context")
    folders = ("contrib", "monitoring/dashboards", "monitoring/rules", "taskrouter_exporter")
    paths = (path for folder in folders for path in (ROOT / folder).rglob("*"))
    copied = [path for path in paths if "__pycache__" not in path.parts]
    assert {str(path.relative_to(arrived)) for path in arrived.rglob("*") if path.is_file()} == {
        "LICENSE",
        "README.md",
        "config.example.yaml",
        "docs/config.schema.json",
        "pyproject.toml",
        "requirements.txt",
        "requirements-build.txt",
        *(str(path.relative_to(ROOT)) for path in copied if path.is_file()),
    }


def test_hadolint_finds_nothing() -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    ended = subprocess.run(
        [hadolint, "--no-color", ROOT / "Dockerfile"], capture_output=True, text=True, check=False
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")


def test_the_container_serves_read_only_without_capabilities_and_stops_on_sigterm(
    image: Image, run_image: RunImage
) -> None:
    container = run_image("--demo")
    start = container.wait_for_log("msg=listening")
    status = Path(f"/proc/{container.pid}/status").read_text(encoding="ascii")
    for privilege in (r"Uid:\s65532\s65532\s65532\s65532", r"NSpid:\s\d+\s1", r"CapBnd:\s0+", r"CapEff:\s0+"):
        assert re.search(f"^{privilege}$", status, re.MULTILINE), status

    families = {family.name: family for family in text_string_to_metric_families(container.get("/metrics"))}
    scrape = time.monotonic() - container.begin
    up = families["twilio_taskrouter_up"].samples
    assert {sample.value for sample in up} == {1}
    (built,) = families["twilio_taskrouter_exporter_build_info"].samples
    assert built.labels["revision"] == REVISION

    assert container.health() == 0
    written = container.run("python", "-c", "open('/tmp/written', 'w')")
    assert "Read-only file system" in written.stderr
    assert container.stop() == 0
    record(image, start, scrape)


def record(image: Image, start: float, scrape: float) -> None:
    """Tell size and speed in build/image.txt: a busy machine is no failure."""
    size = sum(path.stat().st_size for path in regular_files(image.root))
    environment = sum(path.stat().st_size for path in regular_files(image.site_packages))
    told = (
        f"image: {size / 1e6:.0f} MB of files, {environment / 1e6:.0f} MB of it the exporter with its "
        f"dependencies; {image.builder.download_size(image.name) / 1e6:.0f} MB to pull\n"
        f"start: listening after {start:.2f} s, first scrape answered after {scrape:.2f} s\n"
    )
    (ROOT / "build" / "image.txt").write_text(told, encoding="utf-8")


def test_a_health_check_without_an_exporter_fails(run_image: RunImage) -> None:
    container = run_image("--demo", "--web.listen-address=127.0.0.1:10143")
    container.wait_for_log("msg=listening")
    assert container.health() == 1
    assert (
        container.run(
            "python", "-P", "-m", "taskrouter_exporter.healthcheck", "http://127.0.0.1:10143/-/healthy"
        ).returncode
        == 0
    )


def test_the_health_check_follows_the_environment(run_image: RunImage) -> None:
    url = "http://127.0.0.1:10143/-/healthy"
    container = run_image(
        "--demo",
        "--web.listen-address=127.0.0.1:10143",
        environment={"TASKROUTER_EXPORTER_HEALTH_URL": url},
    )
    container.wait_for_log("msg=listening")
    assert container.health() == 0


def test_startup_compiles_no_bytecode(run_image: RunImage) -> None:
    container = run_image("--demo")
    container.wait_for_log("msg=listening")
    imported = container.run("python", "-v", "-c", "import taskrouter_exporter.cli").stderr
    assert re.search(r"code object from '/usr/\S+\.pyc'", imported)
    assert not re.findall(r"code object from '?/\S+\.py\b'?", imported)


def test_a_mounted_configuration_is_found(run_image: RunImage, tmp_path: Path) -> None:
    config = {
        "accounts": {"default": {"username": "AC" + "0" * 32, "password": "x"}},
        "targets": [{"workspace": "WS" + "0" * 32}],
    }
    tmp_path.chmod(0o755)
    (tmp_path / "config.yaml").write_text(json.dumps(config), encoding="utf-8")
    container = run_image("--config.check", volumes={"/etc/taskrouter-exporter": tmp_path})
    assert container.process.wait(60) == 0
    assert container.log.startswith("config.yaml: valid")
