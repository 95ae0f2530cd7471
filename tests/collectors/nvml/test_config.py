"""The table of the configuration, and what a remedy says of each gap."""

import pytest
from pydantic import ValidationError

from collectors import SOURCES, build, config_model, remedy_of
from collectors.nvml.collector import NvmlCollector
from collectors.nvml.config import NvmlConfig
from collectors.nvml.remedies import remedy
from planner.readings import Gap
from tests.collectors.nvml.fake_nvml.boards import OLD_DRIVER_LACKS, a100_seven_instances, gb10, h200, t4
from tests.collectors.nvml.readings import machine, read_once


def test_it_is_a_source_like_the_others() -> None:
    assert "nvml" in SOURCES
    config = config_model("nvml").model_validate({"name": "local"})
    collector = build("nvml", config)
    assert isinstance(collector, NvmlCollector)
    assert (collector.source, collector.cluster, collector.interval_s) == ("local", "default", 30.0)
    collector.close()
    assert remedy_of("nvml") is remedy


def test_the_node_is_the_one_that_kubernetes_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "host-a")
    monkeypatch.delenv("NODE_NAME", raising=False)
    assert NvmlConfig(name="n").node_name() == "host-a"
    monkeypatch.setenv("NODE_NAME", "node-b")
    assert NvmlConfig(name="n").node_name() == "node-b"
    assert NvmlConfig(name="n", node="node-c").node_name() == "node-c"


def test_unknown_keys_are_refused() -> None:
    with pytest.raises(ValidationError, match="url"):
        NvmlConfig.model_validate({"name": "n", "url": "http://localhost"})


def test_what_a_board_cannot_have_asks_for_nothing() -> None:
    for batch in (read_once(a100_seven_instances()), read_once(gb10())):
        natural = {gap.metric for gap in batch.gaps if remedy(gap).is_natural}
        assert "gpu_busy_ratio" in natural or "memory_used_bytes" in natural
        assert all(remedy(gap).fix is None for gap in batch.gaps if remedy(gap).is_natural)


def test_every_other_gap_has_a_fix() -> None:
    with machine(t4(), h200(), a100_seven_instances(), driver="470.256.02", privileged=False) as running:
        running.fake.absent |= OLD_DRIVER_LACKS
        batch = running.read()
    unfixed = [gap for gap in batch.gaps if remedy(gap).fix is None and not remedy(gap).is_natural]
    assert unfixed == []


@pytest.mark.parametrize(
    ("reason", "part"),
    [
        ("nvmlDeviceGetGpuInstanceById wants a right that is missing: root, and in a container", "privileged: true"),
        ("nvmlX wants a right that is missing: read and write access to /dev/nvidia*", "Give it that right"),
        ("nvmlX: this driver does not have it", "Update the driver"),
        ("nothing of this GPU is read: nvmlX: the GPU is lost", "dmesg"),
    ],
)
def test_fixes(reason: str, part: str) -> None:
    fix = remedy(Gap(subject="gpu-a", metric=None, reason=reason)).fix
    assert fix is not None
    assert part in fix


def test_what_nobody_foresaw_has_none() -> None:
    assert (
        remedy(Gap(subject="gpu-a", metric="power_watts", reason="nvmlX failed with code 999 (unknown error)")).fix
        is None
    )
