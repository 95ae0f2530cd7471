"""Device memory is what CUDA sees, with its evidence; never the label, and refused where nobody measured it."""

import pytest

from planner.catalog import load_catalog
from planner.hardware import Evidence
from planner.memory.devices import DRIVER_RESERVE_BYTES, device_of, measured_memory, unlisted_device
from planner.memory.errors import UnknownMemory
from planner.memory.estimate import Basis
from planner.units import GIB, MIB

CATALOG = load_catalog()


def test_every_row_names_a_board_of_the_catalogue_and_stays_below_its_total() -> None:
    for name, row in measured_memory().items():
        board = CATALOG.board(name)
        assert board.name == name
        if board.memory_total_bytes is not None:
            assert 0.95 * board.memory_total_bytes <= row.highest_gib * GIB <= 1.02 * board.memory_total_bytes, name


@pytest.mark.parametrize(
    ("board", "gib"), [("H100-80GB-SXM", 79.18), ("A100-40GB", 39.5), ("L4", 22.16), ("T4", 14.74)]
)
def test_a_whole_gpu_has_the_lowest_total_that_start_up_logs_print(board: str, gib: float) -> None:
    device = device_of(CATALOG.board(board))
    assert device.memory_bytes == round(gib * GIB)
    assert device.basis is Basis.MEASURED
    assert device.architecture
    assert not device.is_mig


def test_a_mig_device_has_the_memory_of_its_gpu_instance() -> None:
    board = CATALOG.board("B200-180GB")
    device = device_of(board, CATALOG.profile(board, "1g.23gb"))
    assert device.memory_bytes == 20992 * MIB  # what CUDA prints there; the label says 23 GB
    assert device.name == "B200-180GB 1g.23gb"
    assert device.is_mig
    assert device.basis is Basis.MEASURED


def test_an_unmeasured_board_has_its_total_less_a_reserve_and_says_so() -> None:
    board = CATALOG.board("H100-94GB")
    assert board.memory_total_bytes is not None
    device = device_of(board)
    assert device.basis is Basis.ASSUMED
    assert device.memory_bytes == board.memory_total_bytes - DRIVER_RESERVE_BYTES
    assert "driver's total" in device.source


def test_a_label_is_no_measure() -> None:
    board = CATALOG.board("B300-269GB")
    with pytest.raises(UnknownMemory, match="its name is no measure"):
        device_of(board, CATALOG.profile(board, "1g.34gb"))
    with pytest.raises(UnknownMemory, match="--device-memory-bytes"):
        device_of(CATALOG.board("RTX-A6000"))


def test_a_measurement_of_the_user_replaces_everything() -> None:
    board = CATALOG.board("B300-269GB")
    device = device_of(board, CATALOG.profile(board, "1g.34gb"), memory_bytes=33 * GIB)
    assert device.memory_bytes == 33 * GIB
    assert "--device-memory-bytes" in device.source
    assert unlisted_device(8 * GIB).name == "device of 8.00 GiB"
    assert unlisted_device(8 * GIB, "Arc").name == "Arc"


@pytest.mark.parametrize("board", CATALOG.boards, ids=lambda board: board.name)
def test_no_device_has_more_than_the_driver_reports(board) -> None:  # type: ignore[no-untyped-def]
    for profile in (None, *board.profiles):
        try:
            device = device_of(board, profile)
        except UnknownMemory:
            assert profile is None or profile.evidence_of("memory") is Evidence.UNKNOWN
            continue
        assert device.memory_bytes > 0
        if board.memory_total_bytes is not None:
            assert device.memory_bytes <= board.memory_total_bytes
