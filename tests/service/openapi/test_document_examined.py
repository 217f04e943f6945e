"""The contract, examined by Schemathesis: what it allows is answered as it says, and what it forbids is refused.

``make test EXAMPLES=500`` looks deeper.
"""

import json
import os
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import strategies as st
from schemathesis import Case, Config, HookContext

from service.openapi.document import MOST_FIELDS
from service.routes.v2 import version_of
from testing.fakes import NO_FACE, RED_FACE, WEIGHTS, make_app
from testing.live import live
from tests.fuzz.seeds import images
from tests.service.openapi.snapshot import contract

EXAMPLES = int(os.environ.get("EXAMPLES", "20"))
PATIENT = 300.0
"""Seconds; what is asked here is not how fast."""
REAL = [RED_FACE, NO_FACE, *dict(images()).values()]
REFUSED = [400, 404, 405, 415, 422]
BATCH = {
    # What is no image there spoils a row, and the answer to the request is 200 all the same.
    "include-operation-id": "predictBatch",
    "checks": {"negative_data_rejection": {"expected-statuses": [200, *REFUSED]}},
}
ONE_IMAGE = {
    # JSON Schema cannot say that a text is an image in base64, so what it allows there may be refused as no image.
    "include-operation-id": ["predict", "explain"],
    "checks": {"positive_data_acceptance": {"expected-statuses": [200, 415, 422]}},
}
MODEL = {"path.model": WEIGHTS.id, "path.version": version_of(WEIGHTS)}
INFER = {
    # JSON Schema cannot say that `data` has as many values as the product of `shape`, nor that a header is as long as
    # the JSON; so what it allows here may be refused, but as malformed or a wrong tensor only.
    "include-operation-id": ["infer", "inferVersion"],
    "checks": {"positive_data_acceptance": {"expected-statuses": [200, 400]}},
}
GENERATION = {"max-examples": EXAMPLES, "deterministic": True}
CONTRACT = schemathesis.openapi.from_dict(
    json.loads(contract()),
    config=Config.from_dict(
        {
            "generation": GENERATION,
            "parameters": MODEL,
            "operations": [BATCH, INFER, ONE_IMAGE],
            "request-timeout": PATIENT,
            "checks": {
                "positive_data_acceptance": {"expected-statuses": [200]},
                "negative_data_rejection": {"expected-statuses": REFUSED},
            },
        }
    ),
)


@CONTRACT.hook
def filter_body(context: HookContext, body: object) -> bool:
    """Drop forms of more parts than are read: JSON Schema bounds fields, and one that is a list is many parts."""
    assert context.operation is not None
    if context.operation.path.startswith("/v2") or not isinstance(body, dict):
        return True
    others = [value for name, value in body.items() if name not in {"image", "images"}]
    return sum(len(value) if isinstance(value, list) else 1 for value in others) < MOST_FIELDS


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """The address of the real application around fakes."""
    # What may be uploaded is an image, not any bytes: so whatever the contract allows must be accepted.
    schemathesis.openapi.format("binary", st.sampled_from(REAL))
    with live(make_app(deadline=PATIENT)) as served:
        yield served.address


@CONTRACT.parametrize()
def test_every_operation_keeps_every_promise(case: Case[Any], address: str) -> None:
    answer = case.call_and_validate(base_url=address)

    assert answer.status_code < 500
