"""Direct scrape of servers of models: every target at once, bounded, one attempt each."""

import time
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial

from collectors.backoff import Backoff
from collectors.errors import BadPayload, CollectorError
from collectors.plain_text import plain_text
from collectors.serving.answers import ServerFacts, read_facts
from collectors.serving.config import ServingConfig
from collectors.serving.gaps import GapBook
from collectors.serving.metrics import TABLES, engine_of, generation_of, version_numbers
from collectors.serving.parts import Parts
from collectors.serving.processes import Processes
from collectors.serving.scrape import Server, Understood, understand
from collectors.serving.series import SeriesBook
from collectors.serving.table import EngineTable
from collectors.serving.targets import Discovery, Target, configured_targets
from collectors.serving.wire import ReadPage, read_page
from collectors.source import Attempt
from collectors.transport import Fetched, HttpTransport, Question
from collectors.unexpected import unexpected
from planner.readings import Batch, Gap
from planner.serving_readings import GaugeReading, ServedModel, ServingEngine, ServingFact, ServingSubject

FACTS_RETRY_S = 60.0
"""When facts that could not be had are asked for again."""
DISCOVERY_PATIENCE_S = 2.0
"""How long a run waits for Kubernetes before it goes on with the pods that it knows."""
NO_ENGINE_S = 600.0
"""How long a discovered pod is left alone whose metrics are no engine's."""

_HINTS = (
    "SGLang has metrics only with --enable-metrics; TensorRT-LLM has them at /prometheus/metrics, NIM at /v1/metrics."
)
_ROUTER_HINT = "llama.cpp's router answers so: it has no metrics of its own; read the server of each of its models."


class NotAnEngine(BadPayload):
    """The metrics are no serving engine's."""


@dataclass(slots=True)
class _Known:
    """What is remembered of one server between scrapes."""

    engine: ServingEngine | None = None
    facts: ServerFacts | None = None
    facts_due_at: datetime | None = None
    lacks: tuple[str, ...] = ()  # of the facts
    started_at: datetime | None = None
    generated: float | None = None
    models: tuple[str, ...] = ()
    generation: str | None = None
    left_alone_until: datetime | None = None
    parts: Parts = field(default_factory=Parts)
    processes: Processes = field(default_factory=Processes)


