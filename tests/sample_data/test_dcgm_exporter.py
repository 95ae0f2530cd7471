"""The simulated exporters' text: parses, repeats nothing, and has the shapes of real dumps."""

import csv
import re
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from sample_data.cluster import SimulatedCluster, SimulatedNode, simulated_cluster
from sample_data.dcgm_exporter import exposition
from sample_data.exporter_versions import WIRE_STYLES, ExporterVersion
from sample_data.workload import node_state

AT = datetime(2026, 11, 18, 10, 0, tzinfo=UTC)
NODES = [node.name for node in simulated_cluster().nodes]
MIG_NODES = [node.name for node in simulated_cluster().nodes if any(gpu.mig_enabled for gpu in node.gpus)]
LINE = re.compile(r"(\w+)\{(.*)\} (\S+)")
UNDER_MIG_ABSENT = ("GPU_UTIL", "MEM_COPY_UTIL", "MEMORY_UTIL", "ENC_UTIL", "DEC_UTIL", "REMAP")


class Line:
    """One sample line, taken apart by a plain regular expression."""

    def __init__(self, text: str) -> None:
        match = LINE.fullmatch(text)
        assert match, text
        self.name, labels, value = match.groups()
        self.labels = dict(re.findall(r'(\w+)="([^"]*)"', labels))
        self.label_names = re.findall(r'(\w+)="', labels)
        self.text_value = value
        self.value = float(value)

    @property
    def device(self) -> tuple[str, str | None]:
        return self.labels["UUID"], self.labels.get("GPU_I_ID")


def _lines(name: str, at: datetime = AT, *, version: ExporterVersion | None = None) -> list[Line]:
    text = exposition(simulated_cluster(), name, at, version=version)
    return [Line(line) for line in text.splitlines() if not line.startswith("#")]


def _node(name: str) -> SimulatedNode:
    return simulated_cluster().node(name)


@pytest.mark.parametrize("name", NODES)
@pytest.mark.parametrize("version", list(ExporterVersion))
def test_the_prometheus_parser_reads_every_version(name: str, version: ExporterVersion) -> None:
    text = exposition(simulated_cluster(), name, AT, version=version)
    families = list(text_string_to_metric_families(text))
    assert sum(len(family.samples) for family in families) == len(_lines(name, version=version))
    assert all(family.documentation and family.type in {"gauge", "counter"} for family in families)
    assert text.endswith("\n")
    assert "# EOF" not in text


@pytest.mark.parametrize("name", NODES)
def test_no_series_appears_twice(name: str) -> None:
    series = Counter((line.name, tuple(sorted(line.labels.items()))) for line in _lines(name))
    assert max(series.values()) == 1
    devices = Counter((line.name, *line.device) for line in _lines(name))
    assert max(devices.values()) == 1


@pytest.mark.parametrize("name", NODES)
def test_every_family_is_declared_once_before_its_lines(name: str) -> None:
    text = exposition(simulated_cluster(), name, AT).splitlines()
    declared = [line.split()[2] for line in text if line.startswith("# TYPE")]
    assert len(declared) == len(set(declared))
    current = None
    for position, line in enumerate(text):
        if line.startswith("# HELP"):
            current = line.split()[2]
            assert text[position + 1].split()[:3] == ["#", "TYPE", current]
        elif not line.startswith("#"):
            assert line.startswith(f"{current}{{")


def test_labels_come_in_the_order_of_the_exporters_template() -> None:
    for name in NODES:
        style = WIRE_STYLES[_node(name).kind.exporter]
        for line in _lines(name):
            head = ["gpu", "UUID", "pci_bus_id", "device", "modelName"]
            if "GPU_I_ID" in line.labels:
                head += ["GPU_I_PROFILE", "GPU_I_ID"]
            head += [style.hostname_label, style.driver_label]
            assert line.label_names[: len(head)] == head
            rest = line.label_names[len(head) :]
            assert rest == sorted(rest)


def test_names_and_units_change_with_version_4_9() -> None:
    old = {line.name: line for line in _lines("gpu-h100-03", version=ExporterVersion.V4_6)}
    new = {line.name: line for line in _lines("gpu-h100-03", version=ExporterVersion.V4_7)}
    for before, after, factor in (
        ("DEV_SM_CLOCK", "DEV_SM_CLOCK_HERTZ", 1e6),
        ("DEV_GPU_TEMP", "DEV_GPU_TEMP_CELSIUS", 1),
        ("DEV_POWER_USAGE", "DEV_BOARD_POWER_WATTS", 1),
        ("DEV_FB_USED", "DEV_FB_USED_BYTES", 2**20),
        ("DEV_GPU_UTIL", "DEV_GPU_UTIL_RATIO", 0.01),
        ("PROF_SM_ACTIVE", "PROF_SM_UTIL_RATIO", 1),
    ):
        assert new[f"DCGM_FI_{after}"].value == pytest.approx(factor * old[f"DCGM_FI_{before}"].value)
        assert f"DCGM_FI_{before}" not in new
        assert f"DCGM_FI_{after}" not in old
    energy_mj, energy_j = old["DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION"], new["DCGM_FI_DEV_GPU_ENERGY_JOULES_TOTAL"]
    assert energy_j.value == pytest.approx(energy_mj.value / 1000, abs=1)
    assert "DCGM_FI_DEV_FB_CAPACITY_BYTES" in new


