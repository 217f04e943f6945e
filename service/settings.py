"""Settings: everything an operator can choose; made once, frozen, handed down.

Each is an environment variable ``MANET_NAME`` and a flag ``--name`` of ``manet-serve``; the flag wins over the
variable, the variable over the default.
"""

from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from pydantic import Field, HttpUrl, NonNegativeFloat, PositiveFloat, PositiveInt, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from manet.backends import Device, EngineName, PrecisionName
from manet.recognizer import MAX_FACES

MEBIBYTE = 1024 * 1024


class Settings(BaseSettings):
    """The service's settings; the defaults suit a machine of its own, reachable from that machine only."""

    model_config = SettingsConfigDict(
        env_prefix="MANET_", frozen=True, extra="ignore", use_attribute_docstrings=True, cli_kebab_case=True
    )

    host: str = "127.0.0.1"
    """Address to listen on; 0.0.0.0 listens on all."""
    port: int = Field(default=8000, ge=0, le=65535)
    """TCP port; 0 takes a free one."""
    log_level: Literal["debug", "info", "warning", "error", "critical"] = "info"
    """The least severe messages that are logged."""

    otlp_endpoint: HttpUrl | None = None
    """URL to send traces to, by OTLP over HTTP, such as http://localhost:4318/v1/traces; needs the extra otel. By
    default there are none."""

    weights: str = "ferplus"
    """Id of the weights (`manet weights list`), or a .safetensors file that manet-train wrote."""
    weights_dir: Path | None = None
    """Folder of imported weights; by default the platform's place for such data."""
    backend: EngineName = "auto"
    """What runs the network; auto takes PyTorch on a CUDA device, OpenVINO on a processor."""
    precision: PrecisionName = "auto"
    """The number format that the network runs in; auto takes bf16 where the processor has it."""
    cache_dir: Path | None = None
    """Folder of exported networks, for OpenVINO; by default the platform's place for such files."""
    device: Device = "auto"
    """Where the network runs; auto takes a CUDA device where there is one."""
    threads: PositiveInt | None = None
    """CPU threads of the network; by default as many as the process may use (affinity and cgroup quota)."""
    workers: PositiveInt | None = None
    """Threads that decode pictures and find faces; by default as many CPUs as the process may use, at most 8."""

    max_batch_size: PositiveInt = 32
    """The most faces in one batch."""
    batch_window: NonNegativeFloat = 0.0
    """Seconds for which an idle network waits for company; 0 starts at once."""
    max_queued_faces: PositiveInt = 512
    """The most faces that wait for the network; more are answered with 429."""
    deadline: PositiveFloat = 10.0
    """Seconds after which an answer is worth nothing: such a request is refused early or answered with 504."""
    drain: PositiveInt = 30
    """Seconds that accepted requests get to finish after SIGTERM."""

    max_pictures: PositiveInt = 128
    """The most pictures in work at once; more are answered with 429."""
    max_upload_bytes: PositiveInt = 20 * MEBIBYTE
    """The largest request body, in bytes; more is answered with 413."""
    max_batch_pictures: PositiveInt = 100
    """The most pictures in one request to /predict/batch; more is answered with 422 or 400."""
    max_batch_bytes: PositiveInt = 200 * MEBIBYTE
    """The largest request body of /predict/batch, in bytes; more is answered with 413."""
    max_bytes_in_flight: PositiveInt = 512 * MEBIBYTE
    """The most bytes of uploads held in memory at once; more are answered with 429."""
    max_pixels: PositiveInt = 40_000_000
    """The largest picture, width times height; more is answered with 413 before it is decoded."""
    max_faces: PositiveInt = MAX_FACES
    """The most faces answered in one picture, whatever the request asks for."""

    @field_validator("otlp_endpoint")
    @classmethod
    def _can_trace(cls, endpoint: HttpUrl | None) -> HttpUrl | None:
        if endpoint is not None and not _installed("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http"):
            raise ValueError("traces need the extra otel: pip install 'manet[otel]'")
        return endpoint


def _installed(*modules: str) -> bool:
    try:
        return all(find_spec(module) for module in modules)
    except ModuleNotFoundError:  # of the package around one
        return False