class ServingScraper:
    """Scrapes the servers of one `[[sources.serving]]` table."""

    kind = "serving"

    def __init__(self, config: ServingConfig, *, discovery: Discovery | None = None) -> None:
        self.source = config.name
        self.cluster = config.cluster
        self.interval_s = config.interval_s
        self._config = config
        self._engine = None if config.engine == "auto" else config.engine
        self._configured = configured_targets(config)
        self._discovery = discovery
        if discovery is None and config.kubernetes is not None:
            self._discovery = Discovery(config.kubernetes, source=config.name, engine=self._engine)
        self._transport = HttpTransport(config, max_body_bytes=config.max_body_bytes, accept="text/plain, */*;q=0.5")
        self._backoff = Backoff(interval_s=config.interval_s)
        self._books = {engine: SeriesBook(table) for engine, table in TABLES.items()}
        self._known: dict[str, _Known] = {}

    def collect(self, now: datetime, watermarks: Mapping[str, datetime]) -> Iterator[Attempt]:
        """Scrape every server that is due once; attempts come in the order in which the servers answer."""
        began = time.monotonic()
        if self._discovery is not None:
            patience_s = DISCOVERY_PATIENCE_S if self._discovery.targets else None
            yield from self._discovery.refresh(now, began, patience_s=patience_s)
        offset_s = time.monotonic() - began
        targets = {target.url: target for target in self._targets()}
        self._known = {url: self._known.get(url, _Known()) for url in targets}
        asked = [url for url in targets if not self._is_left_alone(self._known[url], now)]
        questions = [
            Question(
                url=url,
                then=partial(self._further, targets[url], self._known[url]) if self._wants_facts(url, now) else None,
                is_failing=self._backoff.failures(url) > 0,
            )
            for url in self._backoff.due(asked, now)
        ]
        began_at = now + timedelta(seconds=offset_s)
        for fetched in self._transport.fetch_all(questions, max_concurrent=self._config.max_concurrent):
            attempt = self._attempt(targets[fetched.url], self._known[fetched.url], fetched, began_at)
            if attempt.error is None:
                self._backoff.succeeded(fetched.url)
            else:
                self._backoff.failed(fetched.url, attempt.started_at, retry_after=fetched.retry_after)
                self._known[fetched.url].facts_due_at = None  # whatever comes back may be another server
            yield attempt
        if self._discovery is not None:
            yield from self._discovery.refresh(now, began, patience_s=0.0)

    def close(self) -> None:
        """Let go of the connection to Kubernetes; nothing else is held between scrapes."""
        if self._discovery is not None:
            self._discovery.close()

    def _targets(self) -> tuple[Target, ...]:
        return self._configured if self._discovery is None else self._discovery.targets

    @staticmethod
    def _is_left_alone(known: _Known, now: datetime) -> bool:
        return known.left_alone_until is not None and now < known.left_alone_until

    def _wants_facts(self, url: str, now: datetime) -> bool:
        due_at = self._known[url].facts_due_at
        return due_at is None or due_at <= now

    def _further(self, target: Target, known: _Known, status: int, text: str) -> list[str]:
        """Where to ask for facts, once the metrics have told whose they are; runs in the network's thread."""
        engine = target.engine or (engine_of(text) if text else None) or known.engine
        if status == 501 and engine in (None, ServingEngine.LLAMA_CPP):
            engine = ServingEngine.LLAMA_CPP
        elif status != 200 or engine is None:
            return []
        return [target.base + path for path in TABLES[engine].facts_paths]

    def _attempt(self, target: Target, known: _Known, fetched: Fetched, began_at: datetime) -> Attempt:
        started_at = began_at + timedelta(seconds=fetched.started_after_s)
        reading_since = time.monotonic()
        batch: Batch | None = None
        error: CollectorError | None = fetched.error
        try:
            if fetched.text is not None:
                batch = self._read(target, known, fetched, fetched.text, started_at)
            elif self._has_metrics_switched_off(target, known, fetched):
                batch = self._without_metrics(target, known, fetched, started_at)
            elif fetched.status == 404 and error is not None:
                raise type(error)(f"{error} {_HINTS}", source=self.source)
            elif fetched.status == 400 and error is not None and target.engine in (None, ServingEngine.LLAMA_CPP):
                raise type(error)(f"{error} {_ROUTER_HINT}", source=self.source)
        except NotAnEngine as failure:
            error = failure
            if target.is_discovered and target.engine is None:
                known.left_alone_until = started_at + timedelta(seconds=NO_ENGINE_S)
                why = f"{target.endpoint} answered with metrics, none of which is a serving engine's"
                gap = Gap(subject=target.endpoint, metric=None, reason=f"not a server of models: {why}")
                batch = Batch(gaps=(gap,))
        except CollectorError as failure:
            error = failure
        except Exception as failure:  # noqa: BLE001 - one server must never cost the others their round
            error = unexpected(f"reading what {target.endpoint} answered was ended by", failure, source=self.source)
        return Attempt(
            target=target.endpoint,
            started_at=started_at,
            seconds=fetched.seconds + time.monotonic() - reading_since,
            batch=batch,
            error=error if batch is None else None,
            clock_skew_s=fetched.clock_skew_s(began_at),
        )

    def _read(self, target: Target, known: _Known, fetched: Fetched, text: str, observed_at: datetime) -> Batch:
        engine, table = self._table_of(target, text)
        gaps = GapBook(target.endpoint)
        page = read_page(text, self._books[table.engine])
        _note_bad_lines(page, gaps)
        if known.engine is not engine:
            known.facts, known.parts = None, Parts()
        known.engine = engine
        self._take_facts(known, fetched, table, observed_at)
        for lack in known.lacks:
            gaps.note(None, lack)
        if fetched.further or known.generation is None:
            known.generation = generation_of(table.engine, text)
        facts = known.facts or ServerFacts()
        server = Server(endpoint=target.endpoint, model=facts.model, version=version_numbers(facts.version))
        understood = understand(page, table, server, observed_at=observed_at, gaps=gaps, parts=known.parts)
        _add_limit(understood, facts, server, observed_at)
        # Ray, which names its workers, leaves out what has not counted yet
        gaps.note_missing(table, understood.metrics, only_what_counted=any(cell.worker for cell in page.values))
        _ask_again_after_a_restart(known, understood)
        known.processes.look(understood, gaps)
        return self._batch(target, engine, facts, understood, observed_at, gaps, generation=known.generation)

    def _table_of(self, target: Target, text: str) -> tuple[ServingEngine, EngineTable]:
        """The engine, and the table that its metrics are read by: NIM and Triton can speak vLLM's language."""
        found = engine_of(text)
        if target.engine is None and found is not None:
            return found, TABLES[found]
        if target.engine is None or found is None:
            begins = plain_text(text, 60)
            what = "a serving engine's" if target.engine is None else f"{target.engine.value}'s"
            raise NotAnEngine(
                f"{target.endpoint} answered with metrics, none of which is {what}; it begins: {begins!r}. vLLM gives "
                "none when it is started with --disable-log-stats.",
                source=self.source,
            )
        if found is target.engine:
            return found, TABLES[found]
        if found is ServingEngine.VLLM and target.engine in (ServingEngine.NIM, ServingEngine.TRITON):
            return target.engine, TABLES[found]
        raise BadPayload(
            f"{target.endpoint} has the metrics of {found.value}, and the configuration calls it "
            f"{target.engine.value}: correct engine, or leave it out.",
            source=self.source,
        )

    def _take_facts(self, known: _Known, fetched: Fetched, table: EngineTable, observed_at: datetime) -> None:
        if not fetched.further:
            return
        told, known.lacks = read_facts(fetched.further, needs_model=not table.model_labels)
        known.facts = told.or_else(known.facts)
        failed = any(page.text is None and page.status != 404 for page in fetched.further)
        wait_s = FACTS_RETRY_S if failed else self._config.facts_every_s * _spread(fetched.url)
        known.facts_due_at = observed_at + timedelta(seconds=wait_s)

    def _has_metrics_switched_off(self, target: Target, known: _Known, fetched: Fetched) -> bool:
        is_llama_cpp = ServingEngine.LLAMA_CPP in (target.engine, known.engine) or "--metrics" in str(fetched.error)
        return fetched.status == 501 and is_llama_cpp

    def _without_metrics(self, target: Target, known: _Known, fetched: Fetched, observed_at: datetime) -> Batch:
        """A llama.cpp server without `--metrics` still tells its model."""
        gaps = GapBook(target.endpoint)
        table = TABLES[ServingEngine.LLAMA_CPP]
        known.engine = table.engine
        self._take_facts(known, fetched, table, observed_at)
        for lack in known.lacks:
            gaps.note(None, lack)
        gaps.note_missing(table, ())
        understood, facts = Understood(), known.facts or ServerFacts()
        _add_limit(understood, facts, Server(endpoint=target.endpoint, model=facts.model), observed_at)
        return self._batch(target, known.engine, facts, understood, observed_at, gaps, generation=None)

    def _batch(
        self,
        target: Target,
        engine: ServingEngine,
        facts: ServerFacts,
        understood: Understood,
        observed_at: datetime,
        gaps: GapBook,
        *,
        generation: str | None,
    ) -> Batch:
        fact = ServingFact(
            observed_at=observed_at,
            endpoint=target.endpoint,
            engine=engine,
            version=facts.version,
            models=facts.models or tuple(ServedModel(name=name, is_loaded=True) for name in understood.models),
            lists_models=bool(facts.models),
            settings=tuple(sorted({**facts.settings, **dict(understood.settings)}.items())),
            pod_namespace=target.namespace,
            pod_name=target.pod,
            pod_ip=target.pod_ip,
            node=target.node,
        )
        told = (("version", facts.version), ("engine", engine.value), ("names", generation))
        return Batch(
            gauges=tuple(understood.gauges),
            counters=tuple(understood.counters),
            histograms=tuple(understood.histograms),
            servers=(fact,),
            gaps=gaps.gaps(),
            found=tuple((what, value) for what, value in told if value is not None),
        )


