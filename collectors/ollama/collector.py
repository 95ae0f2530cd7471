"""Ollama servers: what each has loaded, how much of it lies on devices, and what it could load."""

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from collectors.backoff import Backoff
from collectors.bounded_http import Answer, BoundedHttp
from collectors.config import target_name
from collectors.errors import BadPayload, CollectorError, Unreachable, Unsupported
from collectors.ollama.config import OllamaConfig, endpoint_of
from collectors.ollama.described_models import LATE_REASON, DescribedModels
from collectors.ollama.metrics import ROWS, UNCOUNTED, MetricRow
from collectors.ollama.wire import (
    Entry,
    ListedModel,
    Malformed,
    RunningModel,
    expiry,
    read_entry,
)
from collectors.plain_text import plain_text
from collectors.source import Attempt
from planner.readings import Batch, Gap
from planner.serving_readings import GaugeReading, ServedModel, ServingEngine, ServingFact, ServingSubject
from planner.units import GpuUuid, NodeName

log = logging.getLogger("gpufleet.collectors.ollama")

MAX_MODELS = 2_000
"""Entries of one list that are looked at; hostile input must not grow without end."""

UNCOUNTED_REASON = (
    "Ollama counts neither requests nor tokens; a gateway in front of it (LiteLLM) does: configure that, or set "
    "counted_by_gateway where it is read already"
)
OLD_CONTEXT_REASON = (
    "the context of loaded models is not known: versions before July 2025 do not tell it (ollama/ollama#11331)"
)


@dataclass(slots=True)
class _Server:
    """One address and what was learnt of it; `seconds` is how long it took the last time."""

    url: str
    http: BoundedHttp
    described: DescribedModels
    seconds: float = 0.0


