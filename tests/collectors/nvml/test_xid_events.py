"""Xid errors: heard on a thread of their own, kept as the last of each device, and not lost with the GPU."""

import time
from collections.abc import Callable

import pynvml

from collectors.nvml.xid_codes import XIDS, Action, xid_text
from tests.collectors.nvml.fake_nvml.boards import a100, gpu_uuid, h100_mixed
from tests.collectors.nvml.fake_nvml.machine import Code
from tests.collectors.nvml.readings import Machine, gaps, machine, of, reasons


def heard(running: Machine, is_there: Callable[[], bool] | None = None) -> None:
    """Wait until the listening thread has taken what was sent."""
    reader = running.collector._reader
    assert reader is not None
    sent = is_there or (lambda: running.fake.events_are_taken() and bool(reader._events._waiting))
    for _ in range(2000):
        if sent():
            return
        time.sleep(0.005)
    raise AssertionError("the event was never heard")


def test_the_last_xid_stays() -> None:
    with machine(a100(0), a100(1)) as running:
        assert of(running.read(), gpu_uuid(1))["xid_code"] == 0
        running.fake.emit_xid(1, 31)
        running.fake.emit_xid(1, 94)
        heard(running, lambda: len(running.collector._reader._events._waiting) == 2)  # type: ignore[union-attr]
        batch = running.read()
        assert of(batch, gpu_uuid(1))["xid_code"] == 94
        assert of(batch, gpu_uuid(0))["xid_code"] == 0
        assert of(running.read(), gpu_uuid(1))["xid_code"] == 94


def test_an_xid_of_a_gpu_instance_is_its_own_and_one_of_the_gpu_is_everybodys() -> None:
    with machine(h100_mixed()) as running:
        running.read()
        uuid = gpu_uuid(0x100)
        running.fake.emit_xid(0, 13, gi_id=3)
        heard(running)
        batch = running.read()
        assert {gi: of(batch, f"{uuid}/{gi}")["xid_code"] for gi in (2, 3, 9, 10)} == {2: 0, 3: 13, 9: 0, 10: 0}
        running.fake.emit_xid(0, 95)
        heard(running)
        batch = running.read()
        assert {of(batch, f"{uuid}/{gi}")["xid_code"] for gi in (2, 3, 9, 10)} == {95}


def test_a_gpu_that_fell_off_the_bus_still_tells_why() -> None:
    with machine(a100(0), a100(1)) as running:
        running.read()
        running.fake.emit_xid(1, 79)
        heard(running)
        running.fake.gpus[1].lost = pynvml.NVML_ERROR_GPU_IS_LOST
        batch = running.read()
        assert of(batch, gpu_uuid(1)) == {"xid_code": 79}
        (told,) = [reason for subject, _, reason in gaps(batch) if subject == gpu_uuid(1)]
        assert told.endswith("(its last Xid is 79: the GPU has fallen off the bus; drain the node and reboot it)")


def test_a_driver_that_is_loaded_anew_has_no_xids_of_before() -> None:
    with machine(a100()) as running:
        running.read()
        running.fake.emit_xid(0, 31)
        heard(running)
        assert of(running.read(), gpu_uuid(0))["xid_code"] == 31
        running.fake.faults["nvmlDeviceGetCount_v2"] = pynvml.NVML_ERROR_DRIVER_NOT_LOADED
        running.error()
        running.fake.faults.clear()
        assert of(running.read(), gpu_uuid(0))["xid_code"] == 0


def test_more_events_than_are_kept() -> None:
    with machine(a100()) as running:
        running.read()
        for code in range(1, 301):
            running.fake.emit_xid(0, code)
        reader = running.collector._reader
        assert reader is not None
        heard(running, lambda: reader._events._dropped + len(reader._events._waiting) == 300)
        batch = running.read()
        assert of(batch, gpu_uuid(0))["xid_code"] == 300
        assert reasons(batch, "xid_code") == ["44 Xid events came faster than they were read; the newest are kept"]
        assert reasons(running.read(), "xid_code") == []


def test_gpus_that_report_no_xid_have_a_gap_and_no_zero() -> None:
    batch_of = machine(a100(events=Code(3)))
    with batch_of as running:
        batch = running.read()
    assert "xid_code" not in of(batch, gpu_uuid(0))
    assert reasons(batch, "xid_code") == ["nvmlDeviceRegisterEvents: not supported"]


def test_a_wait_that_fails_is_told_and_not_repeated_without_rest() -> None:
    with machine(a100()) as running:
        running.fake.faults["nvmlEventSetWait_v2"] = 999
        running.read()
        reader = running.collector._reader
        assert reader is not None
        heard(running, lambda: reader._events._trouble is not None)
        batch = running.read()
        assert reasons(batch, "xid_code") == [
            "Xid errors may be missed: nvmlEventSetWait_v2 failed with code 999 (unknown error)"
        ]
        assert running.fake.calls["nvmlEventSetWait_v2"] < 5


def test_codes_have_words() -> None:
    assert xid_text(0) == "none"
    assert xid_text(79) == "the GPU has fallen off the bus; drain the node and reboot it"
    assert xid_text(9999) == "see docs.nvidia.com/deploy/xid-errors"
    assert XIDS[48].action is Action.LOOK_CLOSER
