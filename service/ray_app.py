"""Replica: the application and its engine as a Ray Serve deployment, one of each in every replica.

    serve run service.ray_app:app weights=ferplus max_replicas=8

Ray Serve's proxies listen, spread requests over the replicas, start and stop replicas with the load, and replace those
that die or whose network answers no more. Everything else is ``service.app``, unchanged.
"""

import logging
from collections.abc import Callable
from math import ceil
from typing import Self

from fastapi import FastAPI
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator
from pydantic_settings import SettingsConfigDict
from ray import serve
from ray.serve.config import AutoscalingConfig

from manet.recognizer import Recognizer
from service.app import create_app
from service.clock import SystemClock
from service.errors import NotReadyError
from service.inference.engine import load_recognizer
from service.settings import MEBIBYTE, Settings

Loader = Callable[[Settings], Recognizer]
"""Returns a replica's own recognizer, in the replica's process."""

_CLOSING = 10
"""Seconds that a stopping replica gets beyond the shutdown timeout, for its network to be closed."""


class ClusterSettings(Settings):
    """The service's settings, and those of its replicas.

    Each is ``name=value`` after ``serve run service.ray_app:app``, an entry of ``args`` in a Serve configuration file,
    or ``MANET_NAME`` in the environment in which the application is built. ``host`` and ``port`` mean nothing here.
    """

    model_config = SettingsConfigDict(extra="forbid")

    min_replicas: PositiveInt = 1
    """Replicas that are kept without any load."""
    max_replicas: PositiveInt = 4
    """The most replicas; those that find no room wait for Ray to add a node."""
    replica_cpus: PositiveFloat = 1.0
    """CPUs that a replica reserves; its network and its workers take as many threads, rounded up."""
    replica_gpus: NonNegativeFloat = 0.0
    """GPUs that a replica reserves."""
    replica_memory: PositiveInt = 1024 * MEBIBYTE
    """Bytes of memory that a replica reserves."""
    ongoing_requests: PositiveFloat = 16.0
    """Requests in flight in each replica that the number of replicas aims at."""
    look_back: float = Field(default=30.0, gt=10.0)
    """Seconds over which requests in flight are averaged; Ray Serve counts them every ten."""
    upscale_delay: NonNegativeFloat = 10.0
    """Seconds for which there must be too few replicas before one is added."""
    downscale_delay: NonNegativeFloat = 300.0
    """Seconds for which there must be too many replicas before one is stopped."""
    health_period: PositiveFloat = 5.0
    """Seconds between two looks at a replica's health; after three that fail it is replaced."""

    @model_validator(mode="after")
    def _check_replicas(self) -> Self:
        if self.max_replicas < self.min_replicas:
            raise ValueError(f"max_replicas is {self.max_replicas}, below min_replicas, {self.min_replicas}")
        return self

    def of_replica(self) -> Self:
        """Return them as a replica takes them: no more threads than it has reserved CPUs, unless requested."""
        cpus = ceil(self.replica_cpus)
        return self.model_copy(update={"threads": self.threads or cpus, "workers": self.workers or cpus})


@serve.ingress()
class Replica:
    """One application around one engine.

    Args:
        settings: all choices.
        load: loads the recognizer.
    """

    def __init__(self, settings: ClusterSettings, load: Loader) -> None:
        logger = logging.getLogger("manet")
        logger.addHandler(logging.StreamHandler())
        logger.setLevel(settings.log_level.upper())
        own = settings.of_replica()
        self._application = create_app(own, load(own), SystemClock())

    def __serve_build_asgi_app__(self) -> FastAPI:
        """Return the application; Ray Serve runs its lifespan."""
        return self._application

    async def check_health(self) -> None:
        """Return if the network answers.

        Raises:
            NotReadyError: if it does not; Ray Serve then replaces the replica.
        """
        if not self._application.state.service.scheduler.alive:
            raise NotReadyError("the network does not answer")


def application(settings: ClusterSettings, load: Loader, replica: type[Replica] = Replica) -> serve.Application:
    """Return the deployment, bound, for ``serve.run``.

    Admission says no in the service's own words (429 as problem+json), so a replica is sent twice the images that
    it lets in before Ray Serve keeps any back.

    Args:
        settings: all choices.
        load: loads each replica's recognizer.
        replica: what is deployed.
    """
    deploy = serve.deployment(
        name="manet",
        ray_actor_options={
            "num_cpus": settings.replica_cpus,
            "num_gpus": settings.replica_gpus,
            "memory": settings.replica_memory,
        },
        max_ongoing_requests=2 * settings.max_inflight_images,
        autoscaling_config=AutoscalingConfig(
            min_replicas=settings.min_replicas,
            max_replicas=settings.max_replicas,
            target_ongoing_requests=settings.ongoing_requests,
            look_back_period_s=settings.look_back,
            upscale_delay_s=settings.upscale_delay,
            downscale_delay_s=settings.downscale_delay,
        ),
        graceful_shutdown_timeout_s=max(settings.shutdown_timeout, settings.deadline) + _CLOSING,
        health_check_period_s=settings.health_period,
    )
    return deploy(replica).bind(settings, load)


def app(settings: ClusterSettings) -> serve.Application:
    """Return the deployment with the weights that the settings name; what ``serve run`` and ``serve deploy`` build."""
    return application(settings, load_recognizer)
