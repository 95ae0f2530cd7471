"""What is told of an error that nobody thought of: its kind and where it came from, and never its words.

The words of an exception may hold what a server said or what it was asked with, a secret among it.
"""

import logging
import traceback

from collectors.errors import BadPayload

log = logging.getLogger("gpufleet.collectors")


def unexpected(what: str, failure: BaseException, *, source: str) -> BadPayload:
    """The error of an attempt that such a failure ended; where it came from is logged. `what` is a sentence's begin."""
    kind = type(failure).__name__
    frames = "".join(traceback.format_tb(failure.__traceback__))
    log.error("%s: %s %s, raised at\n%s", source, what, kind, frames)
    return BadPayload(f"{what} {kind}. Please report it, with what the log says of it.", source=source)
