"""One scrape of `/metrics` understood: use and money per model and owner, counted since the gateway started."""

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
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
from collectors.litellm.series_memory import MAX_SUMS, Counted, SeriesMemory, Sum
from collectors.litellm.wire import MAX_COUNT, label
from collectors.plain_text import plain_text
from planner.readings import Batch, Gap
from planner.serving_readings import CounterReading, ServingSubject
from planner.token_usage import CumulativeSpend

MAX_SERIES = 50_000
"""Series that one scrape may have: clients can put any text into the name of a model, and so make many."""

NOBODY_ASKED = "nobody has asked this gateway for a model since its start"
CUT = "the answer ends in the middle of a line: nothing was taken from it, the next whole one has it all"
REMOVED = (
    "the gateway removed series; what they had counted is kept only as long as gpufleet runs "
    "(prometheus_metrics_ttl_seconds, prometheus_metrics_max_series_per_metric of LiteLLM)"
)


YOUNG = timedelta(hours=1)
"""A sum that began no longer ago counts from its beginning; an older one may be months old."""
_MOMENT_BEFORE = timedelta(seconds=1)

_SPEND, _OLLAMA = "spend", "ollama"
"""What sums are of: use by model and owner, and what is counted for an Ollama server."""


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
        # Nothing is lost: the next whole page holds all that this one could have told, and says which process tells it.
        gaps.append(Gap(subject=gateway, metric=None, reason=CUT))
        return Batch(gaps=tuple(dict.fromkeys(gaps)))
    page, is_capped = _page(exposition.groups, gateway, gaps)
    counted = memory.take(
        page,
        process_started_s=_process_started_s(exposition.groups),
        at_s=observed_at.timestamp(),
        is_whole=not is_capped and not exposition.bad_line_count,
    )
    names = ModelNames(group.labels for group in exposition.groups)
    used = _names_in_use(memory.names)
    for one in counted:
        row = BY_SOURCE_NAME.get(one.source_name)
        model = names.of(one.labels)
        if row is None or model is None or row.source_name != used[row.quantity]:
            continue
        provider = label(one.labels, "api_provider") or ""
        memory.add((_SPEND, model, provider, "", "", row.quantity), one)
        for dimension in dimensions:
            if dimension in OWNER_OF:
                named = owner(dimension, one.labels, keep_personal=keep_personal)
                memory.add((_SPEND, model, provider, dimension, named, row.quantity), one)
    gaps += _add_ollama(memory, counted, used, gateway)
    gaps += [_missing(gateway, quantity) for quantity in EXPECTED if quantity not in used and memory.names]
    if memory.removed:
        gaps.append(Gap(subject=gateway, metric=None, reason=REMOVED))
    if memory.is_full:
        gaps.append(
            Gap(
                subject=gateway,
                metric=None,
                reason=f"more than {MAX_SUMS} names of models and owners: the use of any other is left out (see "
                "prometheus_metrics_config of LiteLLM)",
            )
        )
    if not memory.names:
        gaps.append(Gap(subject=gateway, metric=None, reason=NOBODY_ASKED))
    return Batch(
        spend=tuple(_spend(gateway, memory, observed_at)),
        counters=tuple(_counters(memory, observed_at)),
        gaps=tuple(dict.fromkeys(gaps)),
        found=tuple((("requests counted by", used["requests"]),) if "requests" in used else ()),
    )


def _spend(gateway: str, memory: SeriesMemory, observed_at: datetime) -> Iterator[CumulativeSpend]:
    for (kind, *key), total in sorted(memory.sums.items()):
        if kind == _SPEND:
            model, provider, dimension, named, quantity = key
            for at, value in _values(total, memory, observed_at):
                yield CumulativeSpend(
                    gateway=gateway,
                    model=model,
                    provider=provider,
                    dimension=dimension,
                    owner=named,
                    quantity=quantity,
                    value=value,
                    observed_at=at,
                    started_at=_started_at(total, memory),
                )


