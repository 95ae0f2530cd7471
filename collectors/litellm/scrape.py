"""One scrape of `/metrics` understood: use and money per model and owner, counted since the gateway started."""

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from urllib.parse import urlsplit

from collectors.errors import BadPayload
from collectors.exposition import Exposition, LabelledSamples, parse_exposition
from collectors.litellm.metrics import (
    BY_SOURCE_NAME,
    DEPLOYMENT_SUCCESS,
    EXPECTED,
    OLLAMA_PROVIDERS,
    PROCESS_START,
    created_name,
    source_names,
)
from collectors.litellm.model_names import ModelNames
from collectors.litellm.owners import OWNER_OF, owner
from collectors.litellm.series_memory import Counted, SeriesMemory
from collectors.litellm.wire import label
from collectors.plain_text import plain_text
from planner.readings import Batch, Gap
from planner.serving_readings import CounterReading, ServingSubject
from planner.token_usage import CumulativeSpend

MAX_SERIES = 50_000
"""Series that one scrape may have: clients can put any text into the name of a model, and so make many."""

Key = tuple[str, str, str, str, str]
"""Model, provider, dimension, owner, quantity: what readings are kept under."""

NOBODY_ASKED = "nobody has asked this gateway for a model since its start"


@dataclass(slots=True)
class _Sum:
    """A sum of series, and when the oldest of them began (None where none says)."""

    value: float = 0.0
    began_s: float | None = None

    def add(self, value: float, began_s: float | None) -> None:
        self.value += value
        if began_s is not None:
            self.began_s = began_s if self.began_s is None else min(self.began_s, began_s)


@dataclass(slots=True)
class _Totals:
    """What the scrape adds up to."""

    spend: dict[Key, _Sum] = field(default_factory=lambda: defaultdict(_Sum))
    ollama: dict[tuple[str, str, str], _Sum] = field(default_factory=lambda: defaultdict(_Sum))


def read_metrics(
    text: str,
    *,
    observed_at: datetime,
    source: str,
    target: str,
    gateway: str,
    dimensions: Sequence[str],
    keep_personal: bool,
    memory: SeriesMemory,
) -> Batch:
    """What one answer of a gateway says; raises BadPayload when it is no exposition, or one of something else."""
    exposition = parse_exposition(text)
    _refuse_others(exposition, source=source, target=target)
    gaps = [Gap(subject=gateway, metric=None, reason=f"line not read ({bad.reason})") for bad in exposition.bad_lines]
    if exposition.is_cut:
        gaps.append(Gap(subject=gateway, metric=None, reason="the answer ends in the middle of a line"))
    memory.begin(_process_started_s(exposition.groups))
    counted = list(_counted(exposition.groups, memory, gateway, gaps))
    names = ModelNames(group.labels for group in exposition.groups)
    used = _names_in_use(counted)
    totals = _Totals()
    for one in counted:
        row = BY_SOURCE_NAME.get(one.source_name)
        model = names.of(one.labels)
        if row is None or model is None or row.source_name != used[row.quantity]:
            continue
        provider = label(one.labels, "api_provider") or ""
        totals.spend[model, provider, "", "", row.quantity].add(one.value, one.began_s)
        for dimension in dimensions:
            if dimension in OWNER_OF:
                named = owner(dimension, one.labels, keep_personal=keep_personal)
                totals.spend[model, provider, dimension, named, row.quantity].add(one.value, one.began_s)
    gaps += _add_ollama(totals, counted, used, gateway)
    gaps += [_missing(gateway, quantity) for quantity in EXPECTED if quantity not in used and counted]
    if memory.removed:
        gaps.append(
            Gap(
                subject=gateway,
                metric=None,
                reason=f"the gateway removed {memory.removed} series; what they had counted is kept only as long as "
                "gpufleet runs (prometheus_metrics_ttl_seconds, prometheus_metrics_max_series_per_metric of LiteLLM)",
            )
        )
    if not counted:
        gaps.append(Gap(subject=gateway, metric=None, reason=NOBODY_ASKED))
    return Batch(
        spend=tuple(
            CumulativeSpend(
                gateway=gateway,
                model=model,
                provider=provider,
                dimension=dimension,
                owner=named,
                quantity=quantity,
                value=total.value,
                observed_at=observed_at,
                started_at=_moment(total.began_s),
            )
            for (model, provider, dimension, named, quantity), total in sorted(totals.spend.items())
        ),
        counters=tuple(
            CounterReading(
                subject=ServingSubject(endpoint=endpoint, model=model),
                metric=metric,
                value=total.value,
                observed_at=observed_at,
                label="stop" if metric == "requests_finished" else "",
                started_at=_moment(total.began_s),
            )
            for (endpoint, model, metric), total in sorted(totals.ollama.items())
        ),
        gaps=tuple(dict.fromkeys(gaps)),
        found=tuple((("requests counted by", used["requests"]),) if "requests" in used else ()),
    )


