import pytest

from tools.debian import debian_version


@pytest.mark.parametrize(
    ("python", "debian"),
    [("1.2.3", "1.2.3"), ("1.2.3rc1", "1.2.3~rc1"), ("1.2.3a1", "1.2.3~a1"), ("1.2.3.dev4", "1.2.3~dev4")],
)
def test_a_pre_release_sorts_before_its_release(python: str, debian: str) -> None:
    assert debian_version(python) == debian
