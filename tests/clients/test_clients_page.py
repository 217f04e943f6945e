"""docs/clients.md shows what the tests of generated clients run, and its figures of the network's input are right."""

import re

import pytest

from manet.weights.registry import get
from testing.documents import ADDRESS, ROOT, Document

PAGE = Document("docs/clients.md")


@pytest.mark.parametrize(
    ("language", "name"),
    [("python", "program.py"), ("ts", "program.ts"), ("java", "Program.java"), ("go", "program.go")],
)
def test_the_programs_are_those_that_are_run(language: str, name: str) -> None:
    assert PAGE.block(language) == (ROOT / "tests/clients" / name).read_text()


@pytest.mark.parametrize(
    "part", ["openapi-python-client generate", "npx openapi-typescript", "-g java", "-g go", "go mod init", "go build"]
)
def test_the_commands_that_make_clients_are_those_that_are_run(part: str) -> None:
    command = PAGE.command(part)
    run = re.findall(r'"([^"\n]+)"', (ROOT / "tests/clients/test_clients.py").read_text())

    words = [word.replace(ADDRESS, "{address}") for word in command.split()]
    assert [word for word in words if word not in run] == []


def test_the_input_of_the_open_inference_protocol() -> None:
    side = get("ferplus").preprocessing.input_size

    assert f"UINT8, N x {side} x {side} x 3" in PAGE.text
