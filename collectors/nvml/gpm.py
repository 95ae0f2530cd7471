"""GPM: activity of SMs, tensor cores and memory between two samples, per GPU and per GPU instance; Hopper and later.

A sample of this reading and that of the reading before make the values, so they cover the whole interval. Samples lie
in buffers of the driver, two for each device, which are given back when the device is gone.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from collectors.nvml.devices import Gpu
from collectors.nvml.gaps import GapBook
from collectors.nvml.library import GpuLost, Library
from collectors.nvml.metrics import ACTIVITY, GPM, GpmRow
from collectors.nvml.refusals import Kind, Refusal, refusal
from collectors.nvml.table_reading import Values, put
from planner.readings import Subject

SPACING_S = 0.15
"""How long after the first sample the second may be taken; below 0.1 s GPM says nothing (NVML reference)."""

VERSION = 1  # NVML_GPM_METRICS_GET_VERSION
NEEDS_HOPPER = "GPM needs a GPU from Hopper on"


@dataclass(slots=True)
class _Buffers:
    older: Any
    newer: Any
    has_older: bool = False
    has_newer: bool = False


class Gpm:
    """The samples of one machine's GPUs."""

    def __init__(self, library: Library) -> None:
        self._library = library
        self._buffers: dict[Subject, _Buffers] = {}
        self._unsupported: dict[tuple[Subject, int], Refusal] = {}
        self._lacking: set[tuple[Subject, str]] = set()
        self._supported: dict[str, bool] = {}
        self._request: Any = None

    def gives(self, gpu: Gpu, metric: str) -> bool:
        """Whether GPM may be expected to give this metric of the whole GPU: other ways to it are then not taken.

        It may where it did the last time, and the first time.
        """
        return self._why_not(gpu) is None and (gpu.whole, metric) not in self._lacking

    def sample(self, gpu: Gpu, gaps: GapBook) -> bool:
        """Take a sample of every device of the GPU; says whether one of them was the first, which tells nothing yet.

        Raises GpuLost, CollectorError.
        """
        why_not = self._why_not(gpu)
        if why_not is not None:
            for subject, _ in gpu.devices():
                for metric in ACTIVITY:
                    gaps.note(subject, metric, why_not)
            return False
        is_first = False
        for subject in _subjects(gpu):
            buffers = self._of(subject)
            if isinstance(buffers, Refusal):
                _note(subject, buffers, gaps)
                continue
            refused = self._take(gpu, subject, buffers)
            if refused is not None:
                _note(subject, refused, gaps)
            elif not buffers.has_older:
                is_first = True
        return is_first

    def values(self, gpu: Gpu, gaps: GapBook) -> Values:
        """What happened between the two newest samples; empty where there are not two yet.

        Raises GpuLost, CollectorError.
        """
        values: Values = {}
        if self._why_not(gpu) is not None:
            return values
        for subject in _subjects(gpu):
            buffers = self._buffers.get(subject)
            if buffers is not None and buffers.has_older and buffers.has_newer:
                self._between(subject, buffers, _rows(gpu, subject), values, gaps)
        for row in GPM:
            key = (gpu.whole, row.metric)
            (self._lacking.discard if key in values else self._lacking.add)(key)
        return values

    def keep_only(self, gpus: Iterable[Gpu]) -> None:
        """Give back the samples of devices that are gone."""
        present = {subject for gpu in gpus for subject in _subjects(gpu)}
        for subject in [subject for subject in self._buffers if subject not in present]:
            self._free(subject)

    def forget(self, uuid: str) -> None:
        """Begin anew with this GPU: it is cut in another way, or was gone for a while."""
        for subject in [subject for subject in self._buffers if subject.gpu_uuid == uuid]:
            self._free(subject)

    def close(self) -> None:
        """Give back all samples; must come before NVML is closed."""
        for subject in list(self._buffers):
            self._free(subject)

    def _why_not(self, gpu: Gpu) -> str | None:
        known = self._supported.get(gpu.uuid)
        if known is None:
            support = self._library.call("nvmlGpmQueryDeviceSupport", gpu.handle, about=gpu.uuid)
            if isinstance(support, Refusal):
                return f"{support.reason}; {NEEDS_HOPPER}"
            known = self._supported[gpu.uuid] = bool(support.isSupportedDevice)
        return None if known else NEEDS_HOPPER

    def _of(self, subject: Subject) -> "_Buffers | Refusal":
        found = self._buffers.get(subject)
        if found is not None:
            return found
        taken: list[Any] = []
        for _ in range(2):
            buffer = self._library.call("nvmlGpmSampleAlloc")
            if isinstance(buffer, Refusal):
                for given in taken:
                    self._library.answer("nvmlGpmSampleFree", given)
                return buffer
            taken.append(buffer)
        found = self._buffers[subject] = _Buffers(*taken)
        return found

    def _take(self, gpu: Gpu, subject: Subject, buffers: _Buffers) -> Refusal | None:
        buffers.older, buffers.newer = buffers.newer, buffers.older
        buffers.has_older, buffers.has_newer = buffers.has_newer, False
        if subject.gi_id is None:
            taken = self._library.call("nvmlGpmSampleGet", gpu.handle, buffers.newer, about=str(subject))
        else:
            taken = self._library.call(
                "nvmlGpmMigSampleGet", gpu.handle, subject.gi_id, buffers.newer, about=str(subject)
            )
        if isinstance(taken, Refusal):
            return taken
        buffers.has_newer = True
        return None

    def _between(
        self, subject: Subject, buffers: _Buffers, rows: Sequence[GpmRow], values: Values, gaps: GapBook
    ) -> None:
        asked = []
        for row in rows:
            known = self._unsupported.get((subject, row.gpm_id))
            if known is None:
                asked.append(row)
            else:
                _note(subject, known, gaps, row.metric)
        if not asked:
            return
        request = self._library.struct("c_nvmlGpmMetricsGet_t") if self._request is None else self._request
        self._request = request
        request.version = VERSION
        request.numMetrics = len(asked)
        request.sample1, request.sample2 = buffers.older, buffers.newer
        for place, row in enumerate(asked):
            request.metrics[place].metricId = row.gpm_id
            request.metrics[place].nvmlReturn = 0
        answer = self._library.call("nvmlGpmMetricsGet", request, about=str(subject))
        if isinstance(answer, Refusal):
            for row in asked:
                _note(subject, answer, gaps, row.metric)
            return
        for place, row in enumerate(asked):
            metric = request.metrics[place]
            if metric.nvmlReturn == 0:
                put(values, subject, row.metric, metric.value, row.convert, gaps)
                continue
            refused = refusal(f"NVML_GPM_METRIC_{row.name}", int(metric.nvmlReturn))
            if refused.kind is Kind.LOST:
                raise GpuLost(refused)
            if refused.kind is Kind.UNSUPPORTED:
                self._unsupported[subject, row.gpm_id] = refused
            _note(subject, refused, gaps, row.metric)

    def _free(self, subject: Subject) -> None:
        buffers = self._buffers.pop(subject)
        for row in GPM:
            self._unsupported.pop((subject, row.gpm_id), None)
            self._lacking.discard((subject, row.metric))
        for buffer in (buffers.older, buffers.newer):
            self._library.answer("nvmlGpmSampleFree", buffer)


def _subjects(gpu: Gpu) -> list[Subject]:
    """The devices that work is placed on, and beside GPU instances the GPU itself, for its links."""
    found = [subject for subject, _ in gpu.devices()]
    return found if gpu.whole in found else [gpu.whole, *found]


def _rows(gpu: Gpu, subject: Subject) -> list[GpmRow]:
    """A GPU instance has its own activity, a GPU its links; a GPU that is cut has no activity of its own."""
    if subject.gi_id is not None:
        return [row for row in GPM if row.per_instance]
    return [row for row in GPM if not gpu.is_cut or (row.under_mig and not row.per_instance)]


def _note(subject: Subject, refused: Refusal, gaps: GapBook, metric: str | None = None) -> None:
    """Only what pages rest on is a gap; that a board has no NVLink costs nobody anything."""
    for missed in ACTIVITY if metric is None else {metric} & set(ACTIVITY):
        gaps.note(subject, missed, refused.reason)
