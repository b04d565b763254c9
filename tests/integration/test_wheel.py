"""The wheel: built, installed in a fresh environment, and scraped."""

import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
import yaml
from packaging.metadata import Metadata
from readme_renderer import markdown
from support.exporter import ROOT, Exporter

from taskrouter_exporter import __version__

NAME: Final = f"taskrouter_exporter-{__version__}"
WHEEL: Final = f"{NAME}-py3-none-any.whl"
REPOSITORY: Final = "https://github.com/taskrouter-exporter/twilio-taskrouter-exporter"
RAW: Final = REPOSITORY.replace("github.com", "raw.githubusercontent.com")
NOT_IN_THE_CONTEXT: Final = shutil.ignore_patterns("__pycache__")
BUNDLED: Final = (
    "config.example.yaml", "contrib/systemd/*", "docs/config.schema.json", "monitoring/dashboards/*",
    "monitoring/rules/*",
)  # fmt: skip
"""The files of the repository that the wheel contains beside its modules."""

SHARED: Final = {
    "bash-completion/completions/taskrouter-exporter": "contrib/completions/taskrouter-exporter.bash",
    "fish/vendor_completions.d/taskrouter-exporter.fish": "contrib/completions/taskrouter-exporter.fish",
    "man/man1/taskrouter-exporter.1": "contrib/man/taskrouter-exporter.1",
    "zsh/site-functions/_taskrouter-exporter": "contrib/completions/taskrouter-exporter.zsh",
}
"""Where pip installs other files of the repository, below the environment's share."""


def build(source: Path, directory: Path, target: str) -> None:
    """As `make dist` does: with the pinned build system, without the network."""
    command = [sys.executable, "-m", "hatchling", "build", "--directory", str(directory), "--target", target]
    subprocess.run(command, check=True, cwd=source, capture_output=True)


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the source distribution and the wheel."""
    directory = tmp_path_factory.mktemp("dist")
    build(ROOT, directory, "sdist")
    build(ROOT, directory, "wheel")
    return directory


@pytest.fixture(scope="module")
def source(dist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source distribution, unpacked."""
    directory = tmp_path_factory.mktemp("source")
    with tarfile.open(dist / f"{NAME}.tar.gz") as archive:
        archive.extractall(directory, filter="data")
    return directory / NAME


@pytest.fixture(scope="module")
def metadata(dist: Path) -> Metadata:
    with zipfile.ZipFile(dist / WHEEL) as wheel:
        return Metadata.from_email(wheel.read(f"{NAME}.dist-info/METADATA"), validate=True)


