"""One reading of the whole machine: every GPU after the other, each on its own if one of them is lost."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime

from collectors.nvml.board_check import BoardCheck
from collectors.nvml.config import NvmlConfig
from collectors.nvml.devices import Gpu, describe, identify
from collectors.nvml.gaps import GapBook
from collectors.nvml.gpm import SPACING_S, Gpm
from collectors.nvml.library import GpuLost, Library, source_error
from collectors.nvml.metrics import MEMORY
from collectors.nvml.nvlink import BOTH, RX, TX, NvLinks
from collectors.nvml.processes import Found, Processes
from collectors.nvml.refusals import Refusal
from collectors.nvml.table_reading import Values, read_memory, read_tables
from collectors.nvml.wire import name_of
from collectors.nvml.xid_codes import xid_text
from collectors.nvml.xid_events import LastXids, XidEvents
from planner.readings import Batch, GpuFact, Reading
from planner.units import GpuUuid, NodeName

EMPTY_MIG = "MIG mode is on and no GPU instance is made"
PCIE = "pcie_tx_bytes_per_s"


@dataclass(slots=True, kw_only=True)
class _Seen:
    """One GPU as far as it was read; `lost` says why no further."""

    gpu: Gpu
    values: Values
    found: Found = field(default_factory=Found)
    lost: str | None = None


class NodeReader:
    """An open NVML with what it has to remember between two readings. Use from one thread at a time."""

    def __init__(
        self,
        config: NvmlConfig,
        xids: LastXids,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._config = config
        self._node = config.node_name()
        self._clock, self._sleep = clock, sleep
        self._library = Library(config.name)
        self._gpm = Gpm(self._library)
        self._links = NvLinks(self._library)
        self._boards = BoardCheck(self._library)
        self._xids = xids
        self._events = XidEvents(self._library)
        self._processes = Processes(
            self._library, proc_directory=config.proc_directory, log_directory=config.log_directory
        )
        self._uuid_by_index: dict[int, GpuUuid] = {}
        self._layouts: dict[str, object] = {}
        self.is_exhausted = False  # not one of the GPUs answered: a new opening may find them again

    def open(self) -> None:
        """Begin; raises CollectorError."""
        self._library.open()

    def close(self) -> None:
        """End; the driver's buffers and the listening thread first."""
        if self._events.close():
            self._gpm.close()
            self._library.close()

    def read(self, now: datetime) -> Batch:
        """Everything that NVML tells of this machine at this moment; raises CollectorError when it tells nothing."""
        gaps = GapBook(self._node)
        count = self._library.answer("nvmlDeviceGetCount")
        if isinstance(count, Refusal):
            raise source_error(count, self._config.name)
        driver = self._told("nvmlSystemGetDriverVersion")
        self._processes.begin()
        seen = [one for one in (self._see(index, gaps) for index in range(count)) if one is not None]
        self._measure_activity(seen, gaps)
        for event in self._events.drain():
            self._xids.take(event)
        self._events.note_trouble(gaps)
        alive = [one for one in seen if one.lost is None]
        self.is_exhausted = count > 0 and not alive
        if count == 0:
            gaps.note(None, None, "NVML knows no GPU on this machine (in a container: NVIDIA_VISIBLE_DEVICES=all)")
        values: Values = {}
        for one in seen:
            if one.lost is None:
                values |= one.values | self._events.values(one.gpu, self._xids, gaps)
            else:
                values |= self._after_the_end(one, gaps)
        facts = [self._fact(one, now, driver) for one in alive if one.gpu.instances_known]
        return Batch(
            readings=tuple(
                Reading(subject=subject, metric=metric, value=value, observed_at=now)
                for (subject, metric), value in values.items()
            ),
            facts=tuple(facts),
            gaps=gaps.gaps(),
            found=self._found(driver),
            nodes_complete=frozenset({self._node}) if facts and len(facts) == count else frozenset(),
        )

    def _see(self, index: int, gaps: GapBook) -> _Seen | None:
        """Everything of one GPU but its activity; None when it does not say who it is."""
        try:
            identity = identify(self._library, index, gaps)
            if identity is None:
                return None
            handle, self._uuid_by_index[index] = identity
            gpu = describe(self._library, index, handle, self._uuid_by_index[index], gaps)
        except GpuLost as lost:
            return self._gone(index, lost.reason, gaps)
        self._note_layout(gpu)
        one = _Seen(gpu=gpu, values={})
        try:
            self._events.listen(gpu)
            pcie_throughput = not self._gpm.gives(gpu, PCIE)
            one.values |= read_tables(self._library, gpu, gaps, pcie_throughput=pcie_throughput)
            one.values |= self._memory(gpu, gaps)
            one.values |= self._links.rates(gpu, self._clock(), gaps)
            if self._config.processes:
                used = {subject: value for (subject, metric), value in one.values.items() if metric == MEMORY[0]}
                one.found = self._processes.find(gpu, used, gaps)
        except GpuLost as lost:
            one.lost = lost.reason
        return one

    def _gone(self, index: int, reason: str, gaps: GapBook) -> _Seen | None:
        uuid = self._uuid_by_index.get(index)
        if uuid is None:
            gaps.note(f"GPU {index}", None, f"nothing of this GPU is read: {reason}")
            return None
        gpu = Gpu(handle=None, index=index, uuid=uuid, model_name=None, pci_bus_id=None, mig_mode=None, is_cut=False)
        return _Seen(gpu=gpu, values={}, lost=reason)

    def _note_layout(self, gpu: Gpu) -> None:
        """What a GPU supports, and what its samples are about, is another thing once it is cut in another way."""
        layout = (gpu.is_cut, tuple(instance.fact() for instance in gpu.instances))
        if self._layouts.setdefault(gpu.uuid, layout) != layout:
            self._layouts[gpu.uuid] = layout
            self._library.forget(gpu.uuid)
            self._gpm.forget(gpu.uuid)

    def _memory(self, gpu: Gpu, gaps: GapBook) -> Values:
        values: Values = {}
        for subject, instance in gpu.devices():
            values |= read_memory(self._library, gpu, subject, instance, gaps)
        if gpu.is_cut and not gpu.instances:
            for metric in MEMORY:
                gaps.note(gpu.whole, metric, EMPTY_MIG)
        total = values.get((gpu.whole, "memory_total_bytes"))
        if (
            total is None and gpu.is_cut and not self._boards.has_asked(gpu)
        ):  # of a GPU that is cut, the memory only says which board it is
            whole = read_memory(self._library, gpu, gpu.whole, None, GapBook(self._node))
            total = whole.get((gpu.whole, "memory_total_bytes"))
        self._boards.note(gpu, total, gaps)
        return values

    def _measure_activity(self, seen: Iterable[_Seen], gaps: GapBook) -> None:
        """GPM after everything else: its second sample may have to wait, and memory is asked before it by intent.

        A GPU instance's memory was seen to be refused after GPM had been asked about it on some drivers.
        """
        alive = [one for one in seen if one.lost is None]
        self._gpm.keep_only(one.gpu for one in alive)
        first = [one for one in alive if self._sampled(one, gaps)]
        if first:
            self._sleep(SPACING_S)
            for one in first:
                self._sampled(one, GapBook(self._node))  # what it lacks was said with the first sample
        for one in alive:
            if one.lost is not None:
                continue
            try:
                for key, value in self._gpm.values(one.gpu, gaps).items():
                    one.values.setdefault(key, value)
            except GpuLost as lost:
                one.lost = lost.reason
            tx, rx = one.values.get((one.gpu.whole, TX)), one.values.get((one.gpu.whole, RX))
            if tx is not None and rx is not None:
                one.values.setdefault((one.gpu.whole, BOTH), tx + rx)

    def _sampled(self, one: _Seen, gaps: GapBook) -> bool:
        try:
            return self._gpm.sample(one.gpu, gaps)
        except GpuLost as lost:
            one.lost = lost.reason
            return False

    def _after_the_end(self, one: _Seen, gaps: GapBook) -> Values:
        """A lost GPU: nothing that was read of it counts, but its last Xid is why."""
        whole = one.gpu.whole
        code = self._xids.of(whole)
        why = f" (its last Xid is {code}: {xid_text(code)})" if code else ""
        gaps.note(whole, None, f"nothing of this GPU is read: {one.lost}{why}")
        self._links.forget(one.gpu.uuid)
        self._library.forget(one.gpu.uuid)
        return {(whole, "xid_code"): float(code)} if code else {}

    def _fact(self, one: _Seen, now: datetime, driver: str | None) -> GpuFact:
        gpu = one.gpu
        return GpuFact(
            observed_at=now,
            gpu_uuid=gpu.uuid,
            node=NodeName(self._node),
            index=gpu.index,
            model_name=gpu.model_name,
            pci_bus_id=gpu.pci_bus_id,
            driver_version=driver,
            mig_mode=gpu.mig_mode,
            instances=tuple(instance.fact() for instance in gpu.instances),
            pods=one.found.pods,
            processes=one.found.processes,
        )

    def _told(self, function: str) -> str | None:
        answer = self._library.answer(function)
        return None if isinstance(answer, Refusal) else name_of(answer)

    def _found(self, driver: str | None) -> tuple[tuple[str, str], ...]:
        nvml = self._told("nvmlSystemGetNVMLVersion")
        return tuple((what, value) for what, value in (("version", driver), ("NVML", nvml)) if value is not None)
