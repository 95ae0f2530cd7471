"""What `gpufleet run --demo` shows: a simulated cluster with a day of history, in a folder of its own."""

import socket
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path

from gpufleet.launch import Part, gpufleet_command
from sample_data.cluster import simulated_cluster
from sample_data.demo_store import SOURCE_NAME, build_demo_store
from sample_data.deployments import Engine
from sample_data.kubernetes_routes import PREFIX as KUBERNETES
from sample_data.langfuse_routes import PATH as LANGFUSE
from sample_data.langfuse_routes import PUBLIC_KEY, SECRET_KEY
from sample_data.litellm_routes import KEY as LITELLM_KEY
from sample_data.litellm_routes import PATH as LITELLM
from sample_data.serving_endpoints import has_endpoint, pod_path
from sample_data.serving_state import serving_pods
from store.database import open_engine
from store.queries import last_observed_at, source_health
from store.schema import migrate

NODES = 6
SEED = 1
FOLDER = ".gpufleet-demo"
HISTORY_HOURS = 24
LANGFUSE_KEY_FILE = "secrets/langfuse"
LITELLM_KEY_FILE = "secrets/litellm"
_PORT_FILE = "port"


def choose_port(folder: Path) -> int:
    """The port of the last demo in this folder where it is free, so that its history goes on; else any free one."""
    try:
        port = int((folder / _PORT_FILE).read_text(encoding="ascii"))
    except (OSError, ValueError):
        return _free_port(0)
    try:
        return _free_port(port)
    except (OSError, OverflowError):
        return _free_port(0)


def _free_port(wanted: int) -> int:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the simulator will
        probe.bind(("127.0.0.1", wanted))
        return int(probe.getsockname()[1])


def simulator_part(port: int) -> Part:
    """The simulated cluster as a process."""
    return Part(
        name="simulated cluster",
        command=gpufleet_command("simulate", "--nodes", str(NODES), "--seed", str(SEED), "--port", str(port)),
        ready_url=f"http://127.0.0.1:{port}/healthz",
    )


def write_demo_config(folder: Path, port: int, *, nodes: int = NODES) -> Path:
    """A configuration that reads everything that the simulated cluster speaks; returns its path."""
    cluster, address = simulated_cluster(nodes, SEED), f"http://127.0.0.1:{port}"
    places = serving_pods(cluster)
    engines = [f"{address}{pod_path(one.pod)}/metrics" for one in places if has_endpoint(one)]
    ollamas = [f"{address}{pod_path(one.pod)}" for one in places if one.deployment.engine is Engine.OLLAMA]
    (folder / "secrets").mkdir(parents=True, exist_ok=True)
    (folder / LANGFUSE_KEY_FILE).write_text(SECRET_KEY, encoding="ascii")
    (folder / LITELLM_KEY_FILE).write_text(LITELLM_KEY, encoding="ascii")
    (folder / _PORT_FILE).write_text(str(port), encoding="ascii")
    path = folder / "gpufleet.toml"
    path.write_text(
        "# Written by `gpufleet run --demo`: the simulated cluster. Changes are lost with the next start.\n"
        "version = 1\n\n"
        "[store]\n"
        'url = "sqlite:///demo.db"\n\n'
        "[[sources.dcgm]]\n"
        f'name = "{SOURCE_NAME}"\n'
        "interval_s = 30\n"
        f"targets = {_list(f'{address}/nodes/{node.name}/metrics' for node in cluster.nodes)}\n\n"
        "[[sources.serving]]\n"
        'name = "engines"\n'
        f"targets = {_list(engines)}\n\n"
        "[[sources.ollama]]\n"
        'name = "ollama"\n'
        "counted_by_gateway = true\n"
        f"targets = {_list(ollamas)}\n\n"
        "[[sources.kubernetes]]\n"
        'name = "kubernetes"\n'
        f'url = "{address}{KUBERNETES}"\n\n'
        "[[sources.litellm]]\n"
        'name = "gateway"\n'
        f'url = "{address}{LITELLM}"\n'
        f'bearer_token_file = "{LITELLM_KEY_FILE}"\n\n'
        "[[sources.langfuse]]\n"
        'name = "traces"\n'
        f'url = "{address}{LANGFUSE}/v3"\n'
        f'public_key = "{PUBLIC_KEY}"\n'
        f'secret_key_file = "{LANGFUSE_KEY_FILE}"\n\n'
        "[[reports]]\n"
        'name = "daily"\n'
        'cron = "0 7 * * *"\n'
        'directory = "reports"\n',
        encoding="utf-8",
    )
    return path


def _list(urls: Iterable[str]) -> str:
    return "[\n" + "".join(f'  "{url}",\n' for url in urls) + "]"


def fill_history(store_url: str, now: datetime, port: int) -> None:
    """Give the demo store the day before `now`, or what is missing of it, through the same code that collects.

    A store of another simulator address is begun anew: its targets would only look dead. Raises StoreError.
    """
    address = f"127.0.0.1:{port}"
    engine = open_engine(store_url)
    try:
        migrate(engine)
        known = last_observed_at(engine)
        targets = {health.target.partition("/")[0] for health in source_health(engine, now)}
    finally:
        engine.dispose()
    hours = float(HISTORY_HOURS)
    if targets - {address}:
        for path in Path(store_url.removeprefix("sqlite:///")).parent.glob("demo.db*"):
            path.unlink()
    elif known is not None:
        hours = min(hours, max(0.0, (now - known).total_seconds() / 3600))
    build_demo_store(store_url, nodes=NODES, seed=SEED, until=now, hours=hours, address=address)
