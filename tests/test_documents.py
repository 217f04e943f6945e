"""The documents: their links lead somewhere, and the files that they name exist."""

import re

import pytest

from testing.documents import ROOT, Document

PAGES = [
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "manet/weights/assets/MODEL_CARD.md",
    *sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").glob("*.md")),
]
LINKS = sorted({(page, link) for page in PAGES for link in Document(page).links})


@pytest.mark.parametrize(("page", "link"), LINKS)
def test_a_link_leads_somewhere(page: str, link: str) -> None:
    path, _, anchor = link.partition("#")
    target = ((ROOT / page).parent / path).resolve() if path else ROOT / page

    assert target.exists()
    if anchor:
        assert anchor in Document(str(target.relative_to(ROOT))).anchors


@pytest.mark.parametrize("page", [page for page in PAGES if page != "CHANGELOG.md"])
def test_the_files_that_it_names_are_there(page: str) -> None:
    named = re.findall(
        r"`((?:manet|service|training|testing|tests|bench|docs|docker|examples)/[\w./-]*)", Document(page).text
    )

    assert [path for path in named if not path.startswith("docker/secrets/") and not (ROOT / path).exists()] == []


@pytest.mark.parametrize("page", [page for page in PAGES if page.startswith("docs/")])
def test_the_readme_leads_to_each_document(page: str) -> None:
    assert page in Document("README.md").links
