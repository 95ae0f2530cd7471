"""The GPU Operator's form: a ConfigMap with mig-parted's file, and a `nvidia.com/mig.config` label for every node.

Sources: GPU Operator documentation 25.10, "GPU Operator with MIG" (custom ConfigMap with the key `config.yaml`,
`migManager.config.name` of the ClusterPolicy, the label and its state label); Kubernetes: label values of at most 63
letters, digits, `-`, `_` and `.`; a ConfigMap of at most 1 MiB.
"""

import shlex
from collections.abc import Iterator, Sequence

from planner.mig.exports.mig_parted import NodeConfig, config_lines, header, node_configs
from planner.mig.exports.nodes import ExportNode, comment_lines, export_nodes, printable
from planner.mig.plan import ChangePlan
from planner.mig.problem import Problem

CONFIG_MAP = "gpufleet-mig-config"
CONFIG_MAP_FILE = "mig-config.yaml"
LABELS_FILE = "label-nodes.sh"

CONFIG_MAP_LIMIT_BYTES = 2**20
_PATCH = f'{{"spec":{{"migManager":{{"config":{{"name":"{CONFIG_MAP}"}}}}}}}}'


def export(problem: Problem, change: ChangePlan) -> dict[str, str]:
    """The ConfigMap, and the commands that label the nodes."""
    nodes = export_nodes(problem, change)
    configs = node_configs(nodes)
    config_map = "\n".join([*header(nodes, change, f"{LABELS_FILE} applies it."), *_config_map(configs)]) + "\n"
    size = len(config_map.encode())
    return {CONFIG_MAP_FILE: config_map, LABELS_FILE: "\n".join(_labels(configs, nodes, change, size)) + "\n"}


def _config_map(configs: Sequence[NodeConfig]) -> Iterator[str]:
    yield "apiVersion: v1"
    yield "kind: ConfigMap"
    yield "metadata:"
    yield f"  name: {CONFIG_MAP}"
    yield "data:"
    yield "  config.yaml: |"
    yield from (f"    {line}" if line else "" for line in config_lines(configs, with_nodes=False))


def _labels(
    configs: Sequence[NodeConfig], nodes: Sequence[ExportNode], change: ChangePlan, config_map_bytes: int
) -> Iterator[str]:
    yield "#!/usr/bin/env bash"
    yield from comment_lines(
        "gpufleet: gives every node of a plan its MIG configuration. MIG Manager reconfigures a node as soon as its "
        "label changes and fails while anything runs on the GPUs it changes: drain the node first, label it, and wait "
        "until its label nvidia.com/mig.config.state says success before the next:"
    )
    yield r"#   kubectl get node NODE -o jsonpath='{.metadata.labels.nvidia\.com/mig\.config\.state}'"
    if any(len({name for _, _, devices in config.body for name, _ in devices}) > 1 for config in configs):
        yield from comment_lines("Some nodes hold several profiles: the ClusterPolicy needs mig.strategy mixed.")
    if config_map_bytes > CONFIG_MAP_LIMIT_BYTES:
        yield from comment_lines(
            f"The ConfigMap has {config_map_bytes} bytes and Kubernetes takes 1 MiB: export the plan of a part of the "
            "fleet at a time."
        )
    yield "set -euo pipefail"
    yield 'here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"'
    yield 'namespace="${NAMESPACE:-gpu-operator}"'
    yield ""
    yield f'kubectl apply --namespace "$namespace" --filename "$here/{CONFIG_MAP_FILE}"'
    yield f"kubectl patch clusterpolicies.nvidia.com/cluster-policy --type merge --patch {shlex.quote(_PATCH)}"
    names = {node.name: config.name for config in configs for node in config.nodes}
    waves = _first_waves(change)
    for node in sorted(nodes, key=lambda node: waves.get(node.name, len(change.steps) + 1)):
        yield ""
        yield from _label(node, names.get(node.name))


def _first_waves(change: ChangePlan) -> dict[str, int]:
    waves: dict[str, int] = {}
    for step in change.steps:
        waves.setdefault(step.node, step.wave)
    return waves


def _label(node: ExportNode, config_name: str | None) -> Iterator[str]:
    if config_name is None:
        yield from comment_lines(f"node {node.name}: nothing to configure")
        return
    if all(gpu.after.is_new for gpu in node.gpus):
        yield from comment_lines(f"{node.name} is to be added; under its real name, once it is there:")
        yield f"#   kubectl label node NODE nvidia.com/mig.config={config_name} --overwrite"
        return
    if node.kubernetes_name is None:
        yield from comment_lines(f"{node.name} is no name of a Kubernetes node; its configuration is {config_name}")
        return
    changed = node.cleared_by_mig_parted
    drained = [printable(name) for gpu in changed for name in gpu.workloads_before()]
    if drained:
        yield from comment_lines(f"drain first: {', '.join(drained)}")
    elif not changed:
        yield "# nothing changes on its GPUs"
    yield f"kubectl label node {shlex.quote(node.kubernetes_name)} nvidia.com/mig.config={config_name} --overwrite"
