"""`gpufleet agent`: the GPUs of this machine in dcgm-exporter's format, for nodes that have no exporter."""

import logging
import signal
import socket
import sys
from types import FrameType
from typing import Annotated

import typer

from gpufleet.clear_errors import clear_errors
from gpufleet.errors import ShellError


@clear_errors
def agent(
    host: Annotated[
        str, typer.Option(help="Address to listen on; 0.0.0.0 to be scraped from elsewhere.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes any free one.")] = 9400,
    interval: Annotated[float, typer.Option(min=1, max=3600, help="Seconds between two readings.")] = 15.0,
    node: Annotated[str | None, typer.Option(help="Name of this node; NODE_NAME or the host name by default.")] = None,
    processes: Annotated[bool, typer.Option(help="Look up which pods the processes on the GPUs belong to.")] = True,
    log_directory: Annotated[
        str, typer.Option(help="The host's /var/log, whose folders tell the names of pods.")
    ] = "/var/log",
) -> None:
    """Read this machine's GPUs by NVML and serve them at /metrics as dcgm-exporter would, until Ctrl-C.

    /healthz tells the age of the values and what is missing. Both answer 503 rather than with old numbers.
    """
    import uvicorn

    from collectors.nvml.collector import NvmlCollector
    from collectors.nvml.config import NvmlConfig
    from gpufleet.agent_service import Agent

    config = NvmlConfig.model_validate(
        {
            "name": "agent",
            "interval_s": interval,
            "node": node,
            "processes": processes,
            "log_directory": log_directory,
        }
    )
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    listener = _listen(host, port)
    running = Agent(NvmlCollector(config))
    server = uvicorn.Server(
        uvicorn.Config(
            running.app(),
            log_level="warning",
            access_log=False,
            lifespan="off",
            ws="none",
            timeout_graceful_shutdown=1,
        )
    )

    def stop(_signal: int, _frame: FrameType | None) -> None:
        server.should_exit = True

    # uvicorn raises a caught signal again once it has stopped; these handlers make that a clean exit
    previous = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    running.start()
    shown = f"[{host}]" if ":" in host else host
    sys.stdout.write(f"gpufleet agent: http://{shown}:{listener.getsockname()[1]}/metrics of {config.node_name()}\n")
    sys.stdout.flush()
    try:
        server.run(sockets=[listener])
    finally:
        running.stop()
        for number, handler in previous.items():
            signal.signal(number, handler)
        listener.close()


def _listen(host: str, port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen()  # from here on a connection waits, so that the line that tells the address is true
    except OSError as error:
        listener.close()
        raise ShellError(
            f"cannot listen on {host}:{port} ({error.strerror}): if dcgm-exporter runs on this machine, read that one; "
            "else give another --port, or 0 for any free one."
        ) from error
    return listener
