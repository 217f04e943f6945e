"""The network in OpenVINO, on a CPU."""

import sys

# ``import openvino`` would report its use to its makers, over the network and from a forked process, unless it finds no
# telemetry package. It is imported by modules of this package only, so this comes first.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
