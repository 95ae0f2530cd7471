"""The one door to NVML: every call goes through `Library.call`, which turns errors into refusals with a reason.

What a GPU does not support is remembered and not asked again. What means that nothing answers any more is raised.
"""

import logging
from collections.abc import Iterable, Mapping
from typing import Any

import pynvml  # type: ignore[import-untyped]

from collectors.errors import CollectorError, Unauthorized, Unreachable, Unsupported
from collectors.nvml.refusals import (
    DRIVER_NOT_LOADED,
    FUNCTION_NOT_FOUND,
    LIB_RM_VERSION_MISMATCH,
    LIBRARY_NOT_FOUND,
    NO_PERMISSION,
    Kind,
    Refusal,
    refusal,
    unreadable,
)
from collectors.nvml.wire import field_value

log = logging.getLogger("gpufleet.collectors.nvml")

PROBE = "nvmlSystemGetDriverVersion"
FIELD_VALUES = "nvmlDeviceGetFieldValues"


class GpuLost(Exception):
    """The GPU that was asked no longer answers; whoever reads it goes on with the next one."""

    def __init__(self, refused: Refusal) -> None:
        super().__init__(refused.reason)
        self.reason = refused.reason


class Library:
    """NVML, opened for one source. Safe to call from several threads, as NVML itself is."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._unsupported: dict[tuple[str, str, tuple[int, ...]], Refusal] = {}

    def open(self) -> None:
        """Load the library and begin; raises CollectorError that says what is missing and what to do."""
        self._unsupported.clear()
        answer = self._ask("nvmlInit")
        if isinstance(answer, Refusal):
            raise source_error(answer, self._source)

    def close(self) -> None:
        """End; a driver that no longer answers is none of our business any more."""
        answer = self._ask("nvmlShutdown")
        if isinstance(answer, Refusal):
            log.debug("%s: %s", self._source, answer.reason)

    def call(self, function: str, *arguments: Any, about: str = "") -> Any:
        """The answer of a function of nvidia-ml-py, or a Refusal.

        `about` names the device: what it does not support is remembered under it, with the function and its numbers.
        Raises GpuLost when the GPU is gone, CollectorError when the driver is; what only one function claims to be the
        driver's end, while another still answers, is a refusal.
        """
        key = (about, function, tuple(number for number in arguments if isinstance(number, int)))
        known = self._unsupported.get(key)
        if known is not None:
            return known
        answer = self._ask(function, *arguments)
        if not isinstance(answer, Refusal):
            return answer
        if answer.kind is Kind.UNSUPPORTED:
            self._unsupported[key] = answer
        elif answer.kind is Kind.LOST:
            raise GpuLost(answer)
        elif answer.kind is Kind.NO_DRIVER and isinstance(self._ask(PROBE), Refusal):
            raise source_error(answer, self._source)
        return answer

    def fields(
        self, handle: Any, ids: Iterable[tuple[int, int]], *, about: str
    ) -> dict[tuple[int, int], float | Refusal]:
        """Field values by (field, scope), in one call; each has its own fate, and what is not supported is not asked.

        Raises as `call`.
        """
        found: dict[tuple[int, int], float | Refusal] = {}
        asked = []
        for key in ids:
            known = self._unsupported.get((about, FIELD_VALUES, key))
            if known is None:
                asked.append(key)
            else:
                found[key] = known
        told = self.call(FIELD_VALUES, handle, asked, about=about) if asked else ()
        if isinstance(told, Refusal):
            return found | dict.fromkeys(asked, told)
        for key, field in zip(asked, told, strict=True):
            value = found[key] = field_value(field)
            if isinstance(value, Refusal) and value.kind is Kind.UNSUPPORTED:
                self._unsupported[about, FIELD_VALUES, key] = value
            elif isinstance(value, Refusal) and value.kind is Kind.LOST:
                raise GpuLost(value)
        return found

    def answer(self, function: str, *arguments: Any) -> Any:
        """As `call`, but nothing is raised and nothing remembered: every refusal is handed back."""
        return self._ask(function, *arguments)

    def forget(self, about: str) -> None:
        """Ask again what this GPU and its instances did not support: MIG mode or layout changed, and what there is."""
        for key in [key for key in self._unsupported if key[0].split("/")[0] == about]:
            del self._unsupported[key]

    def struct(self, name: str) -> Any:
        """A new struct of nvidia-ml-py, by its name there."""
        return getattr(pynvml, name)()

    def array(self, name: str, size: int) -> Any:
        """A new array of such structs."""
        return (getattr(pynvml, name) * size)()

    def _ask(self, function: str, *arguments: Any) -> Any:
        ask = getattr(pynvml, function, None)
        if ask is None:  # an nvidia-ml-py that is older than this function
            return refusal(function, FUNCTION_NOT_FOUND)
        try:
            return ask(*arguments)
        except pynvml.NVMLError as error:
            return refusal(function, int(error.value))
        except pynvml.NVMLLibraryMismatchError:
            return refusal(function, FUNCTION_NOT_FOUND)
        except (UnicodeDecodeError, ValueError, TypeError, AttributeError) as error:
            return unreadable(function, error)


def source_error(refused: Refusal, source: str) -> CollectorError:
    """Why nothing answers, and what to do about it."""
    kind, sentence = _SOURCE_ERRORS.get(refused.code, (Unreachable, _NO_ANSWER))
    return kind(sentence.format(reason=refused.reason), source=source)


_NO_ANSWER = (
    "NVML does not answer ({reason}): the driver was reloaded, or is in trouble (`dmesg | grep -i nvrm`). It is opened "
    "again at the next interval."
)
_NO_LIBRARY = (
    "libnvidia-ml.so.1 is not found: there is no NVIDIA driver on this machine, or this container does not get it "
    "(runtime class nvidia, NVIDIA_VISIBLE_DEVICES=all, NVIDIA_DRIVER_CAPABILITIES=utility)."
)
_TWO_VERSIONS = (
    "the driver in the kernel and libnvidia-ml.so.1 are of different versions: the driver was updated under a running "
    "system. Load the new kernel module or reboot, then start gpufleet again."
)
_NO_ACCESS = (
    "NVML is refused: this user may not open /dev/nvidiactl (device permissions, or the device cgroup of a container)."
)
_NO_MODULE = (
    "the NVIDIA driver is not loaded: look at `nvidia-smi` and `dmesg | grep -i nvrm` on this machine. It is tried "
    "again at every interval."
)
_SOURCE_ERRORS: Mapping[int, tuple[type[CollectorError], str]] = {
    LIBRARY_NOT_FOUND: (Unsupported, _NO_LIBRARY),
    LIB_RM_VERSION_MISMATCH: (Unsupported, _TWO_VERSIONS),
    NO_PERMISSION: (Unauthorized, _NO_ACCESS),
    DRIVER_NOT_LOADED: (Unreachable, _NO_MODULE),
}
