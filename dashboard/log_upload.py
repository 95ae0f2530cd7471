"""A start-up log that somebody hands to the page. It is parsed and not stored; only what it measured can be kept."""

from typing import Final

from dashboard.model_upload import UPLOAD_LIMIT_MIB, shown_name
from planner.memory.errors import UnreadableLog
from planner.memory.learning import read_start_log
from planner.memory.measured import Measured

LOG_LIMIT_MIB: Final = UPLOAD_LIMIT_MIB


def measured_from_upload(file_name: str, content: bytes) -> Measured:
    """What the last start in the log measured; raises UnreadableLog with what is wrong with it."""
    name = shown_name(file_name)
    if len(content) > LOG_LIMIT_MIB * 2**20:
        raise UnreadableLog(
            f"{name} has more than {LOG_LIMIT_MIB} MiB. Only the start counts: `head -c {LOG_LIMIT_MIB}M server.log > "
            "start.log`."
        )
    return read_start_log(content.decode("utf-8", errors="replace"), name)
