from pathlib import Path

from ma_net_client import Client
from ma_net_client.api.predict import predict
from ma_net_client.models import Problem
from ma_net_client.types import File

client = Client("http://127.0.0.1:8000", raise_on_unexpected_status=True)
with Path("face.jpg").open("rb") as photo:
    answer = predict.sync(client=client, body=File(photo))
assert answer is not None
if isinstance(answer, Problem):
    raise SystemExit(f"{answer.type_}: {answer.detail}")
for face in answer.faces:
    print(face.expression, f"{face.confidence:.2f}")
