"""Debian packages: `python -m tools.debian [--release RELEASE] [--architecture ARCHITECTURE]`.

A package contains the exporter and its pinned dependencies in a virtual environment of the release's Python.
It is built from wheels, without running anything of the release or of the architecture.
"""

import argparse
import gzip
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from taskrouter_exporter import __version__
from tools.shell_files import COMPLETIONS, MAN_PAGE
from tools.thresholds import ROOT

NAME: Final = "taskrouter-exporter"
HOME: Final = Path("usr", "lib", NAME)
CONFIGURATION: Final = Path("etc", NAME)
_SOURCE: Final = ROOT / "packaging" / "debian"
_UNITS: Final = ROOT / "contrib" / "systemd"
_UNIT_PROGRAM: Final = "/opt/taskrouter-exporter/bin/taskrouter-exporter"
_SHARED: Final = {
    COMPLETIONS["bash"]: Path("usr", "share", "bash-completion", "completions", NAME),
    COMPLETIONS["zsh"]: Path("usr", "share", "zsh", "vendor-completions", f"_{NAME}"),
    COMPLETIONS["fish"]: Path("usr", "share", "fish", "vendor_completions.d", f"{NAME}.fish"),
    Path("packaging", "debian", "sysusers.conf"): Path("usr", "lib", "sysusers.d", f"{NAME}.conf"),
    Path("LICENSE"): Path("usr", "share", "doc", NAME, "copyright"),
}
_EPOCH: Final = 1580601600
"""Hatchling's default of SOURCE_DATE_EPOCH, so that wheel and package contain the same times."""

_LAUNCHER: Final = f"""\
#!/{HOME}/bin/python
import sys

from taskrouter_exporter.__main__ import main

sys.exit(main())
"""


@dataclass(frozen=True, slots=True)
class Release:
    """A release of Debian or Ubuntu.

    Attributes:
        suffix: Of the package's version, which rises with the release.
        python: The version of its package python3.
    """

    suffix: str
    python: tuple[int, int]


RELEASES: Final = {
    "bookworm": Release("deb12", (3, 11)),
    "noble": Release("ubuntu24.04", (3, 12)),
    "trixie": Release("deb13", (3, 13)),
}
ARCHITECTURES: Final = {"amd64": "x86_64", "arm64": "aarch64"}


def build_package(release: Release, architecture: str, directory: Path) -> Path:
    """Build a package into a directory and return its path.

    Raises:
        subprocess.CalledProcessError: a program failed, and wrote the reason to standard error.
    """
    directory.mkdir(parents=True, exist_ok=True)
    package = directory / package_name(release, architecture)
    with tempfile.TemporaryDirectory(dir=directory, prefix=".deb-") as temporary:
        tree = Path(temporary, "tree")
        _add_environment(tree / HOME, release, architecture, Path(temporary))
        _add_files(tree)
        _add_control(tree, release, architecture)
        _set_modes_and_times(tree)
        _run("dpkg-deb", "--root-owner-group", "-Zzstd", "--build", str(tree), str(package))
    return package


def package_name(release: Release, architecture: str) -> str:
    """Return the name of a package's file."""
    return f"{NAME}_{_version(release)}_{architecture}.deb"


def _version(release: Release) -> str:
    return f"{debian_version(__version__)}-1+{release.suffix}"


def debian_version(version: str) -> str:
    """Return a version of Python as one of Debian, in which pre-releases sort before their release."""
    return re.sub(r"\.?(a|b|rc|dev)(?=[0-9])", r"~\1", version)


def _add_environment(home: Path, release: Release, architecture: str, temporary: Path) -> None:
    """Create the virtual environment, for a Python that need not be there."""
    python = ".".join(map(str, release.python))
    _install_packages(home / "lib" / f"python{python}" / "site-packages", python, architecture, temporary)
    _write(
        home / "pyvenv.cfg",
        f"home = /usr/bin\ninclude-system-site-packages = false\nversion = {python}\n",
    )
    (home / "bin").mkdir()
    (home / "bin" / "python").symlink_to(f"/usr/bin/python{python}")
    _write(home / "bin" / NAME, _LAUNCHER)
    (home / "bin" / NAME).chmod(0o755)