def _refuse_others(exposition: Exposition, *, source: str, target: str) -> None:
    if any(sample.name.startswith("litellm_") for group in exposition.groups for sample in group.samples):
        return
    if exposition.groups:
        raise BadPayload(
            f"{target} answered with metrics, none of which is LiteLLM's: is the callback prometheus on "
            '(`litellm_settings: callbacks: ["prometheus"]`), and is this the gateway?',
            source=source,
        )
    begins = plain_text(exposition.bad_lines[0].text, 60) if exposition.bad_lines else ""
    raise BadPayload(
        f"{target} answered with something that is not the Prometheus text format; it begins: {begins!r}",
        source=source,
    )


def _process_started_s(groups: Iterable[LabelledSamples]) -> float | None:
    values = [sample.value for group in groups for sample in group.samples if sample.name == PROCESS_START]
    return values[0] if values else None


def _counted(
    groups: Sequence[LabelledSamples], memory: SeriesMemory, gateway: str, gaps: list[Gap]
) -> Iterator[Counted]:
    wanted = [
        (sample, group)
        for group in groups
        for sample in group.samples
        if sample.name in BY_SOURCE_NAME or sample.name == DEPLOYMENT_SUCCESS
    ]
    if len(wanted) > MAX_SERIES:
        gaps.append(
            Gap(
                subject=gateway,
                metric=None,
                reason=f"{len(wanted)} series, of which only the first {MAX_SERIES} were read: drop labels of persons "
                "by prometheus_metrics_config of LiteLLM",
            )
        )
    for sample, group in wanted[:MAX_SERIES]:
        if sample.value is None or not math.isfinite(sample.value) or sample.value < 0:
            gaps.append(Gap(subject=gateway, metric=None, reason=f"{sample.name} is no count: {sample.text!r}"))
            continue
        created = created_name(sample.name)
        began = next((other.value for other in group.samples if other.name == created), None)
        yield memory.add(sample.name, group.labels, sample.value, began)
    yield from memory.absent()


def _names_in_use(counted: Iterable[Counted]) -> dict[str, str]:
    """The one name per quantity that is read: the newest that the scrape has."""
    present = {one.source_name for one in counted}
    quantities = {BY_SOURCE_NAME[name].quantity for name in present if name in BY_SOURCE_NAME}
    return {quantity: next(name for name in source_names(quantity) if name in present) for quantity in quantities}


def _missing(gateway: str, quantity: str) -> Gap:
    newest = source_names(quantity)[0]
    return Gap(
        subject=gateway,
        metric=quantity,
        reason=f"{newest} is not exported: LiteLLM's prometheus_metrics_config leaves it out",
    )


def _add_ollama(totals: _Totals, counted: Sequence[Counted], used: Mapping[str, str], gateway: str) -> list[Gap]:
    """What the gateway counted for Ollama servers, under their own addresses: nobody else counts it.

    Metrics of tokens do not name the address, so they are given to it only where one address alone serves the model.
    Returns what could not be given to a server.
    """
    addresses: dict[tuple[str, str], set[str]] = defaultdict(set)
    for one in counted:
        provider, model = label(one.labels, "api_provider"), label(one.labels, "litellm_model_name")
        if one.source_name != DEPLOYMENT_SUCCESS or provider not in OLLAMA_PROVIDERS or not model:
            continue
        endpoint = _endpoint(one.labels.get("api_base", ""))
        addresses[provider, model].add(endpoint)
        if endpoint:
            totals.ollama[endpoint, model, "requests_finished"].add(one.value, one.began_s)
    unique = {key: next(iter(where)) for key, where in addresses.items() if len(where) == 1 and "" not in where}
    for quantity, metric in (("input_tokens", "prompt_tokens"), ("output_tokens", "generation_tokens")):
        for one in counted:
            key = (label(one.labels, "api_provider") or "", label(one.labels, "model") or "")
            if one.source_name == used.get(quantity) and key in unique:
                totals.ollama[unique[key], key[1], metric].add(one.value, one.began_s)
    return [
        Gap(
            subject=f"{gateway} {model}",
            metric="generation_tokens",
            reason="the gateway does not say which Ollama server answered"
            if "" in where
            else f"{len(where)} Ollama servers share the work, and the gateway does not split tokens by server",
        )
        for (provider, model), where in sorted(addresses.items())
        if (provider, model) not in unique
    ]


def _endpoint(api_base: str) -> str:
    try:
        parts = urlsplit(api_base.strip())
    except ValueError:
        return ""
    path = parts.path.rstrip("/").removesuffix("/v1").removesuffix("/api").rstrip("/")
    return plain_text(parts.netloc.rpartition("@")[2] + path, 253)


def _moment(seconds: float | None) -> datetime | None:
    if seconds is None or not math.isfinite(seconds) or seconds <= 0:
        return None
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        return None