class OllamaCollector:
    """Asks the servers of one `[[sources.ollama]]` table."""

    kind = "ollama"

    def __init__(self, config: OllamaConfig) -> None:
        self.source = config.name
        self.cluster = config.cluster
        self.interval_s = config.interval_s
        self._config = config
        self._servers = {
            target_name(url): _Server(url=url, http=http, described=DescribedModels(url, http, config.interval_s))
            for url in config.urls
            for http in [BoundedHttp(config, max_body_bytes=config.max_body_bytes)]
        }
        self._backoff = Backoff(interval_s=config.interval_s)

    def collect(self, now: datetime, watermarks: Mapping[str, datetime]) -> Iterator[Attempt]:
        """Ask every server that is due once, side by side; attempts come in the order in which the servers are done.

        Where there are more servers than `max_concurrent`, those that were quick the last time come first.
        """
        began = time.monotonic()
        due = sorted(self._backoff.due(list(self._servers), now), key=lambda target: self._servers[target].seconds)
        workers = min(self._config.max_concurrent, len(self._servers))
        with ThreadPoolExecutor(max_workers=workers, thread_name_prefix=f"ollama-{self.source}") as threads:
            asked = [threads.submit(self._attempt, self._servers[target], now, began) for target in due]
            for done in as_completed(asked):
                attempt = done.result()
                if attempt.error is None:
                    self._backoff.succeeded(attempt.target)
                else:
                    self._backoff.failed(attempt.target, now)
                yield attempt

    def close(self) -> None:
        """Let go of the connections."""
        for server in self._servers.values():
            server.http.close()

    def _attempt(self, server: _Server, now: datetime, began: float) -> Attempt:
        started = time.monotonic()
        until = started + self._config.timeout_s
        started_at = now + timedelta(seconds=started - began)
        batch: Batch | None = None
        error: CollectorError | None = None
        skew_s: float | None = None
        try:
            running = server.http.get(f"{server.url}/api/ps")
            if running.served_at is not None:
                skew_s = (running.served_at - now).total_seconds() - (time.monotonic() - began)
            batch = self._batch(server, running, started_at, until)
        except CollectorError as failure:
            error = failure
        except Exception as mistake:  # noqa: BLE001 - one server must not take the others of the table with it
            kind = type(mistake).__name__
            log.error("%s: a round with %s fails: %s", self.source, target_name(server.url), kind)
            error = BadPayload(
                f"{target_name(server.url)} has an address or answers on which this program fails ({kind}); please "
                "report it.",
                source=self.source,
            )
        finally:
            server.http.close()  # nothing is held between rounds
            server.seconds = time.monotonic() - started
        return Attempt(
            target=target_name(server.url),
            started_at=started_at,
            seconds=server.seconds,
            batch=batch,
            error=error,
            clock_skew_s=skew_s,
        )

    def _batch(self, server: _Server, answer: Answer, at: datetime, until: float) -> Batch:
        """What a server says; after `until` it is asked nothing more, and what is missing then is said."""
        endpoint = endpoint_of(server.url)
        gaps: list[Gap] = []
        if answer.status == 404:
            raise Unsupported(
                f"{answer.target} is not there (404): this is no Ollama, or one before 0.1.38 "
                "(ollama/ollama#4490), which does not say what it has loaded.",
                source=self.source,
            )
        running = list(self._entries(answer, RunningModel, endpoint, gaps))
        listed = self._listed(server, endpoint, gaps, until)
        version = self._version(server, gaps, endpoint, until)
        local = [model for model in listed or () if not model.runs_elsewhere]
        elsewhere = sorted(model.name for model in listed or () if model.runs_elsewhere)
        server.described.ask((*running, *local), at, until)
        gaps += server.described.gaps
        kept = sorted(model.name for model in running if expiry(model.expires_at)[1])
        gaps += [
            Gap(subject=str(subject), metric=row.metric, reason=row.why_absent(model))
            for subject, row, model in _values(endpoint, running)
            if row.value(model) is None
        ]
        if running and not any(model.context_length for model in running):
            gaps.append(Gap(subject=endpoint, metric=None, reason=OLD_CONTEXT_REASON))
        if not self._config.counted_by_gateway:
            gaps += [Gap(subject=endpoint, metric=metric, reason=UNCOUNTED_REASON) for metric in UNCOUNTED]
        found = (
            ("version", version),
            ("loaded", str(len(running))),
            ("models that run elsewhere", ", ".join(elsewhere[:10])),
        )
        return Batch(
            gauges=_gauges(endpoint, running, at),
            gaps=tuple(gaps),
            servers=(
                ServingFact(
                    observed_at=at,
                    endpoint=endpoint,
                    engine=ServingEngine.OLLAMA,
                    version=version,
                    models=_models(running, local, server.described.context_of_digest),
                    settings=(("kept_for_ever", " ".join(kept)),) if kept else (),
                    node=None if self._config.node is None else NodeName(self._config.node),
                    gpu_uuids=tuple(GpuUuid(uuid) for uuid in self._config.gpu_uuids),
                ),
            ),
            found=tuple((what, value) for what, value in found if value),
        )

    def _entries(self, answer: Answer, kind: type[Entry], endpoint: str, gaps: list[Gap]) -> Iterator[Entry]:
        if answer.status != 200:
            raise answer.error()
        told = answer.json()
        models = told.get("models", ()) if isinstance(told, dict) and "models" in told else None
        if models is None and isinstance(told, dict) and "models" in told:
            models = ()  # Go's empty list
        if not isinstance(models, (list, tuple)):
            raise BadPayload(
                f"{answer.target} answered with JSON that is not Ollama's: no list of models. Ollama listens on port "
                "11434.",
                source=self.source,
            )
        for entry in models[:MAX_MODELS]:
            try:
                yield read_entry(kind, entry)
            except Malformed as error:
                named = entry.get("name") if isinstance(entry, dict) else None
                shown = plain_text(str(named), 60) if named else "without a name"
                gaps.append(Gap(subject=endpoint, metric=None, reason=f"a model ({shown}) was left out: {error}"))
        if len(models) > MAX_MODELS:
            gaps.append(Gap(subject=endpoint, metric=None, reason=f"only the first {MAX_MODELS} models were looked at"))

    def _version(self, server: _Server, gaps: list[Gap], endpoint: str, until: float) -> str | None:
        try:
            self._in_time(until)
            answer = server.http.get(f"{server.url}/api/version")
            told: Any = answer.json() if answer.status == 200 else None
        except CollectorError as failure:
            gaps.append(Gap(subject=endpoint, metric=None, reason=f"its version is not known: {failure}"))
            return None
        version = told.get("version") if isinstance(told, dict) else None
        return (plain_text(version, 60) or None) if isinstance(version, str) else None

    def _in_time(self, until: float) -> None:
        if time.monotonic() > until:
            raise Unreachable(LATE_REASON, source=self.source)

    def _listed(self, server: _Server, endpoint: str, gaps: list[Gap], until: float) -> list[ListedModel] | None:
        """Models on the server's disk; None when it did not say, which loses those that are not loaded."""
        try:
            self._in_time(until)
            answer = server.http.get(f"{server.url}/api/tags")
            return list(self._entries(answer, ListedModel, endpoint, gaps))
        except CollectorError as failure:
            reason = f"models that are not loaded are not known: {failure}"
            gaps.append(Gap(subject=endpoint, metric=None, reason=reason))
            return None


def _values(endpoint: str, running: Sequence[RunningModel]) -> Iterator[tuple[ServingSubject, MetricRow, RunningModel]]:
    for model in {model.name: model for model in running}.values():
        for row in ROWS:
            yield ServingSubject(endpoint=endpoint, model=model.name), row, model


def _gauges(endpoint: str, running: Sequence[RunningModel], at: datetime) -> tuple[GaugeReading, ...]:
    return tuple(
        GaugeReading(subject=subject, metric=row.metric, value=float(value), observed_at=at)
        for subject, row, model in _values(endpoint, running)
        if (value := row.value(model)) is not None
    )


def _models(
    running: Sequence[RunningModel], local: Sequence[ListedModel], context_of_digest: Mapping[str, int | None]
) -> tuple[ServedModel, ...]:
    """Those that are loaded and those that could be, one entry per name: what is loaded is the truth."""
    models = {
        model.name: ServedModel(
            name=model.name,
            max_model_len=context_of_digest.get(model.digest or ""),
            is_loaded=False,
            quantization=model.details.quantization_level,
            digest=model.digest,
        )
        for model in local
    }
    for loaded in running:
        models[loaded.name] = ServedModel(
            name=loaded.name,
            max_model_len=context_of_digest.get(loaded.digest or ""),
            is_loaded=True,
            size_bytes=loaded.size,
            device_bytes=loaded.device_bytes,
            context_tokens=loaded.context_length,
            expires_at=expiry(loaded.expires_at)[0],
            quantization=loaded.details.quantization_level,
            digest=loaded.digest,
        )
    return tuple(models[name] for name in sorted(models))