def _spread(url: str) -> float:
    """0.75 to 1, by the address: servers that were first asked together are not asked together for ever."""
    return 0.75 + 0.25 * zlib.crc32(url.encode()) / 2**32


def _note_bad_lines(page: ReadPage, gaps: GapBook) -> None:
    for bad in page.bad_lines:
        gaps.note(None, f"line not read ({bad.reason}): {bad.text or 'of nothing that is read here'}")
    if page.bad_line_count > len(page.bad_lines):
        gaps.note(None, "there are more unreadable lines than are listed here")
    if page.is_cut:
        gaps.note(None, "the answer ends in the middle of a line, which was left out")


def _add_limit(understood: Understood, facts: ServerFacts, server: Server, observed_at: datetime) -> None:
    """How many requests a server takes at once, where only its settings tell."""
    if facts.limit is None or "requests_limit" in understood.metrics:
        return
    model = next((reading.subject.model for reading in understood.gauges), server.model)
    subject = ServingSubject(endpoint=server.endpoint, model=model)
    understood.gauges.append(
        GaugeReading(subject=subject, metric="requests_limit", value=float(facts.limit), observed_at=observed_at)
    )


def _ask_again_after_a_restart(known: _Known, understood: Understood) -> None:
    """Version and models may be others after a restart: a later start, a counter that fell, other models."""
    told = [one.value for one in understood.counters if one.metric == "generation_tokens"]
    generated = sum(told) if told else known.generated
    is_later = None not in (known.started_at, understood.started_at) and known.started_at != understood.started_at
    has_fallen = known.generated is not None and generated is not None and generated < known.generated
    is_other = bool(known.models) and known.models != understood.models
    if is_later or has_fallen or is_other:
        known.facts_due_at = None
    known.started_at, known.generated, known.models = understood.started_at, generated, understood.models
