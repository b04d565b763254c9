"""Mutations of bytes, each a pure function of its seed: the seed is enough to repeat one."""

import os
from collections.abc import Sequence
from random import Random
from typing import Final

FULL: Final = os.environ.get("STRESS") == "full"
ROUNDS: Final = 10_000 if FULL else 1_500
PARTS: Final = 4
"""The number of tests that a fuzz test is split into, for pytest-xdist."""


def seeds(part: int) -> range:
    """Return the seeds of one part's mutations."""
    return range(part, ROUNDS, PARTS)


def mutate(seed: int, corpus: Sequence[bytes], words: Sequence[bytes]) -> bytes:
    """Change one of the corpus in one to six places: bytes, lines, and words that parsers often get wrong."""
    random = Random(seed)
    data = random.choice(corpus)
    for _ in range(random.randint(1, 6)):
        begin = random.randrange(len(data) + 1)
        end = min(begin + random.choice((1, 1, 2, 8, 40)), len(data))
        match random.randrange(8):
            case 0:
                data = data[:begin] + bytes([random.randrange(256)]) + data[begin + 1 :]
            case 1:
                data = data[:begin] + data[end:]
            case 2:
                data = data[:end] + data[begin:end] * random.choice((1, 2, 50)) + data[end:]
            case 3 | 4:
                data = data[:begin] + random.choice(words) + data[begin:]
            case 5:
                data = data[:begin] + random.choice(words) + data[end:]
            case 6:
                lines = data.splitlines(keepends=True)
                random.shuffle(lines)
                data = b"".join(lines)
            case _:
                lines = data.splitlines(keepends=True) or [b""]
                line = random.randrange(len(lines))
                lines[line] = random.choice((b"", b" ", b"\t", lines[line])) + random.choice(lines)
                data = b"".join(lines)
    return data
