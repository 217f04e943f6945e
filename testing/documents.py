"""Markdown documents: their code blocks, run as their readers would, and their links."""

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
ADDRESS = "http://127.0.0.1:8000"
"""Where the documents expect the service."""


@dataclass(frozen=True)
class Document:
    """A Markdown file of the repository.

    Attributes:
        path: relative to the repository's root.
    """

    path: str

    @property
    def text(self) -> str:
        return (ROOT / self.path).read_text()

    @property
    def blocks(self) -> list[tuple[str, str]]:
        """Language and content of each fenced code block, in their order."""
        return re.findall(r"^```(\w+)\n(.*?)^```$", self.text, flags=re.MULTILINE | re.DOTALL)

    def block(self, language: str, containing: str = "") -> str:
        """Return the one code block of a language that contains these words."""
        [found] = [block for name, block in self.blocks if name == language and containing in block]
        return found

    @property
    def commands(self) -> list[str]:
        """The lines of all shell blocks; one that ends with a backslash continues on the next."""
        blocks = "".join(block for language, block in self.blocks if language == "bash")
        return blocks.replace("\\\n", " ").splitlines()

    def command(self, *words: str) -> str:
        """Return the one command that contains all these words."""
        [found] = [command for command in self.commands if all(word in command for word in words)]
        return found

    @property
    def links(self) -> list[str]:
        """Targets of all links and images, without those to other hosts."""
        return [link for link in re.findall(r"\]\(([^)\s]+)\)", self.text) if "://" not in link]

    @property
    def anchors(self) -> set[str]:
        """The fragments by which its headings are linked to, as GitHub makes them."""
        headings = re.findall(r"^#+ (.*)$", re.sub(r"^```.*?^```$", "", self.text, flags=re.M | re.S), flags=re.M)
        return {re.sub(r"[^a-z0-9_ -]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


README = Document("README.md")


def in_this_environment(command: str) -> str:
    """Return a command of a document with this environment's programs in place of those in ``.venv``."""
    return command.replace(".venv/bin/", f"{BIN}/")


def run_command(command: str, folder: Path, **variables: str) -> "subprocess.CompletedProcess[str]":
    """Run a command of a document in a folder, with these environment variables, and return what came of it."""
    return subprocess.run(
        in_this_environment(command),
        shell=True,
        cwd=folder,
        env={**os.environ, "COLUMNS": "120", **variables},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
