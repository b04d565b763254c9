"""Mutated configuration files: each is accepted, or refused with errors that show no password."""

import re
from pathlib import Path

import pytest
from fuzz.mutations import PARTS, mutate, seeds
from support.exporter import ROOT

from taskrouter_exporter.config.errors import ConfigError
from taskrouter_exporter.config.loader import parse_config

PASSWORD = "planted-Passw0rd-5f3a9c71e8d2"
EXAMPLE = re.sub(
    "password_file: auth_token", f"password: {PASSWORD}", (ROOT / "config.example.yaml").read_text("utf-8")
)
BLOCK = f"""\
accounts:
  default:
    username: SK00000000000000000000000000000000
    password: {PASSWORD}
    region: ie1
  second:
    username: AC00000000000000000000000000000000
    password_file: auth_token
    base_url: http://127.0.0.1:8080
polling:
  concurrency: 8
  attempts: 2
  request_timeout: 2s500ms
  cache: 1m
targets:
  - workspace: WS00000000000000000000000000000000
    name: support
    channels: [all, voice, TC00000000000000000000000000000000]
    windows: [15m, 4h]
    counters: day
  - workspace: WS00000000000000000000000000000001
    account: second
"""
FLOW = (
    '{"accounts": {"default": {"username": "SK00000000000000000000000000000000", "password": "'
    + PASSWORD
    + '"}}, "targets": [{"workspace": "WS00000000000000000000000000000000", "windows": ["1h"]}]}\n'
)
CORPUS = tuple(text.encode() for text in (EXAMPLE, BLOCK, FLOW))
WORDS = (
    b"\n", b"\n\n", b"\t", b"  ", b" ", b"\0", b"\r", b"\xff", b"\xef\xbb\xbf", b"\xed\xa0\x80",
    b"\xc2\x85", b"\xf0\x9f\x8e\xa7", b": ", b":", b"- ", b"? ", b"# ", b"'", b'"', b"{", b"}", b"[", b"]",
    b",", b"|\n", b">-\n", b"---\n", b"...\n", b"%YAML 9.9\n", b"&a ", b"*a", b"*a ", b"<<: *a\n", b"<<: ",
    b"!!binary ", b"!!python/object/apply:os.abort []", b"!!set ", b"!!omap ", b"!x ", b"null", b"~",
    b"true", b"no", b".nan", b".inf", b"1e400", b"0x1F", b"0o17", b"-1", b"1:30", b"2026-11-24",
    b"2026-13-45", b"9" * 5_000, b"0." + b"1" * 400, b"[" * 30, b"{a: " * 30, b"x" * 5_000, b"\\ud800",
    b'"\\x00"', b"15m", b"0s", b"99999999999w", b"auto", b"all", b"day", b"default", b"second",
    b"targets:\n", b"accounts:\n", b"password", b"workspaces: auto\n", b"include: ['(']\n",
    b"discovery: {interval: 1s}\n", b"=", b"@", b"`", b"http://elsewhere",
)  # fmt: skip


@pytest.mark.parametrize("part", range(PARTS))
def test_no_file_crashes_the_loader_or_shows_the_password(part: int, tmp_path: Path) -> None:
    (tmp_path / "auth_token").write_text(f"{PASSWORD}\n", encoding="utf-8")
    read = refused = 0
    for seed in seeds(part):
        text = mutate(seed, CORPUS, WORDS).decode("utf-8", errors="replace")
        problems: tuple[str, ...] = ()
        try:
            shown = repr(parse_config(text, "config.yaml", tmp_path, {}))
            read += 1
        except ConfigError as error:
            problems, shown = error.problems, str(error)
            refused += 1
        for problem in problems:
            assert "\n" not in problem, (seed, problem)
            assert re.match(r"config\.yaml:\d+: |environment: ", problem), (seed, problem)
        assert shown, (seed, text)
        assert PASSWORD not in shown, (seed, text, shown)
    assert read
    assert refused


def test_the_corpus_is_readable(tmp_path: Path) -> None:
    (tmp_path / "auth_token").write_text(f"{PASSWORD}\n", encoding="utf-8")
    for text in CORPUS:
        assert parse_config(text.decode(), "config.yaml", tmp_path, {}).workspaces
