"""Settings: everything an operator can choose; made once, frozen, handed down.

Each is an environment variable ``MANET_NAME`` and a flag ``--name`` of ``manet-serve``; the flag wins over the
variable, the variable over the default.
"""

import ipaddress
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import (
    BeforeValidator,
    Field,
    HttpUrl,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    SecretStr,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from manet.backends.base import BackendName, Device, PrecisionName
from manet.cpus import available_cpus
from manet.recognizer import MAX_FACES
from manet.vision.retinaface import SmallFaces

MEBIBYTE = 1024 * 1024

PREFIX = r"(/[A-Za-z0-9._~-]+)*"
"""A path without a slash at its end; empty is none."""

T = TypeVar("T")


def _words(value: Any) -> Any:
    return [word.strip() for word in value.split(",") if word.strip()] if isinstance(value, str) else value


Words = Annotated[tuple[T, ...], NoDecode, BeforeValidator(_words)]
"""Several values, in one variable or flag, separated by commas."""


class Settings(BaseSettings):
    """The service's settings; the defaults suit a machine of its own, reachable from that machine only."""

    model_config = SettingsConfigDict(
        env_prefix="MANET_", frozen=True, extra="ignore", use_attribute_docstrings=True, cli_kebab_case=True
    )

    host: str = "127.0.0.1"
    """Address to listen on; 0.0.0.0 listens on all."""
    port: int = Field(default=8000, ge=0, le=65535)
    """TCP port; 0 takes a free one."""
    front_ends: Annotated[int, Field(ge=1, le=256)] | Literal["auto"] = 1
    """Processes that answer HTTP, decode and detect, in front of one more with the network; auto is one for each CPU
    but one. With 1, one process does everything. More than 1 need Linux."""
    log_level: Literal["debug", "info", "warning", "error", "critical"] = "info"
    """The least severe messages that are logged."""

    otlp_endpoint: HttpUrl | None = None
    """URL to send traces to, by OTLP over HTTP, such as http://localhost:4318/v1/traces; needs the extra otel. By
    default there are none."""
    access_log: bool = False
    """Whether each request is a line in the log; the metrics count them all the same."""

    weights: str = "ferplus"
    """Id of the weights (`manet weights list`), or a .safetensors file that manet-train wrote."""
    weights_dir: Path | None = None
    """Folder of imported weights; by default the platform's place for such data."""
    backend: BackendName = "auto"
    """What runs the network; auto takes PyTorch on a CUDA device, OpenVINO on a processor."""
    precision: PrecisionName = "auto"
    """The number format that the network runs in; auto takes int8 where the processor has VNNI and the weights stay
    close to float32 in it, else bf16 where the processor has it."""
    device: Device = "auto"
    """Where the network runs; auto takes a CUDA device where there is one."""
    threads: PositiveInt | None = None
    """CPU threads of the network; by default as many as the process may use (affinity and cgroup quota)."""
    workers: PositiveInt | None = None
    """Threads of a front end that decode images and find faces; by default all front ends together have as many as CPUs
    may be used, or twice as many where faces are found on a CUDA device, each at least 1 and at most 8."""
    small_faces: SmallFaces = "auto"
    """When an image is searched for small faces, in five times the time: `on` is always, `auto` where no face was found
    otherwise, and `off` is where `faces=small` requests it only."""

    max_batch_size: PositiveInt = 32
    """The most faces in one batch."""
    batch_timeout: NonNegativeFloat = 0.0
    """Seconds for which an idle network waits for company; 0 starts at once."""
    max_queued_faces: PositiveInt = 512
    """The most faces that wait for the network; more are answered with 429."""
    deadline: PositiveFloat = 10.0
    """Seconds after its arrival in which an image must be answered: else it is refused early or answered with 504."""
    upload_timeout: PositiveFloat = 10.0
    """Seconds in which the body of a request must have arrived; a slower one is answered with 408."""
    shutdown_timeout: PositiveInt = 30
    """Seconds that accepted requests get to finish after SIGTERM."""
    engine_timeout: PositiveFloat = 30.0
    """Seconds after which a batch that has not come back is taken for hanging, and the network for lost."""
    on_engine_failure: Literal["rebuild", "exit"] = "rebuild"
    """What to do when the network is lost: rebuild it, within bounds, or end the process with status 1 at once."""

    api_keys: Words[SecretStr] = ()
    """API keys, separated by commas, each of 16 characters or more; prefer the file to this flag, which `ps` shows."""
    api_keys_file: Path | None = None
    """File of API keys, one a line, read at the start."""
    allow_anonymous: bool = False
    """Let requests in without a key although `host` is no loopback address; without keys it does not start there."""
    rate_limit: str | None = None
    """Requests that one key, or without keys one address, may send, such as `600/minute`; none by default."""
    max_client_requests: PositiveInt | None = None
    """Requests that one key or address may have in flight at once; none by default."""
    cors_origins: Words[str] = ()
    """Origins whose pages may call the service, separated by commas, such as `https://example.org`; * is all."""
    trusted_proxies: Words[str] = ()
    """Addresses or networks of proxies whose X-Forwarded-For, -Proto and -Prefix are believed; none by default."""
    root_path: str = Field(default="", pattern=f"^{PREFIX}$")
    """Prefix of all paths behind a proxy, such as /faces, whether the proxy strips it or not; none by default."""

    max_head_bytes: PositiveInt = 32 * 1024
    """The largest head of a request, target and fields together, in bytes; more is answered with 431."""
    max_head_fields: PositiveInt = 100
    """The most fields in the head of a request; more are answered with 431."""
    max_target_bytes: PositiveInt = 8 * 1024
    """The longest target of a request, in bytes; more is answered with 414."""
    head_timeout: PositiveFloat = 10.0
    """Seconds in which the head of a request must have arrived; a slower one is answered with 408."""
    max_pipelined_requests: PositiveInt = 100
    """The most requests that wait on one connection for those before them; with more, it is closed after these."""
    max_uploads: PositiveInt = 1024
    """The most bodies on their way in at once, which hold no image's place yet; more are answered with 429."""
    max_inflight_images: PositiveInt = 128
    """The most images in flight at once; more are answered with 429."""
    max_upload_bytes: PositiveInt = 20 * MEBIBYTE
    """The largest request body, in bytes; more is answered with 413."""
    max_batch_images: PositiveInt = 100
    """The most images in one request to /predict/batch; more is answered with 422 or 400."""
    max_batch_bytes: PositiveInt = 200 * MEBIBYTE
    """The largest request body of /predict/batch, in bytes; more is answered with 413."""
    max_bytes_in_flight: PositiveInt = 512 * MEBIBYTE
    """The most bytes of uploads held in memory at once; more are answered with 429."""
    max_pixels: PositiveInt = 40_000_000
    """The largest image, width times height; more is answered with 413 before it is decoded."""
    max_decoded_pixels: PositiveInt | None = None
    """The most pixels of decoded images in memory at once, 8 bytes each; others wait. A pixel of a WebP counts
    as two, one of an AVIF or a progressive JPEG as up to one and a half. By default twice `max_pixels`.
    Front ends share them, but each has room for the largest image."""
    max_faces: PositiveInt = MAX_FACES
    """The most faces answered in one image, whatever the request says."""

    max_streams: PositiveInt = 32
    """The most live videos at once, each with one frame in flight; more are closed with 1013. Of one client, no more
    than `max_client_requests`."""
    max_frame_bytes: PositiveInt = 2 * MEBIBYTE
    """The largest frame of a live video, in bytes; more closes it with 1009."""
    stream_idle_timeout: PositiveFloat = 30.0
    """Seconds after which a live video is closed if no frame came, or no answer was taken."""

    explain: bool = True
    """Whether there is a /explain; it takes some 600 MB from its first use on, and needs PyTorch and captum."""
    max_explanations: PositiveInt = 4
    """The most images that are explained or wait for it; more are answered with 429."""

    @property
    def front_end_count(self) -> int:
        """How many front ends there are, at least 1."""
        return max(1, available_cpus() - 1) if self.front_ends == "auto" else self.front_ends

    @property
    def decoded_pixels_each(self) -> int:
        """The most pixels of decoded images in memory of one front end."""
        total = self.max_decoded_pixels or 2 * self.max_pixels
        return max(self.max_pixels, total // self.front_end_count)

    @field_validator("otlp_endpoint")
    @classmethod
    def _can_trace(cls, endpoint: HttpUrl | None) -> HttpUrl | None:
        if endpoint is not None and not _installed("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http"):
            raise ValueError("traces need the extra otel: pip install 'manet[otel]'")
        return endpoint

    @field_validator("rate_limit")
    @classmethod
    def _is_a_rate(cls, value: str | None) -> str | None:
        if value is not None:
            import limits  # noqa: PLC0415 - a start waits for what this module imports

            limits.parse(value)
        return value

    @model_validator(mode="after")
    def _the_largest_image_has_room(self) -> Self:
        if self.max_decoded_pixels is not None and self.max_decoded_pixels < self.max_pixels:
            raise ValueError(f"max_decoded_pixels must be at least max_pixels, {self.max_pixels}")
        return self

    @model_validator(mode="after")
    def _can_have_front_ends(self) -> Self:
        if self.front_end_count > 1 and sys.platform != "linux":
            raise ValueError("more than one front end needs Linux; elsewhere front_ends must be 1")
        return self

    @model_validator(mode="after")
    def _is_not_open_to_all_unasked(self) -> Self:
        keyed = bool(self.api_keys) or self.api_keys_file is not None
        if not (keyed or self.allow_anonymous or _is_loopback(self.host)):
            raise ValueError(
                f"{self.host} can be reached from other machines and no API keys are set: set MANET_API_KEYS_FILE or "
                "MANET_API_KEYS, or say MANET_ALLOW_ANONYMOUS=true"
            )
        return self


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _installed(*modules: str) -> bool:
    try:
        return all(find_spec(module) for module in modules)
    except ModuleNotFoundError:  # of the package around one
        return False
