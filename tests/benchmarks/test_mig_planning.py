"""The benchmark runs from end to end, on small instances, and every plan it sees is right."""

import pytest

from benchmarks import results
from benchmarks.mig_planning import main


@pytest.mark.parametrize(
    ("part", "told"),
    [
        ("speed", ["200 requests, no GPU yet", "16 GPUs, 70 % full, reconfigure", "greedy vacate", "**gpufleet**"]),
        (
            "quality",
            [
                "gpufleet reconfigure",
                "HAMi scoring",
                "Proven to be the best there is: 12 of 12 initial, 6 of 6 compact",
            ],
        ),
    ],
)
def test_the_small_run_prints_its_tables_and_keeps_nothing(
    part: str, told: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    before = results.RESULTS.read_text(encoding="utf-8")
    main(["--quick", "--only", part])
    printed = capsys.readouterr().out
    assert [words for words in told if words not in printed] == []
    assert results.RESULTS.read_text(encoding="utf-8") == before
