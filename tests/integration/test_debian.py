"""The Debian package: built, installed into a fresh Debian, run as its user, and removed."""

import os
import re
import shlex
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest
from support.containers import base_tree
from support.exporter import ROOT, Exporter

from taskrouter_exporter import __version__
from tools.debian import RELEASES, build_package, package_name

# It may wait for the worker that creates the base of the image.
pytestmark = pytest.mark.timeout(600)

FindProgram = Callable[[str, str], str]
USER: Final = "taskrouter-exporter"
UNIT: Final = Path("usr", "lib", "systemd", "system", "taskrouter-exporter.service")
CREDENTIALS: Final = Path("run", "credentials", "taskrouter-exporter.service")


@dataclass(frozen=True)
class Chroot:
    """A Debian system in a directory."""

    root: Path

    def command(self, *command: str, user: str = "root") -> list[str]:
        return ["chroot", f"--userspec={user}", str(self.root), *command]

    def run(self, *command: str, user: str = "root") -> subprocess.CompletedProcess[str]:
        environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}
        whole = self.command(*command, user=user)
        return subprocess.run(whole, env=environment, capture_output=True, text=True, check=False)

    def dpkg(self, *arguments: str) -> str:
        done = self.run("dpkg", *arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


def output(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def control(package: Path, field: str) -> str:
    return output("dpkg-deb", "--field", str(package), field)


@pytest.fixture(scope="module")
def package(program: FindProgram, tmp_path_factory: pytest.TempPathFactory) -> Path:
    program("dpkg-deb", "dpkg")
    architecture = output("dpkg", "--print-architecture")
    return build_package(RELEASES["bookworm"], architecture, tmp_path_factory.mktemp("deb"))


@pytest.fixture(scope="module")
def debian(package: Path, program: FindProgram) -> Iterator[Chroot]:
    """A Debian with the package."""
    mmdebstrap = program("mmdebstrap", "mmdebstrap")
    if os.geteuid() != 0:
        pytest.skip("packages are installed by root")
    tree = base_tree(mmdebstrap)
    # Not in /tmp, which may be in memory, and may allow no programs.
    with tempfile.TemporaryDirectory(dir=ROOT / "build", prefix="debian-") as directory:
        root = Path(directory)
        root.chmod(0o755)
        extract = ["tar", "--extract", f"--file={tree}", f"--directory={root}", "--numeric-owner"]
        unneeded = ("dev/*", "usr/share/doc", "usr/share/locale", "usr/share/man", "var/cache", "var/lib/apt")
        subprocess.run([*extract, *(f"--exclude=./{path}" for path in unneeded)], check=True)
        (root / "package.deb").write_bytes(package.read_bytes())
        chroot = Chroot(root)
        chroot.dpkg("--install", "/package.deb")
        yield chroot


def test_the_package_is_installed_with_its_user_and_configuration(debian: Chroot, package: Path) -> None:
    version = debian.dpkg("--status", "taskrouter-exporter")
    assert "Status: install ok installed" in version
    assert f"Version: {control(package, 'Version')}" in version
    assert debian.dpkg("--verify", "taskrouter-exporter") == ""
    name, _, uid, *_, home, shell = debian.run("getent", "passwd", USER).stdout.strip().split(":")
    assert (name, home, shell) == (USER, "/nonexistent", "/usr/sbin/nologin")
    assert 100 <= int(uid) < 1000
    conffiles = debian.run("dpkg-query", "--show", "--showformat=${Conffiles}", "taskrouter-exporter").stdout
    assert re.findall(r"^ (\S+)", conffiles, re.MULTILINE) == [
        "/etc/taskrouter-exporter/config.yaml",
        "/etc/taskrouter-exporter/environment",
    ]


def test_the_installed_program_runs_as_its_user_and_needs_no_other_packages(
    debian: Chroot, tmp_path: Path
) -> None:
    program = debian.command("/usr/bin/taskrouter-exporter", user=USER)
    exporter = Exporter(["--demo"], tmp_path / "log", program=program)
    scrape = exporter.scrape()
    assert set(scrape.find("up").values()) == {1}
    assert scrape.find("exporter_build_info", version=__version__)
    assert exporter.stop() == 0
    exporter.assert_clean_log()


def test_the_unit_s_command_accepts_the_installed_configuration(debian: Chroot) -> None:
    unit = (debian.root / UNIT).read_text(encoding="utf-8")
    (command,) = re.findall("^ExecStart=(.*)$", unit, re.MULTILINE)
    token = debian.root / CREDENTIALS / "auth_token"
    token.parent.mkdir(parents=True)
    token.write_text("0123456789abcdef0123456789abcdef\n", encoding="ascii")
    done = debian.run(*shlex.split(command), "--config.check", user=USER)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("/etc/taskrouter-exporter/config.yaml: valid")


def test_the_package_contains_man_page_completions_and_the_bundled_files(debian: Chroot) -> None:
    share = debian.root / "usr" / "share"
    assert (share / "man" / "man1" / "taskrouter-exporter.1.gz").exists()
    for completion in ("bash-completion/completions/taskrouter-exporter",
                       "zsh/vendor-completions/_taskrouter-exporter",
                       "fish/vendor_completions.d/taskrouter-exporter.fish"):  # fmt: skip
        assert (share / completion).exists()
    directory = debian.run("taskrouter-exporter", "--files.directory").stdout.strip()
    assert (debian.root / directory.lstrip("/") / "monitoring" / "rules" / "taskrouter.yaml").exists()


def test_nothing_of_the_build_machine_is_in_the_package(debian: Chroot) -> None:
    home = debian.root / "usr" / "lib" / "taskrouter-exporter"
    files = [path for path in home.rglob("*") if path.is_file() and path.suffix != ".pyc"]
    assert len(files) > 500
    assert [path for path in files if str(ROOT).encode() in path.read_bytes()] == []
    assert [path for path in files if path.name == "direct_url.json"] == []


def test_the_package_is_reproducible(package: Path, tmp_path: Path) -> None:
    again = build_package(RELEASES["bookworm"], control(package, "Architecture"), tmp_path)
    assert again.read_bytes() == package.read_bytes()


def test_packages_of_other_releases_and_architectures_have_their_own_modules(
    program: FindProgram, tmp_path: Path
) -> None:
    program("dpkg-deb", "dpkg")
    package = build_package(RELEASES["trixie"], "arm64", tmp_path)
    assert package.name == f"taskrouter-exporter_{__version__}-1+deb13_arm64.deb"
    assert "python3 (>= 3.13), python3 (<< 3.14)" in control(package, "Depends")
    modules = re.findall(r"cpython-\S+\.so", output("dpkg-deb", "--contents", str(package)))
    assert set(modules) == {"cpython-313-aarch64-linux-gnu.so"}


def test_systemd_creates_the_same_user(debian: Chroot, program: FindProgram, tmp_path: Path) -> None:
    sysusers = program("systemd-sysusers", "systemd")
    declared = debian.root / "usr" / "lib" / "sysusers.d" / "taskrouter-exporter.conf"
    (tmp_path / "etc").mkdir()
    subprocess.run([sysusers, f"--root={tmp_path}", str(declared)], check=True, capture_output=True)
    passwd = (tmp_path / "etc" / "passwd").read_text(encoding="utf-8")
    assert re.search(f"^{USER}:.*:/nonexistent:/usr/sbin/nologin$", passwd, re.MULTILINE)


@pytest.mark.parametrize("page", ["README.md", "docs/systemd.md"])
def test_the_documentation_installs_the_package_of_this_version(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    assert f"apt install ./{package_name(RELEASES['bookworm'], 'amd64')}\n" in text


def test_an_upgrade_keeps_changes_and_a_removal_keeps_the_configuration(debian: Chroot) -> None:
    config = debian.root / "etc" / "taskrouter-exporter" / "config.yaml"
    config.write_text("targets: []  # changed\n", encoding="utf-8")
    debian.dpkg("--install", "/package.deb")
    assert config.read_text(encoding="utf-8") == "targets: []  # changed\n"
    debian.dpkg("--remove", "taskrouter-exporter")
    assert config.exists()
    assert not (debian.root / "usr" / "lib" / "taskrouter-exporter").exists()
    debian.dpkg("--purge", "taskrouter-exporter")
    assert not config.exists()
