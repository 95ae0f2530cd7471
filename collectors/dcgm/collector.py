"""Direct scrape of dcgm-exporters: every target at once, bounded, one attempt each."""

import logging
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta

from collectors.backoff import Backoff
from collectors.config import target_name
from collectors.dcgm.config import DcgmConfig
from collectors.dcgm.gaps import GapBook
from collectors.dcgm.metrics import generation_of, is_dcgm, metric_of
from collectors.dcgm.node_name import node_of_scrape
from collectors.dcgm.scrape import Scrape, Value, understand
from collectors.dcgm.wire import Line, NoDevice, line_of_block
from collectors.errors import BadPayload, CollectorError
from collectors.exposition import Exposition, LabelledSamples, parse_exposition
from collectors.source import Attempt
from collectors.transport import Fetched, HttpTransport, Question
from planner.readings import Batch, GpuFact, Reading

log = logging.getLogger("gpufleet.collectors.dcgm")

MAX_AHEAD = timedelta(minutes=2)
"""How far ahead of our clock a line's own timestamp may be."""


def read_exposition(text: str, *, observed_at: datetime, source: str, target: str, node: str | None = None) -> Batch:
    """What one answer of a dcgm-exporter says; `node` replaces the name that the exporter gives its machine.

    `nodes_complete` stays empty when the answer was cut or had unreadable lines: a GPU may have been lost with them.
    Raises BadPayload when the text is no exposition at all, or one without anything of DCGM.
    """
    exposition = parse_exposition(text)
    _refuse_other_exporters(exposition, source=source, target=target)
    gaps = GapBook(target)
    for bad in exposition.bad_lines:
        gaps.note(None, None, f"line not read ({bad.reason}): {bad.text}")
    if exposition.bad_line_count > len(exposition.bad_lines):
        gaps.note(None, None, "there are more unreadable lines than are listed here")
    if exposition.is_cut:
        gaps.note(None, None, "the answer ends in the middle of a line, which was left out")
    lines = _lines(exposition.groups, gaps)
    if not lines and not exposition.bad_line_count:
        gaps.note(None, None, "the exporter has no GPU to speak of: DCGM may not be running on its node")
    hostnames = [line.labels.hostname for line, _ in lines]
    name = node_of_scrape(hostnames, target=target, configured=node, gaps=gaps)
    readings: list[Reading] = []
    facts: list[GpuFact] = []
    for at, part in _by_moment(lines, observed_at, gaps).items():
        understood = understand(Scrape(observed_at=at, node=name, lines=part), gaps)
        readings += understood.readings
        facts += understood.facts
        if understood.strangers:
            log.debug("%s %s: %d families are not DCGM's", source, target, understood.strangers)
    whole = bool(facts) and not exposition.is_cut and not exposition.bad_line_count
    return Batch(
        readings=tuple(readings),
        facts=tuple(facts),
        gaps=gaps.gaps(),
        found=_found(exposition, facts),
        nodes_complete=frozenset({name}) if whole else frozenset(),
    )


def _found(exposition: Exposition, facts: Sequence[GpuFact]) -> tuple[tuple[str, str], ...]:
    names = {sample.name for group in exposition.groups for sample in group.samples}
    labels = {key for group in exposition.groups for key in group.labels}
    drivers = sorted({fact.driver_version for fact in facts if fact.driver_version is not None})
    node_label = next((label for label in ("hostname", "Hostname") if label in labels), None)
    told = (
        ("dcgm-exporter", generation_of(names)),
        ("node label", node_label),
        ("driver", ", ".join(drivers) or None),
    )
    return tuple((what, value) for what, value in told if value is not None)


def _refuse_other_exporters(exposition: Exposition, *, source: str, target: str) -> None:
    if exposition.groups:
        if not any(is_dcgm(sample.name) for group in exposition.groups for sample in group.samples):
            raise BadPayload(
                f"{target} answered with metrics, none of which is DCGM's: is this another exporter? "
                "dcgm-exporter listens on port 9400.",
                source=source,
            )
    elif exposition.bad_line_count:
        first = exposition.bad_lines[0]
        raise BadPayload(
            f"{target} answered with something that is not the Prometheus text format; it begins: {first.text!r}",
            source=source,
        )


def _lines(groups: Sequence[LabelledSamples], gaps: GapBook) -> list[tuple[Line, LabelledSamples]]:
    lines = []
    for group in groups:
        try:
            lines.append((line_of_block(group.block), group))
        except NoDevice as error:
            # Lines about CPUs, links and switches have no UUID and nothing of ours; others are missed.
            for metric in {metric_of(sample.name) for sample in group.samples} - {None}:
                gaps.note(None, metric, f"a line was left out: {error}")
    return lines


def _by_moment(
    lines: Sequence[tuple[Line, LabelledSamples]], observed_at: datetime, gaps: GapBook
) -> dict[datetime, list[tuple[Line, Sequence[Value]]]]:
    """Values by the time they are about: that of the scrape, unless a line has a timestamp of its own."""
    moments: dict[datetime, list[tuple[Line, Sequence[Value]]]] = defaultdict(list)
    for line, group in lines:
        values: dict[datetime, list[Value]] = {observed_at: []}
        for sample in group.samples:
            at = sample.at or observed_at
            if at > observed_at + MAX_AHEAD:
                gaps.note(line.subject, None, f"{sample.name} carries a time that is still to come; it was left out")
                continue
            values.setdefault(at, []).append((sample.name, sample.value, sample.text))
        for at, own in values.items():
            moments[at].append((line, own))
    return moments


class DcgmCollector:
    """Scrapes the exporters of one `[[sources.dcgm]]` table."""

    kind = "dcgm"

    def __init__(self, config: DcgmConfig) -> None:
        self.source = config.name
        self.cluster = config.cluster
        self.interval_s = config.interval_s
        self._config = config
        self._transport = HttpTransport(config, max_body_bytes=config.max_body_bytes)
        self._backoff = Backoff(interval_s=config.interval_s)

    def collect(self, now: datetime, watermarks: Mapping[str, datetime]) -> Iterator[Attempt]:
        """Scrape every exporter that is due once; attempts come in the order in which the exporters answer.

        An exporter that keeps failing, or asks to be left alone, is tried less often, see `Backoff`; what is not tried
        makes no attempt.
        """
        questions = [
            Question(url=url, is_failing=self._backoff.failures(url) > 0)
            for url in self._backoff.due(self._config.urls, now)
        ]
        for fetched in self._transport.fetch_all(questions, max_concurrent=self._config.max_concurrent):
            attempt = self._attempt(fetched, now)
            if attempt.error is None:
                self._backoff.succeeded(fetched.url)
            else:
                self._backoff.failed(fetched.url, attempt.started_at, retry_after=fetched.retry_after)
            yield attempt

    def close(self) -> None:
        """Nothing is held between scrapes."""

    def _attempt(self, fetched: Fetched, now: datetime) -> Attempt:
        target = target_name(fetched.url)
        started_at = now + timedelta(seconds=fetched.started_after_s)
        reading_since = time.monotonic()
        batch: Batch | None = None
        error: CollectorError | None = fetched.error
        if fetched.text is not None:
            try:
                batch = read_exposition(
                    fetched.text, observed_at=started_at, source=self.source, target=target, node=self._config.node
                )
            except CollectorError as failure:
                error = failure
        return Attempt(
            target=target,
            started_at=started_at,
            seconds=fetched.seconds + time.monotonic() - reading_since,
            batch=batch,
            error=error,
            clock_skew_s=fetched.clock_skew_s(now),
        )
