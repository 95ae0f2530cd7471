"""What `gpufleet run --demo` shows: a simulated cluster with a day of history, in a folder of its own."""

import socket
import time
import urllib.error
import urllib.request
from datetime import datetime
from pathlib import Path

from gpufleet.errors import ProcessFailed
from gpufleet.launch import Part, gpufleet_command
from sample_data.cluster import simulated_cluster
from sample_data.demo_store import build_demo_store

NODES = 6
SEED = 1
FOLDER = ".gpufleet-demo"
HISTORY_HOURS = 24


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def simulator_part(port: int) -> Part:
    """The simulated cluster as a process."""
    return Part(
        name="simulated cluster",
        command=gpufleet_command("simulate", "--nodes", str(NODES), "--seed", str(SEED), "--port", str(port)),
    )


def write_demo_config(folder: Path, port: int) -> Path:
    """A configuration that scrapes the simulated cluster node by node; returns its path."""
    targets = "".join(
        f'  "http://127.0.0.1:{port}/nodes/{node.name}/metrics",\n' for node in simulated_cluster(NODES, SEED).nodes
    )
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "gpufleet.toml"
    path.write_text(
        "# Written by `gpufleet run --demo`: the simulated cluster. Changes are lost with the next start.\n"
        "version = 1\n\n"
        "[store]\n"
        'url = "sqlite:///demo.db"\n\n'
        "[[sources.dcgm]]\n"
        'name = "simulated"\n'
        "interval_s = 30\n"
        f"targets = [\n{targets}]\n\n"
        "[[reports]]\n"
        'name = "daily"\n'
        'cron = "0 7 * * *"\n'
        'directory = "reports"\n',
        encoding="utf-8",
    )
    return path


def fill_history(store_url: str, now: datetime) -> None:
    """Give the demo store the day before `now`, through the same code that collects."""
    build_demo_store(store_url, nodes=NODES, seed=SEED, until=now, hours=HISTORY_HOURS)


def wait_until_served(url: str, *, patience_s: float = 20.0) -> None:
    """Return when the URL answers; raises ProcessFailed when it does not in time."""
    deadline = time.monotonic() + patience_s
    while True:
        try:
            with urllib.request.urlopen(url, timeout=1) as answer:  # noqa: S310 - our own http://127.0.0.1 address
                answer.read(1)
        except (urllib.error.URLError, OSError) as error:
            if time.monotonic() > deadline:
                raise ProcessFailed(f"{url} did not answer within {patience_s:.0f} s: {error}") from error
            time.sleep(0.1)
        else:
            return