def _counters(memory: SeriesMemory, observed_at: datetime) -> Iterator[CounterReading]:
    for (kind, *key), total in sorted(memory.sums.items()):
        if kind == _OLLAMA:
            endpoint, model, metric = key
            for at, value in _values(total, memory, observed_at):
                yield CounterReading(
                    subject=ServingSubject(endpoint=endpoint, model=model),
                    metric=metric,
                    value=value,
                    observed_at=at,
                    label="stop" if metric == "requests_finished" else "",
                    started_at=_started_at(total, memory),
                )


def _values(total: Sum, memory: SeriesMemory, observed_at: datetime) -> Iterator[tuple[datetime, float]]:
    """What a sum holds now and, where it began a short while ago, that it held nothing then: all of it is new."""
    since = _moment(total.since_s) if memory.begun_now(total) else None
    if since is not None and since > observed_at - YOUNG:
        yield min(since, observed_at - _MOMENT_BEFORE), 0.0
    yield observed_at, total.value


def _started_at(total: Sum, memory: SeriesMemory) -> datetime | None:
    """Since when the gateway counts: its process, where it says so, whichever of its series are still there."""
    process = memory.process_started_s
    return _moment(total.began_s if process is None else process)


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
    return next((value for value in values if value is not None and math.isfinite(value)), None)


def _page(groups: Sequence[LabelledSamples], gateway: str, gaps: list[Gap]) -> tuple[list[Counted], bool]:
    """Every series that is read, and whether some were left out because there are too many."""
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
    page = []
    for sample, group in wanted[:MAX_SERIES]:
        value = sample.value
        if value is None or not 0 <= value <= MAX_COUNT:  # NaN is not between them either
            gaps.append(Gap(subject=gateway, metric=None, reason=f"a value of {sample.name} is no count"))
            value = None
        created = created_name(sample.name)
        began = next((other.value for other in group.samples if other.name == created), None)
        began_s = began if began is not None and math.isfinite(began) else None
        page.append(Counted(source_name=sample.name, labels=group.labels, value=value, began_s=began_s))
    return page, len(wanted) > MAX_SERIES


def _names_in_use(present: Collection[str]) -> dict[str, str]:
    """The one name per quantity that is read: the newest that the gateway has shown."""
    quantities = {BY_SOURCE_NAME[name].quantity for name in present if name in BY_SOURCE_NAME}
    return {quantity: next(name for name in source_names(quantity) if name in present) for quantity in quantities}


def _missing(gateway: str, quantity: str) -> Gap:
    newest = source_names(quantity)[0]
    return Gap(
        subject=gateway,
        metric=quantity,
        reason=f"{newest} is not exported: LiteLLM's prometheus_metrics_config leaves it out",
    )


def _add_ollama(memory: SeriesMemory, counted: Sequence[Counted], used: Mapping[str, str], gateway: str) -> list[Gap]:
    """What the gateway counted for Ollama servers, under their own addresses: nobody else counts it.

    Metrics of tokens do not name the address, so they are given to it only where one address alone serves the model.
    Returns what could not be given to a server.
    """
    addresses = memory.addresses
    for one in counted:
        provider, model = label(one.labels, "api_provider"), label(one.labels, "litellm_model_name")
        if one.source_name != DEPLOYMENT_SUCCESS or provider not in OLLAMA_PROVIDERS or not model:
            continue
        endpoint = _endpoint(one.labels.get("api_base", ""))
        addresses.setdefault((provider, model), set()).add(endpoint)
        if endpoint:
            memory.add((_OLLAMA, endpoint, model, "requests_finished"), one)
    unique = {key: next(iter(where)) for key, where in addresses.items() if len(where) == 1 and "" not in where}
    for quantity, metric in (("input_tokens", "prompt_tokens"), ("output_tokens", "generation_tokens")):
        for one in counted:
            key = (label(one.labels, "api_provider") or "", label(one.labels, "model") or "")
            if one.source_name == used.get(quantity) and key in unique:
                memory.add((_OLLAMA, unique[key], key[1], metric), one)
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
