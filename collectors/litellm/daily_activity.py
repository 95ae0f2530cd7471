"""The daily activity endpoints: days of UTC, split by model and key, and asked again for each team, user or tag.

A page is a stretch of the gateway's daily rows (newest first), summed up by date: one day may lie on several pages, and
its parts are added up. Where there are more pages than are allowed, the aggregated endpoint answers in one piece, but
lists only the keys with the highest spend.

Source: litellm/proxy/management_endpoints/common_daily_activity.py of 1.109.1.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from datetime import date

from collectors.bounded_http import Answer, BoundedHttp
from collectors.errors import BadPayload, CollectorError, Unsupported
from collectors.litellm.config import LiteLlmConfig
from collectors.litellm.daily_rows import DAY, Activity, RowKey, Sums, midnight
from collectors.litellm.owners import key_name
from collectors.litellm.personal import without_person, without_persons
from collectors.litellm.wire import UNASSIGNED, ActivityPage, Day, Malformed, Part, read, unreadable_numbers
from collectors.plain_text import plain_text
from planner.readings import Gap
from planner.token_usage import TokenUsage, UsageSpan

SCOPES: Mapping[str, tuple[str, str]] = {
    "team": ("team", "team_ids"),
    "user": ("user", "user_id"),
    "tag": ("tag", "tags"),
}
"""Dimension to the endpoint that knows its owners, and the parameter that asks for one of them."""

Found = tuple[tuple[TokenUsage, ...], tuple[UsageSpan, ...], tuple[Gap, ...]]


class DailyActivity:
    """Reads the daily figures of one gateway."""

    def __init__(self, config: LiteLlmConfig, http: BoundedHttp) -> None:
        self._config = config
        self._http = http
        self._gaps: dict[Gap, None] = {}
        self._asked = (date.min, date.max)

    def read(self, first: date, last: date) -> Found:
        """Use of every day from `first` to `last`, by model and by each configured dimension, with the spans it covers.

        A dimension that cannot be read whole has a gap and no span. Raises a CollectorError when the totals fail.
        """
        self._gaps = {}
        self._asked = (first, last)
        rows: dict[RowKey, Sums] = defaultdict(Sums)
        covered = [""]
        total = self._ask("user", {})
        for (day, model), sums in total.models.items():
            rows[day, model, "", ""].merge(sums)
        for dimension in self._config.dimensions:
            try:
                parts = list(self._of_keys(total) if dimension == "key" else self._of_owners(dimension, total))
            except CollectorError as failure:
                self._gap(f"use by {dimension} is not known: {failure}")
                continue
            for key, sums in parts:
                rows[key].merge(sums)
            covered.append(dimension)
        for key in [key for key, sums in rows.items() if sums.is_too_much]:
            del rows[key]
            self._gap("a sum was left out: it is larger than anything that is counted")
        start, end = midnight(first), midnight(last) + DAY
        return (
            tuple(rows[key].usage(key) for key in sorted(rows)),
            tuple(UsageSpan(start=start, end=end, dimension=dimension) for dimension in covered),
            tuple(self._gaps),
        )

    def _of_keys(self, total: Activity) -> Iterator[tuple[RowKey, Sums]]:
        if total.keys_left_out:
            raise BadPayload(
                f"the gateway lists only the keys with the highest spend; {total.keys_left_out} are left out. Raise "
                "max_pages, so that the figures are read page by page.",
                source=self._config.name,
            )
        for (day, model, key), sums in total.keys.items():
            yield (day, model, "key", self._named(key)), sums

    def _of_owners(self, dimension: str, total: Activity) -> Iterator[tuple[RowKey, Sums]]:
        endpoint, parameter = SCOPES[dimension]
        listed = total if endpoint == "user" else self._ask(endpoint, {})
        if listed.models and not listed.owners:
            raise BadPayload(
                f"/{endpoint}/daily/activity names no {dimension}: a LiteLLM too old for it, or read in one piece.",
                source=self._config.name,
            )
        ranked = sorted(listed.owners, key=lambda owner: -listed.spend_of_owner[owner])
        asked = [owner for owner in ranked if owner != UNASSIGNED and "," not in owner]
        if any("," in owner for owner in ranked):
            self._gap(f"a {dimension} whose name holds a comma cannot be asked for by itself and is left out")
        if dimension == "tag" and not self._config.keep_personal:
            asked = [tag for tag in asked if without_person(tag) == tag]  # LiteLLM tags requests by their user agents
        if len(asked) > self._config.max_owners:
            self._gap(
                f"only the {self._config.max_owners} of {len(asked)} {dimension}s with the highest spend are read; "
                "raise max_owners"
            )
        for owner in asked[: self._config.max_owners]:
            part = self._ask(endpoint, {parameter: owner})
            for (day, model), sums in part.models.items():
                yield (day, model, dimension, self._named(listed.owners[owner])), sums

    def _named(self, name: str) -> str:
        return name if self._config.keep_personal else without_person(name)

    def _ask(self, endpoint: str, scope: Mapping[str, str]) -> Activity:
        """Every page of one question, or the aggregated answer where there are too many."""
        first, last = self._asked
        url = f"{self._config.url}/{endpoint}/daily/activity"
        asked = {"start_date": first.isoformat(), "end_date": last.isoformat(), **scope}
        found = Activity()
        for number in range(1, self._config.max_pages + 1):
            page = self._page(url, {**asked, "page": str(number), "page_size": str(self._config.page_size)})
            if page.metadata.page not in (None, number):
                raise BadPayload(
                    f"/{endpoint}/daily/activity gave page {page.metadata.page} when asked for {number}.",
                    source=self._config.name,
                )
            self._take(found, page)
            if not page.metadata.says_more(number):
                return found
        return self._aggregated(url, asked)

    def _aggregated(self, url: str, asked: Mapping[str, str]) -> Activity:
        page = self._page(f"{url}/aggregated", asked)
        found = Activity()
        self._take(found, page)
        limit, keys = page.metadata.api_key_limit, page.metadata.total_api_keys
        found.keys_left_out = max(keys - limit, 0) if limit is not None and keys is not None else 0
        self._gap(
            f"the days have more than {self._config.max_pages} pages of {self._config.page_size} rows; they were read "
            "in one piece"
        )
        return found

    def _page(self, url: str, params: Mapping[str, str]) -> ActivityPage:
        answer = self._http.get(url, params)
        if answer.status != 200:
            raise _error(answer)
        try:
            return read(ActivityPage, answer.json())
        except Malformed as error:
            raise BadPayload(
                f"{answer.target} answered with JSON that is not LiteLLM's ({error}).", source=self._config.name
            ) from error

    def _take(self, found: Activity, page: ActivityPage) -> None:
        first, last = self._asked
        for told in page.results:
            try:
                day = read(Day, told)
            except Malformed as error:
                self._gap(f"a day was left out: {error}")
                continue
            if not first <= day.date <= last:
                self._gap(f"a day that nobody asked for was left out: {day.date}")
                continue
            for model, part in self._parts("a model", day.breakdown.models):
                found.models[day.date, model].add(part.metrics)
                for key, of_key in self._parts("a key", part.api_key_breakdown):
                    found.keys[day.date, model, key_name(of_key.metadata.key_alias, key)].add(of_key.metrics)
            for owner, part in self._parts("an owner", day.breakdown.entities):
                found.owners[owner] = part.metadata.team_alias or found.owners.get(owner) or owner
                found.spend_of_owner[owner] += part.metrics.spend or 0.0

    def _parts(self, kind: str, breakdown: Mapping[str, object]) -> Iterator[tuple[str, Part]]:
        """Every part with its name; what is wrong with one is said without it: owners may be persons."""
        for name, told in breakdown.items():
            try:
                part = read(Part, told)
            except Malformed as error:
                self._gap(f"a part of a day ({kind}) was left out: {error}")
                continue
            for unreadable in unreadable_numbers(told, part.metrics):
                self._gap(f"{unreadable} of a part of a day ({kind}) is no number")
            yield plain_text(name, 253), part

    def _gap(self, reason: str) -> None:
        said = reason if self._config.keep_personal else without_persons(reason, but=self._config.server)
        self._gaps[Gap(subject=self._config.gateway, metric=None, reason=said)] = None


def _error(answer: Answer) -> CollectorError:
    """Our error for a refusal; without a database LiteLLM answers 500, or 400 to a key that it cannot look up."""
    reason = answer.reason.lower()
    if "not connected" in reason or "no connected db" in reason:
        return Unsupported(
            f"{answer.target} has no database, so it keeps no daily figures. Give LiteLLM one (DATABASE_URL), or set "
            "read_daily_activity = false.",
            source=answer.source,
        )
    if answer.status == 404:
        return Unsupported(
            f"{answer.target} is not there (404): this LiteLLM is older than the daily figures.", source=answer.source
        )
    return answer.error()
