"""Standard output whose failures are ours: a full disk is a sentence, and a reader who left is no error."""

import io
import os
import sys
from typing import TYPE_CHECKING

from gpufleet.errors import OutputClosed, OutputFailed

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


def check_output() -> None:
    """From now on writing to stdout raises OutputFailed or OutputClosed, and what comes after that is dropped."""
    if sys.stdout is None:  # closed by whoever started the command
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, PTH123  # open to the end
        return
    sys.stdout.flush()
    sys.stdout = io.TextIOWrapper(
        io.BufferedWriter(_Checked(sys.stdout.fileno(), "wb", closefd=False)),
        encoding=sys.stdout.encoding,
        errors=sys.stdout.errors,
        line_buffering=sys.stdout.isatty(),
    )


class _Checked(io.FileIO):
    """The file that stdout is; after its first failure it swallows the rest, which the interpreter flushes at exit."""

    has_failed = False

    def write(self, content: "ReadableBuffer", /) -> int | None:  # type: ignore[override]  # as the file may say
        if not self.has_failed:
            try:
                return super().write(content)
            except BrokenPipeError as error:
                self.has_failed = True
                raise OutputClosed("nobody reads the output any more.") from error
            except OSError as error:
                self.has_failed = True
                raise OutputFailed(f"the output cannot be written: {error.strerror}.") from error
        return memoryview(content).nbytes
