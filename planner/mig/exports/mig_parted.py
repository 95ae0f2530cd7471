"""mig-parted's configuration file, `version: v1`: per GPU of a node, how many MIG devices of each profile.

Format: github.com/NVIDIA/mig-parted, api/spec/v1 (unknown keys refused; `mig-devices` only with `mig-enabled: true`).
Strings are written as JSON strings, which YAML reads alike.
"""

import json
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256

from planner.mig.exports.nodes import ExportGpu, ExportNode, MigDevices, comment_lines, export_nodes, printable
from planner.mig.order import natural_key
from planner.mig.plan import ChangePlan
from planner.mig.problem import Problem
from planner.sentences import spelled_count

FILE_NAME = "mig-parted.yaml"

_LABEL_LENGTH = 63
_HASH_LENGTH = 8

Entry = tuple[tuple[int, ...], bool, MigDevices]
"""GPU indexes, whether MIG is on, and the MIG devices."""

Body = tuple[Entry, ...]
"""All of one node."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeConfig:
    """What one or more nodes are configured with, under a name that is a valid value of a Kubernetes label."""

    name: str
    body: Body
    nodes: tuple[ExportNode, ...]


def export(problem: Problem, change: ChangePlan) -> dict[str, str]:
    """One file; which node takes which configuration stands in comments."""
    nodes = export_nodes(problem, change)
    configs = node_configs(nodes)
    apply = "Apply on a node with: nvidia-mig-parted apply -f FILE -c NAME"
    lines = [*header(nodes, change, apply), *config_lines(configs, with_nodes=True)]
    return {FILE_NAME: "\n".join(lines) + "\n"}


def node_configs(nodes: Sequence[ExportNode]) -> tuple[NodeConfig, ...]:
    """The nodes grouped by what they share; nodes of which nothing is known or changed are in none."""
    grouped: dict[Body, list[ExportNode]] = defaultdict(list)
    for node in nodes:
        body = _body(node)
        if body:
            grouped[body].append(node)
    return tuple(NodeConfig(name=_name(body), body=body, nodes=tuple(members)) for body, members in grouped.items())


def config_lines(configs: Sequence[NodeConfig], *, with_nodes: bool) -> Iterator[str]:
    """The YAML document."""
    yield "version: v1"
    yield "mig-configs:"
    yield '  "all-disabled":'  # the label every node of the GPU Operator starts with
    yield "    - devices: all"
    yield "      mig-enabled: false"
    for config in configs:
        yield ""
        if with_nodes:
            listed = ", ".join(printable(node.name) for node in config.nodes)
            yield from (f"  {line}" for line in comment_lines(f"{spelled_count(len(config.nodes), 'node')}: {listed}"))
        yield f"  {json.dumps(config.name)}:"
        for indexes, is_enabled, devices in config.body:
            yield f"    - devices: [{', '.join(map(str, indexes))}]"
            yield f"      mig-enabled: {'true' if is_enabled else 'false'}"
            if is_enabled:
                yield f"      mig-devices:{'' if devices else ' {}'}"
                yield from (f"        {json.dumps(profile)}: {count}" for profile, count in devices)


def header(nodes: Sequence[ExportNode], change: ChangePlan, how_to_apply: str) -> Iterator[str]:
    """What the format cannot say, and what applying it does beyond the plan, as comments."""
    what = f"{change.target.mode.value}, {change.target.status.value}"
    yield from comment_lines(f"gpufleet: the layouts of a plan ({what}) for mig-parted. {how_to_apply}")
    yield "#"
    yield from comment_lines(
        "The format has no start positions. mig-parted destroys every instance of a GPU whose MIG devices differ from "
        "these and then tries orders of creation until one succeeds, wherever the driver puts them: the starts of the "
        "plan are not guaranteed, and nothing keeps running on a GPU that is changed. The nvidia-smi export keeps both."
    )
    reset = [node.name for node in nodes if node.is_reset]
    if reset:
        yield from comment_lines(
            f"On {_shortened(reset)} MIG mode is switched, for which mig-parted resets the GPUs of the node: nothing "
            "keeps running on any of them."
        )
    lost = sorted(interrupted(nodes, change), key=natural_key)
    if lost:
        yield from comment_lines(
            f"So {spelled_count(len(lost), 'workload')} that the plan keeps running would be stopped beside those it "
            f"moves: {_shortened(lost)}."
        )
    rearranged = [gpu.after.id for node in nodes for gpu in node.gpus if _is_rearranged(gpu)]
    if rearranged:
        yield from comment_lines(
            "mig-parted does not see GPUs that keep their MIG devices at other starts, and leaves them alone: "
            f"{_shortened(rearranged)}."
        )
    counted = [node.name for node in nodes if node.has_counted_indexes]
    if counted:
        yield from comment_lines(
            "GPUs are addressed by their index on the node. Where the problem does not give it, they are counted in "
            f"the order of their ids; compare with `nvidia-smi -L`. So on {_shortened(counted)}."
        )
    yield "#"


def interrupted(nodes: Sequence[ExportNode], change: ChangePlan) -> set[str]:
    """Workloads that stay in the plan, and that mig-parted stops because their GPU is cleared."""
    target = {
        workload: (gpu.id, one.start)
        for gpu in change.target.gpus
        for one in gpu.instances
        for workload in one.workloads
    }
    moved = {step.workload for step in change.steps if step.workload is not None}
    return {
        workload
        for node in nodes
        for gpu in node.cleared_by_mig_parted
        for workload in gpu.workloads_before()
        if workload not in moved and workload in target
    }


def _is_rearranged(gpu: ExportGpu) -> bool:
    """Whether the same MIG devices end up at other starts; unknown starts are taken to be right."""
    if gpu.before is None or not gpu.before.instances or gpu.devices_before() != gpu.devices_after():
        return False
    after = {(one.profile, one.start) for one in gpu.after.instances}
    return any(one.start is not None and (one.profile, one.start) not in after for one in gpu.before.instances)


def _body(node: ExportNode) -> Body:
    alike: dict[tuple[bool, MigDevices], list[int]] = defaultdict(list)
    for gpu in node.gpus:
        if not gpu.is_held_whole and gpu.mig_enabled is not None:
            alike[gpu.mig_enabled, gpu.devices_after()].append(gpu.index)
    entries = [(tuple(indexes), *what) for what, indexes in alike.items()]
    return tuple(sorted(entries))


def _name(body: Body) -> str:
    """Readable, and the same for the same configuration in every plan: what differs in content differs in its hash."""
    parts = []
    for indexes, is_enabled, devices in body:
        what = "-".join(f"{count}x{re.sub('[^a-z0-9.-]', '.', profile)}" for profile, count in devices)
        parts.append(f"{len(indexes)}gpu-{what or ('empty' if is_enabled else 'off')}")
    name = f"gpufleet-{'_'.join(parts)}"
    is_plain = len(body) == 1 and body[0][0] == tuple(range(len(body[0][0]))) and "+" not in str(body)
    if is_plain and len(name) <= _LABEL_LENGTH:
        return name
    mark = sha256(json.dumps(body).encode()).hexdigest()[:_HASH_LENGTH]
    return f"{name[: _LABEL_LENGTH - _HASH_LENGTH - 1].rstrip('-_.')}-{mark}"


def _shortened(names: Sequence[str]) -> str:
    shown = ", ".join(printable(name) for name in names[:10])
    return f"{shown} and {len(names) - 10} more" if len(names) > 10 else shown
