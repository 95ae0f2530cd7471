"""The ConfigMap by Kubernetes' own rules, and label commands that a shell cannot misread."""

import json
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from planner.mig.exports import Format, export, gpu_operator
from planner.mig.plan import Mode
from tests.planner.mig.exports.hostile import hostile_plan
from tests.planner.mig.exports.mig_parted_format import LABEL_VALUE, commented, load_yaml, read_mig_parted
from tests.planner.mig.plans import PLANS, example, gpu, planned, problem, workloads_of

NODE_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")

FAKE_KUBECTL = """#!/bin/bash
printf '%s\\0' "$@" >>"$CALLS"
printf '\\n' >>"$CALLS"
"""


def files(name: str) -> dict[str, str]:
    return dict(export(Format.GPU_OPERATOR, *example(name)))


def config_map(text: str) -> dict[str, str]:
    """The data of a ConfigMap; anything that Kubernetes would refuse is refused."""
    document = load_yaml(text)
    assert set(document) == {"apiVersion", "kind", "metadata", "data"}
    assert (document["apiVersion"], document["kind"]) == ("v1", "ConfigMap")
    assert set(document["metadata"]) == {"name"}
    assert NODE_NAME.fullmatch(document["metadata"]["name"])
    assert all(
        re.fullmatch(r"[-._a-zA-Z0-9]{1,253}", key) and isinstance(value, str)
        for key, value in document["data"].items()
    )
    return dict(document["data"])


def label_commands(script: str) -> dict[str, str]:
    """Node to configuration."""
    found = {}
    for line in script.splitlines():
        words = shlex.split(line, comments=True)
        if words[:3] == ["kubectl", "label", "node"]:
            node, label, overwrite = words[3:]
            key, value = label.split("=")
            assert (key, overwrite) == ("nvidia.com/mig.config", "--overwrite")
            assert LABEL_VALUE.fullmatch(value)
            assert NODE_NAME.fullmatch(node)
            assert node not in found
            found[node] = value
    return found


@pytest.mark.parametrize("name", PLANS)
def test_every_label_names_a_configuration_of_the_config_map(name: str) -> None:
    asked, change = example(name)
    written = files(name)
    data = config_map(written["mig-config.yaml"])
    assert set(data) == {"config.yaml"}
    configs = read_mig_parted(data["config.yaml"])
    labels = label_commands(written["label-nodes.sh"])
    assert set(labels.values()) <= set(configs) - {"all-disabled"}
    assert set(labels) == {gpu.node for gpu in asked.gpus}
    later = re.findall(
        r"#   kubectl label node NODE nvidia.com/mig.config=(\S+) --overwrite", written["label-nodes.sh"]
    )
    assert {*labels.values(), *later} == set(configs) - {"all-disabled"}
    plain = export(Format.MIG_PARTED, asked, change)["mig-parted.yaml"]
    assert read_mig_parted(plain) == configs


def test_nodes_are_labelled_in_the_order_of_the_plan_and_drained_before() -> None:
    script = files("spread out")["label-nodes.sh"]
    assert "# drain first: " in script
    assert "mig.config.state" in script
    assert "mixed" in script


def test_a_node_that_does_not_change_is_said_to() -> None:
    gpus = [gpu("g0", "a", ("7g.40gb", 0, "w0"))]
    asked = problem(gpus=gpus, workloads=workloads_of(gpus))
    script = export(Format.GPU_OPERATOR, asked, planned(asked, Mode.RECONFIGURE))["label-nodes.sh"]
    assert "# nothing changes on its GPUs\nkubectl label node a" in script
    assert "mixed" not in script


def test_a_config_map_that_kubernetes_would_refuse_is_announced(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "Kubernetes takes" not in commented(files("spread out")["label-nodes.sh"])
    monkeypatch.setattr(gpu_operator, "CONFIG_MAP_LIMIT_BYTES", 1000)
    assert "Kubernetes takes 1 MiB" in commented(files("spread out")["label-nodes.sh"])


def test_hostile_names_run_nothing(tmp_path: Path) -> None:
    written = dict(export(Format.GPU_OPERATOR, *hostile_plan()))
    read_mig_parted(config_map(written["mig-config.yaml"])["config.yaml"])
    calls = tmp_path / "calls"
    kubectl = tmp_path / "bin" / "kubectl"
    kubectl.parent.mkdir()
    kubectl.write_text(FAKE_KUBECTL)
    kubectl.chmod(0o755)
    for name, text in written.items():
        (tmp_path / name).write_text(text)
    environment = {"PATH": f"{kubectl.parent}:/usr/bin:/bin", "CALLS": str(calls)}
    subprocess.run(["bash", "label-nodes.sh"], cwd=tmp_path, env=environment, check=True)
    assert {path.name for path in tmp_path.iterdir()} == {"bin", "calls", *written}
    made = [line.split("\0")[:-1] for line in calls.read_text().splitlines()]
    assert made[0][:3] == ["apply", "--namespace", "gpu-operator"]
    assert made[1][:2] == ["patch", "clusterpolicies.nvidia.com/cluster-policy"]
    assert json.loads(made[1][-1]) == {"spec": {"migManager": {"config": {"name": "gpufleet-mig-config"}}}}
    assert {call[2] for call in made[2:]} == {"a", "node", "node.rollback"}
    assert {call[0] for call in made[2:]} == {"label"}
