"""The commands: what each is called, what it takes, and what it calls.

Each imports what it calls when it is called: the web server, the tables and the scheduler together take longer to
load than a plan takes to compute.
"""

import logging
import os
import sys
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gpufleet.agent import agent
from gpufleet.clear_errors import clear_errors, run_app
from gpufleet.errors import ConfigurationError, ShellError
from gpufleet.memory_options_command import memory_app
from gpufleet.mig_plan_commands import mig_app
from gpufleet.window import WINDOW_HELP, parse_window

if TYPE_CHECKING:
    from gpufleet.config import Config
    from gpufleet.launch import Part
    from gpufleet.run_flags import Sources
    from planner.fleet import Fleet

DEFAULT_FILE = "gpufleet.toml"

app = typer.Typer(
    help="What a GPU fleet really does, what stands idle in it, and the MIG layout that holds the same work on less.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
report_app = typer.Typer(help="Scheduled reports.", no_args_is_help=True)
app.add_typer(report_app, name="report")
app.add_typer(mig_app, name="mig")
app.add_typer(memory_app, name="memory")
app.command()(agent)

ConfigOption = Annotated[
    Path | None, typer.Option("--config", help=f"Configuration file; {DEFAULT_FILE} in this folder by default.")
]
StoreOption = Annotated[
    str | None, typer.Option("--store", help="URL of the store, in place of the one in the configuration.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the documented JSON (docs/json.md).")]
WindowOption = Annotated[str, typer.Option("--window", help=WINDOW_HELP)]
ClusterOption = Annotated[str | None, typer.Option("--cluster", help="Only this cluster.")]
PortOption = Annotated[int, typer.Option("--port", min=0, max=65535)]


@app.command()
@clear_errors
def run(
    config: ConfigOption = None,
    demo_fleet: Annotated[bool, typer.Option("--demo", help="Show a simulated cluster.")] = False,
    prometheus: Annotated[str | None, typer.Option(help="Read GPUs and serving engines from this Prometheus.")] = None,
    dcgm: Annotated[list[str] | None, typer.Option(help="Scrape these dcgm-exporters (metrics URL).")] = None,
    more: Annotated[list[str] | None, typer.Argument(metavar="[URL]...", help="More exporters for --dcgm.")] = None,
    port: PortOption = 8501,
) -> None:
    """Collect in the background and show the dashboard on 127.0.0.1, until Ctrl-C."""
    from gpufleet import run_flags
    from gpufleet.config import load_config

    _log_to_stderr()
    chosen = [name for name, value in (("--demo", demo_fleet), ("--config", config), ("--prometheus", prometheus),
                                       ("--dcgm", dcgm)) if value]  # fmt: skip
    if len(chosen) > 1:
        raise ShellError(f"{' and '.join(chosen)} contradict each other; give one of them.")
    if more and not dcgm:
        raise ShellError(f"{more[0]!r} is not understood; URLs of exporters come after --dcgm.")
    if demo_fleet:
        _run_demo(port)
    elif prometheus:
        _run_flags(run_flags.sources_of_prometheus(prometheus), port)
    elif dcgm:
        _run_flags(run_flags.sources_of_exporters([*dcgm, *(more or [])]), port)
    else:
        path = _config_path(config)
        if path is None:
            from gpufleet.looking_around import driver_is_here

            if driver_is_here():
                typer.echo(f"No {DEFAULT_FILE} in this folder: reading the GPUs of this machine.")
                _run_flags(run_flags.sources_of_this_machine(), port)
                return
            raise ShellError(
                f"there is nothing to read: no {DEFAULT_FILE} in this folder, and no GPU on this machine. Look first "
                "with `gpufleet run --demo`, "
                "or name what to read with --prometheus URL, --dcgm URL or --config FILE."
            )
        _run_config(path, load_config(path), port)


@app.command()
@clear_errors
def simulate(
    nodes: Annotated[int, typer.Option(min=1, max=5000, help="Nodes of 4 to 8 GPUs.")] = 6,
    seed: Annotated[int, typer.Option(help="Same seed, same cluster.")] = 1,
    port: PortOption = 9400,
    speed: Annotated[float, typer.Option(min=0.0, help="Simulated seconds per second.")] = 1.0,
) -> None:
    """Serve a simulated cluster on 127.0.0.1, exporter by exporter."""
    from sample_data.server import PortTaken, serve

    try:
        serve(nodes=nodes, seed=seed, port=port, speed=speed)
    except PortTaken as error:
        raise ShellError(str(error.strerror)) from error


@app.command()
@clear_errors
def collect(
    config: ConfigOption = None,
    once: Annotated[bool, typer.Option("--once", help="Read every source once and end.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Read the sources into the store: once, or (without --once) on their intervals until stopped.

    With --once the exit code is 1 if any target failed.
    """
    from gpufleet import json_output, service, text_output

    _log_to_stderr(quiet=as_json)
    loaded = _required_config(config)
    if not once:
        if as_json:
            raise ShellError("--json goes with --once; the service writes its attempts to the store.")
        service.run_until_stopped(loaded)
        return
    engine = service.open_store(loaded)
    collectors = service.build_collectors(loaded)
    try:
        outcomes = service.collect_once(engine, collectors, service.utc_now())
    finally:
        for collector in collectors:
            collector.close()
        engine.dispose()
    document = json_output.collect_document(outcomes)
    if as_json:
        json_output.print_json(document)
    else:
        text_output.print_collection(document)
    if not all(target["ok"] for target in document):
        raise typer.Exit(1)


@app.command()
@clear_errors
def init(
    file: Annotated[Path, typer.Option("--file", help="What to write.")] = Path(DEFAULT_FILE),
    host: Annotated[
        list[str] | None, typer.Option("--host", metavar="HOST", help="A machine to ask, beside this one; repeatable.")
    ] = None,
    kubeconfig: Annotated[
        Path | None, typer.Option("--kubeconfig", exists=True, dir_okay=False, help="In place of $KUBECONFIG.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Write over the file.")] = False,
) -> None:
    """Look for sources on this machine, on known ports and in the kubeconfig, and write a configuration of them."""
    from gpufleet.initial_config import initial_config
    from gpufleet.looking_around import look_around

    if file.exists() and not force:
        raise ShellError(f"{str(file)!r} is there already; name another with --file, or write over it with --force.")
    found = look_around(("127.0.0.1", *(host or ())), kubeconfig=kubeconfig)
    for one in found:
        typer.echo(f"found {one.program}" + (f" at {one.url}" if one.url else f" {one.path}" if one.path else ""))
    if not found:
        raise ShellError(
            "nothing was found on this machine and there is no kubeconfig; name machines with --host, or write the "
            "file by hand (docs/configuration.md). To look around with a simulated fleet: gpufleet run --demo."
        )
    try:
        file.write_text(initial_config(found), encoding="utf-8")
    except OSError as error:
        raise ShellError(f"{str(file)!r} cannot be written: {error.strerror}.") from error
    typer.echo(f"wrote {file}; look at it, then: gpufleet doctor --config {file}")


@app.command()
@clear_errors
def doctor(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Look at every configured source: does it answer, what does it lack, what does that cost, what to do.

    The exit code is 1 if any target failed.
    """
    from gpufleet import doctor_output, json_output, service
    from gpufleet.doctor import examine
    from planner.diagnosis import Outcome

    _log_to_stderr(quiet=True)
    collectors = service.build_collectors(_required_config(config))
    try:
        diagnoses = examine(collectors, service.utc_now())
    finally:
        for collector in collectors:
            collector.close()
    if as_json:
        json_output.print_json(doctor_output.doctor_document(diagnoses))
    else:
        doctor_output.print_diagnoses(diagnoses)
    if any(one.outcome is Outcome.FAILED for one in diagnoses):
        raise typer.Exit(1)


@app.command()
@clear_errors
def fleet(
    config: ConfigOption = None,
    store: StoreOption = None,
    cluster: ClusterOption = None,
    window: WindowOption = "1h",
    as_json: JsonOption = False,
) -> None:
    """Show nodes, GPUs and GPU instances with their state and newest values."""
    from gpufleet import json_output, text_output

    snapshot = _snapshot(config, store, cluster, parse_window(window))
    if as_json:
        json_output.print_json(json_output.fleet_document(snapshot))
    else:
        text_output.print_fleet(snapshot)


@app.command()
@clear_errors
def advise(
    config: ConfigOption = None,
    store: StoreOption = None,
    cluster: ClusterOption = None,
    window: WindowOption = "24h",
    as_json: JsonOption = False,
) -> None:
    """Propose, per board, the MIG layouts that hold the measured work on the fewest GPUs."""
    from gpufleet import json_output, text_output
    from planner.advice import advise as advise_layouts

    advice = advise_layouts(_snapshot(config, store, cluster, parse_window(window)))
    if as_json:
        json_output.print_json(json_output.advise_document(advice))
    else:
        text_output.print_advice(advice)


@app.command("check-config")
@clear_errors
def check_config(file: Annotated[Path, typer.Argument(metavar="FILE")]) -> None:
    """Check a configuration file and print what it means, secrets masked."""
    from gpufleet import json_output
    from gpufleet.config import load_config, shown

    json_output.print_json(shown(load_config(file)))


@report_app.command("run")
@clear_errors
def report_run(name: Annotated[str, typer.Argument(metavar="NAME")], config: ConfigOption = None) -> None:
    """Write one configured report now and print the names of its files."""
    from gpufleet import service
    from store.database import open_engine

    loaded = _required_config(config)
    report = loaded.report(name)
    engine = open_engine(loaded.store.url, read_only=True)
    try:
        for path in service.run_report(engine, report, service.utc_now()):
            typer.echo(path)
    except OSError as error:
        raise ShellError(f"the report {name!r} cannot be written to {report.directory}: {error.strerror}.") from error
    finally:
        engine.dispose()


def _run_demo(port: int) -> None:
    from gpufleet import demo, service
    from gpufleet.config import load_config

    folder = Path.cwd() / demo.FOLDER
    simulator_port = demo.choose_port(folder)
    path = demo.write_demo_config(folder, simulator_port)
    loaded = load_config(path)
    typer.echo(f"Building a day of history of the simulated cluster in {folder}, which takes about half a minute ...")
    demo.fill_history(loaded.store.url, service.utc_now(), simulator_port)
    _run_config(path, loaded, port, before=(demo.simulator_part(simulator_port),))


def _run_flags(sources: "Sources", port: int) -> None:
    """Flags make a configuration too; it is handed to the background process in a file that only we can read."""
    from gpufleet import launch
    from gpufleet.config import parse_config
    from store.location import store_url

    raw: dict[str, Any] = {"version": 1, "store": {"url": store_url(os.environ, Path.cwd())}, "sources": sources}
    loaded = parse_config(raw, origin="the command line", directory=Path.cwd())
    path = launch.write_run_config(Path.cwd(), raw)
    try:
        _run_config(path, loaded, port)
    finally:
        path.unlink(missing_ok=True)


def _run_config(path: Path, loaded: "Config", port: int, *, before: tuple["Part", ...] = ()) -> None:
    from gpufleet import launch, service

    if not loaded.sources:
        raise ConfigurationError(str(path), ["it names no source; add a [[sources.prometheus]] or [[sources.dcgm]]"])
    # The store is brought up to date here, before two processes open it.
    service.open_store(loaded).dispose()
    typer.echo(f"gpufleet: dashboard on http://127.0.0.1:{port}  (Ctrl-C stops everything)")
    launch.run_together(
        (
            *before,
            launch.Part(
                name="background collection", command=launch.gpufleet_command("collect", "--config", str(path))
            ),
            launch.dashboard_part(store_url=loaded.store.url, port=port),
        )
    )


def _snapshot(config: Path | None, store: str | None, cluster: str | None, window: timedelta) -> "Fleet":
    from gpufleet import service
    from gpufleet.config import load_config
    from store.database import open_engine
    from store.fleet_snapshot import take_snapshot
    from store.location import store_url

    path = _config_path(config)
    if store is not None:
        url = store
    elif path is not None:
        url = load_config(path).store.url
    else:
        url = store_url(os.environ, Path.cwd())
    engine = open_engine(url, read_only=True)
    try:
        return take_snapshot(engine, service.utc_now(), cluster=cluster, window=window)
    finally:
        engine.dispose()


def _config_path(given: Path | None) -> Path | None:
    if given is not None:
        return given
    default = Path.cwd() / DEFAULT_FILE
    return default if default.exists() else None


def _required_config(given: Path | None) -> "Config":
    from gpufleet.config import load_config

    return load_config(given if given is not None else Path.cwd() / DEFAULT_FILE)


def _log_to_stderr(*, quiet: bool = False) -> None:
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.WARNING if quiet else logging.INFO,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    for chatty in ("apscheduler", "httpx", "httpcore", "alembic", "urllib3"):
        logging.getLogger(chatty).setLevel(logging.WARNING)


def main() -> None:
    """Entry point of the console script."""
    run_app(app)
