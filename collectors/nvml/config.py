"""`[[sources.nvml]]`: the GPUs of the machine that gpufleet runs on."""

import os
import socket
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from collectors.config import DEFAULT_CLUSTER, Name
from planner.units import NodeName


class NvmlConfig(BaseModel):
    """What can be told about the machine's own GPUs; there is no address, NVML is a library of the driver.

    `node` is how this machine is called everywhere else: by default NODE_NAME, which a DaemonSet sets from the downward
    API (`spec.nodeName`), else the host name. `proc_directory` and `log_directory` are for containers that see the
    host's folders under another path.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Name
    cluster: Name = DEFAULT_CLUSTER
    interval_s: Annotated[float, Field(ge=1, le=86_400)] = 30.0
    timeout_s: Annotated[float, Field(gt=0, le=600)] = 20.0
    node: Annotated[str, Field(min_length=1, max_length=253)] | None = None
    processes: bool = True
    proc_directory: Path = Path("/proc")
    log_directory: Path = Path("/var/log")

    def node_name(self) -> NodeName:
        """The configured name, else NODE_NAME of the environment, else the host name."""
        return NodeName(self.node or os.environ.get("NODE_NAME") or socket.gethostname())
