"""Xid errors as they happen: an event set on a thread of its own, and the last one of every device, as in DCGM."""

import logging
import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from collectors.nvml.devices import Gpu
from collectors.nvml.gaps import GapBook
from collectors.nvml.library import Library
from collectors.nvml.refusals import TIMEOUT, Refusal
from collectors.nvml.table_reading import Values
from collectors.nvml.wire import NO_INSTANCE, address_of
from collectors.nvml.xid_codes import xid_text
from planner.readings import Subject
from planner.units import GpuUuid

log = logging.getLogger("gpufleet.collectors.nvml")

XID_EVENT = 0x8  # nvmlEventTypeXidCriticalError
WAIT_MS = 500
"""How long one wait lasts: the thread ends at most that much after it is told to."""
PAUSE_S = 1.0
"""Rest after an answer that is neither an event nor a timeout."""
MAX_WAITING = 256
"""Events kept between two readings; of more, the newest: a GPU that fails can write thousands."""


@dataclass(frozen=True, slots=True, kw_only=True)
class XidEvent:
    """One Xid of a GPU (`gi_id` None) or of one of its GPU instances."""

    gpu_uuid: GpuUuid
    gi_id: int | None
    code: int


class LastXids:
    """The last Xid of every device; 0 where none was seen. It outlives a library that is opened anew."""

    def __init__(self) -> None:
        self._last: dict[Subject, tuple[int, int]] = {}
        self._count = 0

    def take(self, event: XidEvent) -> None:
        """Take an event in, and log it where it is another one than before: an Xid is news whoever collects."""
        self._count += 1
        subject = Subject(gpu_uuid=event.gpu_uuid, gi_id=event.gi_id)
        if self._last.get(subject, (0, 0))[1] != event.code:
            log.warning("%s: Xid %d: %s", subject, event.code, xid_text(event.code))
        self._last[subject] = (self._count, event.code)

    def of(self, subject: Subject) -> int:
        """The last one of the device: of a GPU instance, its own or its GPU's, whichever came later."""
        both = (subject, Subject(gpu_uuid=subject.gpu_uuid))
        return max((self._last[one] for one in both if one in self._last), default=(0, 0))[1]

    def clear(self) -> None:
        """Forget all: the driver was loaded anew."""
        self._last.clear()


class XidEvents:
    """Listens to the GPUs of one open library."""

    def __init__(self, library: Library) -> None:
        self._library = library
        self._set: Any = None
        self._refused: Refusal | None = None
        self._registered: dict[str, Refusal | None] = {}
        self._uuid_by_address: dict[int, GpuUuid] = {}
        self._waiting: deque[XidEvent] = deque(maxlen=MAX_WAITING)
        self._dropped = 0
        self._trouble: str | None = None
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def listen(self, gpu: Gpu) -> None:
        """Listen to this GPU from now on; raises GpuLost, CollectorError."""
        address = address_of(gpu.handle)
        if address is not None:
            self._uuid_by_address[address] = gpu.uuid
        if gpu.uuid in self._registered or self._refused is not None:
            return
        if self._set is None:
            made = self._library.call("nvmlEventSetCreate")
            if isinstance(made, Refusal):
                self._refused = made
                return
            self._set = made
        answer = self._library.call("nvmlDeviceRegisterEvents", gpu.handle, XID_EVENT, self._set, about=gpu.uuid)
        self._registered[gpu.uuid] = answer if isinstance(answer, Refusal) else None
        if self._thread is None and not isinstance(answer, Refusal):
            self._thread = threading.Thread(target=self._wait, name="nvml-xid", daemon=True)
            self._thread.start()

    def drain(self) -> Iterator[XidEvent]:
        """The events since the last time, oldest first."""
        while self._waiting:
            yield self._waiting.popleft()

    def values(self, gpu: Gpu, last: LastXids, gaps: GapBook) -> Values:
        """The last Xid of every device of the GPU, where it is listened to."""
        refused = self._refused or self._registered.get(gpu.uuid)
        values: Values = {}
        for subject in [subject for subject, _ in gpu.devices()] or [gpu.whole]:
            if refused is None:
                values[subject, "xid_code"] = float(last.of(subject))
            else:
                gaps.note(subject, "xid_code", refused.reason)
        return values

    def note_trouble(self, gaps: GapBook) -> None:
        """Say what was missed since the last time."""
        dropped, self._dropped = self._dropped, 0
        if dropped:
            gaps.note(None, "xid_code", f"{dropped} Xid events came faster than they were read; the newest are kept")
        trouble, self._trouble = self._trouble, None
        if trouble is not None:
            gaps.note(None, "xid_code", f"Xid errors may be missed: {trouble}")

    def close(self) -> bool:
        """Stop listening; must come before NVML is closed, which must not happen where this returns False.

        Then the driver hangs, and closing what a thread waits on would end the process.
        """
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(timeout=2 * WAIT_MS / 1000 + PAUSE_S)
            if self._thread.is_alive():
                return False
        if self._set is not None:
            self._library.answer("nvmlEventSetFree", self._set)
        return True

    def _wait(self) -> None:
        while not self._stopping.is_set():
            answer = self._library.answer("nvmlEventSetWait_v2", self._set, WAIT_MS)
            if isinstance(answer, Refusal):
                if answer.code != TIMEOUT:
                    self._trouble = answer.reason
                    self._stopping.wait(PAUSE_S)
            elif answer.eventType & XID_EVENT:
                self._keep(answer)

    def _keep(self, event: Any) -> None:
        address = address_of(event.device)
        uuid = None if address is None else self._uuid_by_address.get(address)
        if uuid is None:
            self._trouble = f"Xid {int(event.eventData)} of a GPU that is not known"
            return
        if len(self._waiting) == MAX_WAITING:
            self._dropped += 1
        gi_id = int(event.gpuInstanceId)
        self._waiting.append(
            XidEvent(gpu_uuid=uuid, gi_id=None if gi_id == NO_INSTANCE else gi_id, code=int(event.eventData))
        )
