"""A Ray cluster of two nodes on the loopback interface, bounded in memory, for all tests of this folder."""

import logging
import os
import tempfile
from collections.abc import Iterator
from typing import Any

import pytest

from manet.recognizer import Recognizer
from testing.processes import free_port

# Ray reads these when it is imported, which the modules beside this one do.
os.environ.update(
    RAY_USAGE_STATS_ENABLED="0",
    RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER="0",  # on any system: 127.0.0.1 stays 127.0.0.1
)

_NODE: dict[str, Any] = {
    "node_ip_address": "127.0.0.1",
    "num_cpus": 1,
    "memory": 3 * 2**30,
    "object_store_memory": 100 * 2**20,
    "include_dashboard": False,
}


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[str]:
    """The address of two nodes of one CPU each; this process is connected to them."""
    import ray  # noqa: PLC0415
    from ray.cluster_utils import Cluster  # noqa: PLC0415

    # Ray's sockets lie in this folder, and a socket's path has at most 107 bytes. It is made Ray's default: whatever
    # ``temp_dir`` says, the cluster's address is written into the default folder, and nothing else makes that.
    with (
        tempfile.TemporaryDirectory(prefix="ray", dir="/tmp", ignore_cleanup_errors=True) as folder,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("RAY_TMPDIR", folder)
        cluster = Cluster()
        try:
            cluster.add_node(**_NODE)
            cluster.add_node(**_NODE)
            ray.init(cluster.address, log_to_driver=False, logging_level=logging.ERROR)
            yield cluster.address
        finally:
            ray.shutdown()
            cluster.shutdown()


@pytest.fixture(scope="session")
def one_process() -> Recognizer:
    """What all answers are held to."""
    return Recognizer.from_weights("ferplus")


@pytest.fixture(scope="session")
def serve_port(ray_cluster: str) -> Iterator[int]:
    """The port of Ray Serve's proxy on the first node."""
    from ray import serve  # noqa: PLC0415
    from ray.serve.config import HTTPOptions  # noqa: PLC0415

    port = free_port()
    serve.start(proxy_location="HeadOnly", http_options=HTTPOptions(host="127.0.0.1", port=port))
    yield port
    serve.shutdown()