def test_every_renamed_field_is_renamed_as_the_recorded_table_says(reference: Path) -> None:
    with (reference / "payloads/dcgm-exporter/rename_4.8_to_4.9.csv").open() as file:
        renamed = {row["name_le_4.8.4"]: row["name_ge_4.9.0"] for row in csv.DictReader(file)}
    for name in NODES:
        old = {line.name for line in _lines(name, version=ExporterVersion.V4_6)}
        new = {line.name for line in _lines(name, version=ExporterVersion.V4_7)}
        expected = {renamed.get(each, each) for each in old}
        assert expected <= new
        assert new - expected == {"DCGM_FI_DEV_FB_CAPACITY_BYTES"}


def test_both_generations_and_both_spellings_of_the_host_are_in_the_fleet() -> None:
    names = {line.name for name in NODES for line in _lines(name)}
    assert {"DCGM_FI_DEV_FB_USED", "DCGM_FI_DEV_FB_USED_BYTES"} <= names
    labels = {label for name in NODES for line in _lines(name) for label in line.labels}
    assert {"Hostname", "hostname", "DCGM_FI_DRIVER_VERSION", "DCGM_FI_SYSTEM_DRIVER_VERSION", "pod_uid"} <= labels


@pytest.mark.parametrize("name", MIG_NODES)
def test_fields_that_mig_does_not_have_are_absent(name: str) -> None:
    cut = {gpu.uuid for gpu in _node(name).gpus if gpu.mig_enabled}
    for line in _lines(name):
        if line.labels["UUID"] in cut:
            assert not any(word in line.name for word in UNDER_MIG_ABSENT), line.name


def test_a_whole_gpu_has_the_fields_that_mig_does_not_have() -> None:
    names = {line.name for line in _lines("gpu-h100-01") if "GPU_I_ID" not in line.labels}
    assert {"DCGM_FI_DEV_GPU_UTIL_RATIO", "DCGM_FI_DEV_ROW_REMAP_FAILED", "DCGM_FI_DEV_FB_USED_BYTES"} <= names


@pytest.mark.parametrize("name", MIG_NODES)
def test_a_cut_gpu_speaks_through_its_instances_only(name: str) -> None:
    for gpu in _node(name).gpus:
        ids = {line.labels.get("GPU_I_ID") for line in _lines(name) if line.labels["UUID"] == gpu.uuid}
        assert ids == ({str(each.gi_id) for each in gpu.instances} if gpu.instances else {None})


@pytest.mark.parametrize("name", MIG_NODES)
def test_whole_gpu_values_repeat_on_every_instance(name: str) -> None:
    values: dict[tuple[str, str], set[str]] = {}
    for line in _lines(name):
        if any(word in line.name for word in ("CLOCK", "TEMP", "POWER", "ENERGY", "PCIE", "XID")):
            values.setdefault((line.name, line.labels["UUID"]), set()).add(line.text_value)
    assert values
    assert all(len(seen) == 1 for seen in values.values())


def test_memory_is_told_per_instance() -> None:
    memory = {line.device: line for line in _lines("gpu-h100-01") if line.name == "DCGM_FI_DEV_FB_CAPACITY_BYTES"}
    for gpu in _node("gpu-h100-01").gpus:
        for instance in gpu.instances or ():
            line = memory[gpu.uuid, str(instance.gi_id)]
            assert line.value == instance.hardware.memory_mib * 2**20
            assert line.labels["GPU_I_PROFILE"] == instance.profile


def test_mig_mode_without_an_instance_has_a_line_but_no_memory() -> None:
    empty = next(gpu for gpu in _node("gpu-a100-01").gpus if gpu.instances == ())
    names = {line.name for line in _lines("gpu-a100-01") if line.labels["UUID"] == empty.uuid}
    assert {"DCGM_FI_DEV_GPU_TEMP", "DCGM_FI_PROF_GR_ENGINE_ACTIVE"} <= names
    assert not any("_FB_" in name for name in names)


def test_free_devices_have_empty_pod_labels_on_old_and_none_on_new_exporters() -> None:
    def free(name: str) -> list[dict[str, str]]:
        return [line.labels for line in _lines(name) if not line.labels.get("pod")]

    assert free("gpu-a100-01")
    assert all(labels["pod"] == labels["namespace"] == labels["container"] == "" for labels in free("gpu-a100-01"))
    assert free("gpu-h100-03")
    assert all({"pod", "namespace", "container"}.isdisjoint(labels) for labels in free("gpu-h100-03"))