def _install_packages(packages: Path, python: str, architecture: str, temporary: Path) -> None:
    _run(
        sys.executable, "-m", "uv", "pip", "install", "--quiet", "--no-deps", "--require-hashes",
        f"--target={packages}", f"--python-version={python}", "--only-binary=:all:", "--link-mode=copy",
        f"--python-platform={ARCHITECTURES[architecture]}-manylinux_2_28",
        f"--requirement={ROOT / 'requirements.txt'}",
    )  # fmt: skip
    shutil.rmtree(packages / "bin", ignore_errors=True)  # with the path of this Python
    (packages / ".lock").unlink(missing_ok=True)
    _run(sys.executable, "-m", "hatchling", "build", "--directory", str(temporary), "--target", "wheel")
    (wheel,) = temporary.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:  # uv would record the path and the time of this file
        archive.extractall(packages, [name for name in archive.namelist() if ".data/" not in name])


def _add_files(tree: Path) -> None:
    for source, destination in _SHARED.items():
        _copy(ROOT / source, tree / destination)
    for name in ("config.yaml", "environment"):
        _copy(_SOURCE / name, tree / CONFIGURATION / name)
    for unit in _UNITS.iterdir():
        text = unit.read_text(encoding="utf-8").replace(_UNIT_PROGRAM, f"/usr/bin/{NAME}")
        _write(tree / "usr" / "lib" / "systemd" / "system" / unit.name, text)
    page = tree / "usr" / "share" / "man" / "man1" / f"{MAN_PAGE.name}.gz"
    page.parent.mkdir(parents=True)
    page.write_bytes(gzip.compress((ROOT / MAN_PAGE).read_bytes(), mtime=0))
    program = tree / "usr" / "bin" / NAME
    program.parent.mkdir()
    program.symlink_to(f"../lib/{NAME}/bin/{NAME}")


def _add_control(tree: Path, release: Release, architecture: str) -> None:
    major, minor = release.python
    size = sum(path.lstat().st_size for path in tree.rglob("*") if path.is_file()) // 1024
    fields = {
        "Package": NAME,
        "Version": _version(release),
        "Architecture": architecture,
        "Maintainer": "The maintainers of taskrouter-exporter <taskrouter-exporter@users.noreply.github.com>",
        "Installed-Size": str(size),
        "Depends": f"libc6 (>= 2.28), passwd, python3 (>= {major}.{minor}), python3 (<< {major}.{minor + 1})",
        "Recommends": "systemd (>= 247)",
        "Section": "net",
        "Priority": "optional",
        "Homepage": "https://github.com/taskrouter-exporter/twilio-taskrouter-exporter",
        "Description": "Prometheus exporter for Twilio TaskRouter\n"
        " It exports reservations and their outcomes, the time that Workers spent in each Activity, tasks\n"
        " waiting and abandoned, and service levels. Alert rules and dashboards are included.",
    }
    _write(tree / "DEBIAN" / "control", "".join(f"{name}: {value}\n" for name, value in fields.items()))
    conffiles = sorted(path.relative_to(tree) for path in (tree / "etc").rglob("*") if path.is_file())
    _write(tree / "DEBIAN" / "conffiles", "".join(f"/{path}\n" for path in conffiles))
    for script in ("postinst", "prerm", "postrm"):
        _copy(_SOURCE / script, tree / "DEBIAN" / script)
        (tree / "DEBIAN" / script).chmod(0o755)


def _set_modes_and_times(tree: Path) -> None:
    """Set what would otherwise depend on this machine's umask and time."""
    epoch = int(os.environ.get("SOURCE_DATE_EPOCH", _EPOCH))
    for path in (tree, *tree.rglob("*")):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
        os.utime(path, (epoch, epoch), follow_symlinks=False)


def _copy(source: Path, destination: Path) -> None:
    destination.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, destination)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def _run(*command: str) -> None:
    environment = {"SOURCE_DATE_EPOCH": str(_EPOCH)} | os.environ
    subprocess.run(command, check=True, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL)  # noqa: S603 -- own commands


def main() -> None:
    """Build a package and print its path."""
    parser = argparse.ArgumentParser(prog="tools.debian", description="Build a Debian package.")
    parser.add_argument("--release", choices=RELEASES, default="bookworm")
    parser.add_argument("--architecture", choices=ARCHITECTURES, default="amd64")
    parser.add_argument("--output", type=Path, default=ROOT / "build" / "debian")
    flags = parser.parse_args()
    if shutil.which("dpkg-deb") is None:
        sys.exit("tools.debian: needs dpkg-deb: apt-get install dpkg")
    try:
        package = build_package(RELEASES[flags.release], flags.architecture, flags.output.absolute())
    except subprocess.CalledProcessError as error:
        sys.exit(f"tools.debian: {error.cmd[0]} failed with status {error.returncode}")
    print(package)  # noqa: T201 -- the command's output


if __name__ == "__main__":
    main()
