"""Lists in numbered pages, read to their end and never round and round."""

from collections.abc import Iterator, Mapping

from collectors.errors import BadPayload
from collectors.langfuse.api import LangfuseApi, TooMuch
from collectors.langfuse.config import RoadName
from collectors.langfuse.wire import Page


def numbered_pages(
    api: LangfuseApi, road: RoadName, params: Mapping[str, str], *, size: int, max_pages: int, source: str
) -> Iterator[Page]:
    """Every page of a list; the number of pages is taken from the newest of them, as late data adds to it.

    Raises BadPayload for a page that was not asked for or comes twice, for several pages of which none holds anything,
    and TooMuch beyond `max_pages`.
    """
    before: list[object] = []
    is_nothing = True
    for number in range(1, max_pages + 1):
        page = api.get(road, {**params, "page": str(number), "limit": str(size)})
        if page.meta.page not in (None, number):
            raise BadPayload(f"{road} gave page {page.meta.page} when asked for {number}.", source=source)
        if page.data and page.data == before:
            raise BadPayload(f"{road} gave the same page twice; reading it on would never end.", source=source)
        yield page
        before = page.data
        is_nothing = is_nothing and not page.data
        pages = page.meta.total_pages
        if (len(page.data) < size) if pages is None else (number >= pages):
            if is_nothing and number > 1:
                raise BadPayload(f"{road} has {number} pages and nothing on any of them.", source=source)
            return
    raise TooMuch(f"{road} has more than {max_pages} pages for one window.", source=source)