def test_pod_labels_name_the_pod_that_holds_the_device() -> None:
    gpu = _node("gpu-h100-03").gpus[0]
    assert gpu.pod is not None
    line = next(line for line in _lines("gpu-h100-03") if line.labels["UUID"] == gpu.uuid)
    assert line.labels["pod"] == gpu.pod.name
    assert line.labels["namespace"] == "assistant"
    assert line.labels["container"] == "vllm"
    assert line.labels["pod_uid"] == gpu.pod.uid


def test_one_node_reports_the_exporter_pod_as_its_host() -> None:
    hosts = {
        name: {line.labels.get("Hostname", line.labels.get("hostname")) for line in _lines(name)} for name in NODES
    }
    assert hosts.pop("gpu-a100-01") == {_node("gpu-a100-01").exporter_pod}
    assert hosts == {name: {name} for name in hosts}


def test_a_new_xid_is_a_new_series_and_stays() -> None:
    node = _node("gpu-h100-03")
    ill = next(gpu for gpu in node.gpus if gpu.xid)

    def told(at: datetime) -> tuple[str, str, float]:
        line = next(
            line
            for line in _lines("gpu-h100-03", at)
            if line.name == "DCGM_FI_DEV_XID_ERRORS" and line.labels["UUID"] == ill.uuid
        )
        return line.labels["err_code"], line.labels["err_msg"], line.value

    assert told(ill.xid_at - timedelta(minutes=1)) == ("0", "No Error", 0)
    assert told(ill.xid_at + timedelta(minutes=1)) == ("94", "Contained ECC error", 94)
    assert told(AT) == ("94", "Contained ECC error", 94)


def test_old_exporters_have_no_error_labels_and_no_reserved_memory() -> None:
    lines = _lines("gpu-a100-01")
    assert not any("err_code" in line.labels for line in lines)
    assert not any("RESERVED" in line.name for line in lines)


def test_one_node_has_no_profiling_but_the_engine() -> None:
    profiling = {name: {line.name for line in _lines(name) if "_PROF_" in line.name} for name in NODES}
    assert profiling["gpu-l40s-01"] == {"DCGM_FI_PROF_GR_ENGINE_ACTIVE"}
    assert all(
        {"DCGM_FI_PROF_SM_ACTIVE", "DCGM_FI_PROF_SM_UTIL_RATIO"} & names
        for name, names in profiling.items()
        if name != "gpu-l40s-01"
    )


def test_label_values_are_written_as_they_are() -> None:
    """The Go template escapes nothing: what breaks strict parsers in the field must be able to break them here."""
    node = _node("gpu-l40s-01")
    board = replace(node.kind.board, product='NVIDIA "L40S"\\')
    odd = replace(node, gpus=tuple(replace(gpu, board=board) for gpu in node.gpus))
    cluster = SimulatedCluster(seed=1, nodes=(odd,), by_name={odd.name: odd})
    assert 'modelName="NVIDIA "L40S"\\",Hostname=' in exposition(cluster, odd.name, AT)


def test_integers_are_integers_and_doubles_have_six_decimals() -> None:
    for name in NODES:
        for line in _lines(name):
            double = any(word in line.name for word in ("_PROF_", "POWER_USAGE", "WATTS", "SECONDS", "UTIL_RATIO"))
            form = r"\d+\.\d{6}" if double and "PCIE" not in line.name and "PER_SECOND" not in line.name else r"\d+"
            assert re.fullmatch(form, line.text_value), (line.name, line.text_value)


def test_two_scrapes_in_one_interval_are_identical() -> None:
    cluster = simulated_cluster()
    first = exposition(cluster, "gpu-h100-02", AT)
    assert exposition(cluster, "gpu-h100-02", AT + timedelta(seconds=29)) == first
    assert exposition(cluster, "gpu-h100-02", AT + timedelta(seconds=30)) != first


def test_values_are_those_of_the_state() -> None:
    state = node_state(_node("gpu-h200-01"), AT)
    lines = {(line.name, line.labels["gpu"]): line.value for line in _lines("gpu-h200-01")}
    for gpu in state:
        index = str(gpu.gpu.index)
        assert lines["DCGM_FI_DEV_BOARD_POWER_WATTS", index] == pytest.approx(gpu.power_watts, abs=1e-6)
        assert lines["DCGM_FI_DEV_FB_USED_BYTES", index] == gpu.devices[0].memory_used_bytes
        assert lines["DCGM_FI_PROF_SM_UTIL_RATIO", index] == pytest.approx(gpu.devices[0].sm_active_ratio, abs=1e-6)


def test_an_unknown_node_is_an_error() -> None:
    with pytest.raises(KeyError):
        exposition(simulated_cluster(), "nowhere", AT)