@pytest.fixture(scope="module")
def environment(dist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of a fresh environment with the pinned dependencies and the wheel."""
    programs = tmp_path_factory.mktemp("environment") / "bin"
    subprocess.run([sys.executable, "-m", "venv", str(programs.parent)], check=True)
    install = [str(programs / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*install, "--require-hashes", "-r", str(ROOT / "requirements.txt")], check=True)
    subprocess.run([*install, "--no-deps", "--no-index", str(dist / WHEEL)], check=True)
    return programs


@pytest.fixture(scope="module")
def demo(environment: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Exporter]:
    log = tmp_path_factory.mktemp("demo") / "log"
    exporter = Exporter(["--demo"], log, program=[str(environment / "taskrouter-exporter")])
    yield exporter
    assert exporter.stop() == 0
    exporter.assert_clean_log()


def test_the_installed_demo_answers_a_scrape(demo: Exporter) -> None:
    scrape = demo.scrape()
    assert set(scrape.find("up").values()) == {1}
    assert scrape.statistics()
    assert scrape.find("exporter_build_info", version=__version__)


def test_the_requirements_are_complete_and_fit_each_other(environment: Path) -> None:
    check = [str(environment / "python"), "-m", "pip", "check"]
    done = subprocess.run(check, check=False, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "No broken requirements found.\n")


def test_the_installed_program_prints_its_version(environment: Path) -> None:
    version = [str(environment / "taskrouter-exporter"), "--version"]
    output = subprocess.run(version, check=True, capture_output=True, text=True).stdout
    assert output.startswith(f"taskrouter-exporter {__version__} ")


def test_the_installed_program_prints_the_example_and_where_the_other_files_are(environment: Path) -> None:
    def run(flag: str) -> str:
        command = [str(environment / "taskrouter-exporter"), flag]
        return subprocess.run(command, check=True, capture_output=True, encoding="utf-8").stdout

    assert run("--config.example") == (ROOT / "config.example.yaml").read_text(encoding="utf-8")
    directory = Path(run("--files.directory").removesuffix("\n"))
    assert directory.is_relative_to(environment.parent)
    for name in bundled():
        assert (directory / name).read_bytes() == (ROOT / name).read_bytes()
    for installed, name in SHARED.items():
        assert (environment.parent / "share" / installed).read_bytes() == (ROOT / name).read_bytes()


def test_the_wheel_contains_the_revision_written_by_the_build(source: Path, tmp_path: Path) -> None:
    revision = source / "taskrouter_exporter" / "REVISION"
    revision.write_text("0123abc\n", encoding="ascii")
    build(source, tmp_path, "wheel")
    revision.unlink()
    with zipfile.ZipFile(tmp_path / WHEEL) as wheel:
        assert wheel.read("taskrouter_exporter/REVISION") == b"0123abc\n"


def test_the_source_distribution_builds_the_same_wheel(dist: Path, source: Path, tmp_path: Path) -> None:
    build(source, tmp_path, "wheel")
    assert (tmp_path / WHEEL).read_bytes() == (dist / WHEEL).read_bytes()


def test_the_image_installs_the_same_wheel(dist: Path, tmp_path: Path) -> None:
    context = tmp_path / "context"
    context.mkdir()
    dockerfile = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    for sources, destination in re.findall(r"^COPY (?!--)(.+) (\S+)$", dockerfile, re.MULTILINE):
        for source in sources.split():
            if destination.endswith("/"):
                (context / destination).mkdir(exist_ok=True)
            if (ROOT / source).is_dir():
                shutil.copytree(ROOT / source, context / destination, ignore=NOT_IN_THE_CONTEXT)
            else:
                shutil.copy(ROOT / source, context / destination)
    build(context, tmp_path, "wheel")
    assert (tmp_path / WHEEL).read_bytes() == (dist / WHEEL).read_bytes()


def bundled() -> set[str]:
    files = {str(file.relative_to(ROOT)) for pattern in BUNDLED for file in ROOT.glob(pattern)}
    assert len(files) >= len(BUNDLED)
    return files


def test_the_wheel_has_the_package_s_modules_and_bundled_files_and_nothing_else(dist: Path) -> None:
    with zipfile.ZipFile(dist / WHEEL) as wheel:
        names = {name for name in wheel.namelist() if ".dist-info/" not in name}
    package = ROOT / "taskrouter_exporter"
    modules = {str(file.relative_to(ROOT)) for file in package.rglob("*.py")}
    others = {"py.typed", "web/landing.css", "web/landing.js"}
    others |= {f"share/{name}" for name in bundled()}
    shared = {f"{NAME}.data/data/share/{name}" for name in SHARED}
    assert names == modules | shared | {f"taskrouter_exporter/{name}" for name in others}


def test_the_source_distribution_can_be_tested(source: Path) -> None:
    for name in ("Makefile", "LICENSE", "README.md", "requirements.txt", "requirements-dev.txt"):
        assert (source / name).read_bytes() == (ROOT / name).read_bytes()
    collect = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider"]
    here, there = (
        subprocess.run(collect, check=True, cwd=root, capture_output=True, text=True).stdout.splitlines()[:-1]
        for root in (ROOT, source)
    )
    assert there == here


def test_the_metadata_is_valid_and_matches_the_project(metadata: Metadata) -> None:
    assert (metadata.name, str(metadata.version)) == ("taskrouter-exporter", __version__)
    assert metadata.license_expression == "Apache-2.0"
    assert metadata.description_content_type == "text/markdown"
    assert set(metadata.project_urls or ()) == {"Changelog", "Documentation", "Homepage", "Issues", "Source"}
    assert all(url.startswith(REPOSITORY) for url in (metadata.project_urls or {}).values())


def test_the_description_is_the_readme_with_absolute_links(metadata: Metadata) -> None:
    description = str(metadata.description)
    tag = f"v{__version__}"
    relative = description.replace(f"{REPOSITORY}/blob/{tag}/", "").replace(f"{RAW}/{tag}/", "")
    assert relative == (ROOT / "README.md").read_text(encoding="utf-8")
    html = str(markdown.render(description))
    links = re.findall(r'(?:href|src)="([^"]+)"', html)
    headings = {f"#{heading}" for heading in re.findall(r'id="([^"]+)"', html)}
    own = [link for link in links if not link.startswith(("http://", "https://"))]
    assert set(own) <= headings
    files = [re.sub("#.*", "", link) for link in links if link.startswith((f"{REPOSITORY}/blob/", f"{RAW}/"))]
    assert len(files) > 20
    for file in files:
        assert (ROOT / file.partition(f"/{tag}/")[2]).exists(), file
    assert [link for link in files if link.startswith(RAW)] == re.findall(r'<img[^>]* src="([^"]+)"', html)


def test_pypi_accepts_the_distributions(dist: Path) -> None:
    check = [sys.executable, "-m", "twine", "check", "--strict", *(str(file) for file in dist.iterdir())]
    done = subprocess.run(check, check=False, capture_output=True, text=True)
    assert (done.returncode, done.stdout.count("PASSED")) == (0, 2), done.stdout


def test_the_readme_installs_what_the_release_publishes() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    workflow = (ROOT / ".github" / "workflows" / "release.yml").read_text(encoding="utf-8")
    jobs = yaml.safe_load(workflow)["jobs"]
    owner, name = REPOSITORY.split("/")[-2:]
    scripts = "".join(step.get("run", "") for job in ("image", "chart") for step in jobs[job]["steps"])
    for variable, value in (("GITHUB_REPOSITORY", f"{owner}/{name}"), ("GITHUB_REPOSITORY_OWNER", owner)):
        scripts = scripts.replace(f"${{{variable},,}}", value)
    (image,) = re.findall(r'image="(ghcr\.io/.+)"', scripts)
    (charts,) = re.findall(r'charts="(ghcr\.io/.+)"', scripts)
    assert f"IMAGE={image}:{__version__}\n" in readme
    assert f"oci://{charts}/taskrouter-exporter --version {__version__} " in readme


def test_type_checkers_find_the_annotations(dist: Path) -> None:
    with zipfile.ZipFile(dist / WHEEL) as wheel:
        assert "taskrouter_exporter/py.typed" in wheel.namelist()
