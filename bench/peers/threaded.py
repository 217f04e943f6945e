"""Threaded: plain FastAPI around a function of one image, as FastAPI's documentation uploads a file."""

import argparse
from collections.abc import Callable
from typing import Any

import uvicorn
from fastapi import FastAPI, UploadFile

Answer = Callable[[bytes], list[dict[str, Any]]]
"""From an image's bytes to its faces."""


def create_app(answer: Answer) -> FastAPI:
    """Return an application that answers each image in a thread of Starlette's pool of forty."""
    app = FastAPI()

    @app.post("/predict")
    def predict(image: UploadFile) -> dict[str, Any]:
        return {"faces": answer(image.file.read())}

    @app.get("/health")
    def health() -> dict[str, str]:
        return {"status": "ok"}

    return app


def serve(answer: Answer) -> None:
    """Serve until SIGTERM, on the port that the command line names."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    uvicorn.run(create_app(answer), host="127.0.0.1", port=parser.parse_args().port)
