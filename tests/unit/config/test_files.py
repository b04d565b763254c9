"""Several configuration files: what they share, what they must not repeat, and when they have changed."""

from collections.abc import Callable
from pathlib import Path

import pytest
from support.config_files import AC, ENVIRONMENT, SECRET, SK, WS, WS2, targets_of

from taskrouter_exporter.config.errors import ConfigError
from taskrouter_exporter.config.files import ConfigFiles
from taskrouter_exporter.config.model import Config

ACCOUNTS = f"accounts:\n  main: {{username: {SK}, password: {SECRET}}}\n"
WS3 = "WS" + "3" * 32

Write = Callable[[str, str], Path]


def targets(workspace: str, *lines: str) -> str:
    return f"targets:\n  - workspace: {workspace}\n" + "".join(f"    {line}\n" for line in lines)


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Write a file in the current directory."""
    monkeypatch.chdir(tmp_path)

    def write(name: str, text: str) -> Path:
        path = Path(name)
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    return write


def load(*paths: str) -> Config:
    return ConfigFiles(list(map(Path, paths)), ENVIRONMENT).load()


def problems(*paths: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(*paths)
    assert SECRET not in str(caught.value)
    return list(caught.value.problems)


def labels(config: Config) -> list[tuple[str, str]]:
    return [(target.workspace, target.account) for target in targets_of(config)]


def test_files_share_their_accounts_and_settings(write: Write) -> None:
    write("shared.yaml", f"{ACCOUNTS}polling: {{attempts: 2}}\n")
    write("a.yaml", targets(WS, "name: a", "account: main"))
    write("b.yaml", f"{targets(WS2, 'name: b', 'account: other')}accounts:\n  other: {{username: {AC}, "
          f"password: {SECRET}}}\ndiscovery: {{interval: 1m}}\n")  # fmt: skip
    config = load("b.yaml", "a.yaml", "shared.yaml")
    assert labels(config) == [("b", "other"), ("a", "main")]
    assert list(config.accounts) == ["other", "main"]
    assert (config.polling.attempts, config.discovery_interval) == (2, 60)


def test_a_directory_has_the_files_that_end_in_yaml_or_yml_by_name(write: Write) -> None:
    write("teams/b.yml", targets(WS2, "name: b"))
    write("teams/a.yaml", targets(WS, "name: a"))
    for name in ("teams/.hidden.yaml", "teams/a.yaml~", "teams/a.yaml.bak", "teams/auth_token", "teams/yaml"):
        write(name, "not: [a configuration")
    config = load("teams")
    assert labels(config) == [("a", "default"), ("b", "default")]
    assert ConfigFiles([Path("teams")], {}).names() == "teams/a.yaml, teams/b.yml"


def test_a_mounted_config_map_is_a_directory(write: Write) -> None:
    write("data/a.yaml", targets(WS, "name: a"))
    Path("mounted").mkdir()
    Path("mounted/..2026").symlink_to("../data")
    Path("mounted/..data").symlink_to("..2026")
    Path("mounted/a.yaml").symlink_to("..data/a.yaml")
    assert labels(load("mounted")) == [("a", "default")]


def test_a_password_file_is_relative_to_the_file_that_names_it(write: Write) -> None:
    write("one/token", "first\n")
    write("two/token", "second\n")
    for name, workspace in (("one", WS), ("two", WS2)):
        account = f"accounts:\n  {name}: {{username: {SK}, password_file: token}}\n"
        write(f"{name}/config.yaml", account + targets(workspace, f"account: {name}"))
    files = [account.password_file for account in load("one", "two/config.yaml").accounts.values()]
    assert files == [Path(f"{name}/token").absolute() for name in ("one", "two")]


def test_without_accounts_in_any_file_the_environment_has_the_credentials(write: Write) -> None:
    write("a.yaml", targets(WS))
    write("b.yaml", targets(WS2))
    assert [account.username for account in load("a.yaml", "b.yaml").accounts.values()] == [AC]


@pytest.mark.parametrize(
    ("first", "second", "problem"),
    [
        (
            targets(WS, "name: a"),
            targets(WS, "name: a", "windows: [4h]"),
            "b.yaml:2: targets[0]: channel 'all' of this workspace is already a target on line 2 of a.yaml",
        ),
        (
            targets(WS, "name: a"),
            targets(WS2, "name: a"),
            (
                "b.yaml:3: targets[0].name: 'a' is already the name of another workspace on line 3 of "
                "a.yaml; their series would have the same labels"
            ),
        ),
        (
            targets(WS, "name: a"),
            targets(WS, "name: b", "channels: [voice]"),
            (
                f"b.yaml:2: targets[0].workspace: workspace {WS} must have the same name and account in "
                "every target (line 2 of a.yaml: name 'a', account 'default')"
            ),
        ),
        (
            ACCOUNTS + targets(WS, "account: main"),
            ACCOUNTS + targets(WS2, "account: main"),
            "b.yaml:2: accounts.main: already set on line 2 of a.yaml; all files share it",
        ),
        (
            f"{targets(WS)}polling: {{attempts: 2}}\n",
            f"{targets(WS2)}polling: {{attempts: 2}}\n",
            "b.yaml:3: polling: already set on line 3 of a.yaml; all files share it",
        ),
        (
            ACCOUNTS,
            targets(WS),
            "b.yaml:2: targets[0].account: unknown account 'default'; known accounts: 'main'",
        ),
        (
            "polling: {attempts: 2}\n",
            "discovery: {interval: 1m}\n",
            "a.yaml:1: targets: missing in all files; required unless an account has workspaces: auto",
        ),
    ],
    ids=["target", "name", "workspace", "account", "polling", "unknown account", "no targets"],
)
def test_what_files_must_not_repeat_or_lack_is_an_error_that_names_both(
    first: str, second: str, problem: str, write: Write
) -> None:
    write("a.yaml", first)
    write("b.yaml", second)
    assert problems("a.yaml", "b.yaml") == [problem]


def test_problems_are_in_the_order_of_the_files_and_their_lines(write: Write) -> None:
    write("b.yaml", targets(WS, "windows: [x]", "color: red"))
    write("a.yaml", targets("x", "account: 1") + "color: red\n")
    places = [problem.rsplit(": ", 1)[0].split(": ")[0] for problem in problems("b.yaml", "a.yaml")]
    assert places == ["b.yaml:3", "b.yaml:4", "a.yaml:2", "a.yaml:3", "a.yaml:4"]


def test_every_file_that_is_not_yaml_or_missing_is_reported(write: Write) -> None:
    write("a.yaml", "targets: [\n")
    write("b.yaml", "\t\n")
    write("c.yaml", targets(WS))
    assert [problem.partition(":")[0] for problem in problems("a.yaml", "b.yaml", "c.yaml")] == [
        "a.yaml",
        "b.yaml",
    ]
    missing = problems("c.yaml", "d.yaml", "e.yaml")
    assert [problem.partition(": create")[0] for problem in missing] == [
        "d.yaml: no such file",
        "e.yaml: no such file",
    ]


def test_a_file_that_is_named_twice_and_an_empty_directory_are_errors(write: Write) -> None:
    write("teams/a.yaml", targets(WS))
    Path("empty").mkdir()
    assert problems("teams", "teams/../teams/a.yaml", "empty") == [
        "teams/../teams/a.yaml: the same file as teams/a.yaml; name it once",
        "empty: no file in this directory ends in .yaml or .yml",
    ]


def test_files_have_changed_until_they_are_loaded_again_even_in_vain(write: Write) -> None:
    path = write("teams/a.yaml", targets(WS))
    files = ConfigFiles([Path("teams")], ENVIRONMENT)
    files.load()
    assert not files.changed()
    write("teams/b.yaml", targets(WS2))
    assert files.changed()
    assert len(files.load().workspaces) == 2
    assert not files.changed()
    path.touch()
    assert not files.changed(), "the content is the same"
    path.write_text("targets: [", encoding="utf-8")
    assert files.changed()
    with pytest.raises(ConfigError):
        files.load()
    assert not files.changed()


def test_files_have_changed_when_a_password_file_that_was_missing_is_there(write: Write) -> None:
    account = f"accounts:\n  default: {{username: {SK}, password_file: token}}\n"
    files = ConfigFiles([write("a.yaml", account + targets(WS))], {})
    with pytest.raises(ConfigError):
        files.load()
    assert not files.changed()
    write("token", SECRET)
    assert files.changed()
    files.load()
    assert not files.changed()
    Path("token").unlink()
    assert not files.changed(), "the client reports this at its next poll"


def test_a_file_that_cannot_be_read_has_changed_once(write: Write) -> None:
    path = write("a.yaml", targets(WS))
    files = ConfigFiles([path], ENVIRONMENT)
    files.load()
    path.rename("away.yaml")
    assert files.changed()
    with pytest.raises(ConfigError):
        files.load()
    assert not files.changed()
    Path("away.yaml").rename(path)
    assert files.changed(), "the file is back, and was not loaded last"
    files.load()
    assert not files.changed()
