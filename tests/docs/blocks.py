"""The code blocks of a Markdown page."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt

ROOT = Path(__file__).parents[2]
TITLE = re.compile(r'title="([^"]+)"')
ENDS_OF_COMMANDS = frozenset("|&;()<>")


@dataclass(frozen=True)
class Block:
    """A code block; `line` is that of its first character of code, from 1."""

    page: str
    line: int
    info: str  # the info string of its fence; empty for an indented block
    code: str

    @property
    def language(self) -> str:
        """The first word of the info string."""
        return self.info.partition(" ")[0]

    @property
    def title(self) -> str | None:
        """`Output` of what the block before prints, `Example output` of what it may print, or the
        name of a file with this content.
        """
        titled = TITLE.search(self.info)
        return titled[1] if titled else None

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def read(page: str) -> str:
    """The text of a page, given by its path in the repository."""
    return (ROOT / page).read_text()


def blocks(page: str) -> list[Block]:
    """All code blocks of a page, in order."""
    found = []
    for token in MarkdownIt().parse(read(page)):
        if token.type in {"fence", "code_block"}:
            assert token.map is not None
            first = token.map[0] + (2 if token.type == "fence" else 1)
            found.append(Block(page, first, token.info.strip(), token.content))
    return found


def commands(code: str) -> Iterator[list[str]]:
    """The simple commands of shell code, each as its words, without assignments before it.

    Raises ValueError for a quotation that is never closed.
    """
    pending = ""
    for line in code.replace("\\\n", " ").splitlines():
        pending += f"{line}\n"
        lexer = shlex.shlex(pending, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        try:
            words = list(lexer)
        except ValueError:
            continue  # a quotation goes on in the next line
        pending = ""
        yield from _simple_commands(words)
    if pending:
        raise ValueError(f"a quotation is never closed: {pending}")


def _simple_commands(words: list[str]) -> Iterator[list[str]]:
    command: list[str] = []
    for word in [*words, ";"]:
        if set(word) <= ENDS_OF_COMMANDS:
            if command:
                yield command
            command = []
        elif command or not _is_assignment(word):
            command.append(word)


def _is_assignment(word: str) -> bool:
    name, equals, _ = word.partition("=")
    return bool(equals) and name.isidentifier()
