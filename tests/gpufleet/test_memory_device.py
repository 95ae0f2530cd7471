"""Which device a name means, and what happens where it means several."""

import pytest

from gpufleet.errors import ShellError
from gpufleet.memory_device import device_for
from planner.errors import UnknownBoard
from planner.memory.estimate import Basis


@pytest.mark.parametrize(
    ("given", "board"),
    [
        ("H100-80GB-SXM", "H100-80GB-SXM"),
        ("NVIDIA H100 80GB HBM3", "H100-80GB-SXM"),
        ("NVIDIA L40S (AWS G6e)", "L40S"),
        ("NVIDIA GB10 (DGX Spark) x2", "GB10"),
        ("NVIDIA RTX PRO 6000 Blackwell 96GB", "RTX-PRO-6000-96GB"),
    ],
)
def test_a_name_with_additions_finds_its_board(given: str, board: str) -> None:
    assert device_for(given, None, None).board == board


def test_a_name_of_several_boards_takes_the_least_memory_and_says_so() -> None:
    device = device_for("A100", None, None)
    assert device.board == "A100-40GB"
    assert device.basis is Basis.ASSUMED
    assert "A100-40GB or A100-80GB" in device.source
    assert "least memory" in device.source


def test_boards_of_equal_memory_are_no_guess() -> None:
    device = device_for("NVIDIA H100 80GB", None, None)
    assert device.memory_bytes == device_for("H100-80GB-PCIe", None, None).memory_bytes
    assert device.basis is Basis.MEASURED


def test_a_profile_narrows_the_boards() -> None:
    """Only the 80 GB board has a 3g.40gb."""
    assert device_for("A100", "3g.40gb", None).board == "A100-80GB"


def test_a_name_of_no_board_is_refused_without_its_memory() -> None:
    with pytest.raises(UnknownBoard, match="RTX 4060"):
        device_for("NVIDIA RTX 4060", None, None)
    assert device_for("NVIDIA RTX 4060", None, 8 << 30).memory_bytes == 8 << 30


@pytest.mark.parametrize("name", ["()", "NVIDIA", " x2", "(H100)"])
def test_a_name_without_words_of_a_board_is_refused(name: str) -> None:
    with pytest.raises(UnknownBoard):
        device_for(name, None, None)


def test_a_profile_without_a_board_is_refused() -> None:
    with pytest.raises(ShellError, match="without its board"):
        device_for(None, "1g.10gb", 9 << 30)
