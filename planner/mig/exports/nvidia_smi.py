"""Shell scripts of `nvidia-smi` commands: one per node, run wave by wave, for the way to the target and back.

Only these keep the starts of the plan and everything that the plan leaves running. Ids of GPU instances are not known
before they exist, so each is looked up by its start in `nvidia-smi mig -lgi`. Any command that the driver refuses ends
the script. Sources: `nvidia-smi mig -h` and MIG User Guide r590, "Getting started": -cgi PROFILE:START, -C, -dci, -dgi.
"""

import shlex
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from string import ascii_letters, digits

from planner.catalog import find_profile
from planner.compute_instances import find_compute_profile
from planner.hardware import Board
from planner.mig.exports.nodes import ExportGpu, ExportNode, comment_lines, export_nodes, printable
from planner.mig.plan import Action, ChangePlan, Step
from planner.mig.problem import Problem
from planner.sentences import spelled_count

ORDER_FILE = "order.txt"

_LONGEST_FILE_NAME = 100

_FUNCTIONS = r"""
refuse() { printf 'gpufleet: %s\n' "$1" >&2; exit 1; }

# instances GPU: START:PROFILE:ID of every GPU instance. The driver calls it an error when there is none.
instances() {
  local table
  if ! table="$(nvidia-smi mig -i "$1" -lgi 2>&1)"; then
    case "$table" in
      *"No GPU instances found"* | *"No MIG-enabled devices found"*) return 0 ;;
      *) printf '%s\n' "$table" >&2; return 1 ;;
    esac
  fi
  awk '{
    for (i = 3; i <= NF; i++)
      if ($i ~ /^[0-9]+:[0-9]+$/) { split($i, at, ":"); print at[1] ":" $(i - 2) ":" $(i - 1) }
  }' <<<"$table"
}

# instance GPU START PROFILE: the id of the GPU instance that starts there
instance() {
  local found
  found="$(instances "$1")"
  found="$(awk -F: -v start="$2" -v profile="$3" '$1 == start && $2 == profile { print $3 }' <<<"$found")"
  [ -n "$found" ] || refuse "GPU $1 has no instance of profile $3 at $2; the plan was made for another state."
  printf '%s\n' "$found"
}

# check GPU START:PROFILE...: the GPU is cut exactly like that
check() {
  local gpu="$1" found wanted
  shift
  found="$(instances "$gpu")"
  found="$(cut -d: -f1,2 <<<"$found" | sort | xargs)"
  wanted="$(printf '%s\n' "$@" | sort | xargs)"
  [ "$found" = "$wanted" ] || refuse "GPU $gpu holds '$found' and the plan was made for '$wanted' (START:PROFILE)."
}

# mode GPU 0|1: switches MIG mode; where the GPU has to be reset for it, nothing may use it
mode() {
  local now wanted=Disabled
  if [ "$2" = 1 ]; then wanted=Enabled; fi
  nvidia-smi -i "$1" -mig "$2"
  now="$(nvidia-smi -i "$1" --query-gpu=mig.mode.current --format=csv,noheader)"
  [ "$now" = "$wanted" ] || refuse "MIG mode of GPU $1 is '$now'; stop what uses the GPU, reset it, and run this again."
}

# create GPU START PROFILE [COMPUTE-INSTANCE...]: without any, one compute instance over all of it
create() {
  local gpu="$1" start="$2" profile="$3" id IFS=,
  shift 3
  if [ "$#" = 0 ]; then
    nvidia-smi mig -i "$gpu" -cgi "$profile:$start" -C
  else
    nvidia-smi mig -i "$gpu" -cgi "$profile:$start"
    id="$(instance "$gpu" "$start" "$profile")"
    nvidia-smi mig -i "$gpu" -gi "$id" -cci "$*"
  fi
}

# destroy GPU START PROFILE: its compute instances, then the instance; the driver refuses while anything runs there
destroy() {
  local id
  id="$(instance "$1" "$2" "$3")"
  if nvidia-smi mig -i "$1" -gi "$id" -lci >/dev/null 2>&1; then nvidia-smi mig -i "$1" -gi "$id" -dci; fi
  nvidia-smi mig -i "$1" -gi "$id" -dgi
}

# workload start|stop NAME GPU START: nothing here touches the cluster. Either a program of yours does, named in
# GPUFLEET_WORKLOAD_HOOK, or you do when asked.
workload() {
  printf 'gpufleet: %s workload %s (GPU %s, start %s)\n' "$@"
  if [ -n "${GPUFLEET_WORKLOAD_HOOK:-}" ]; then
    "$GPUFLEET_WORKLOAD_HOOK" "$@"
  elif [ -t 0 ]; then
    read -r -p 'Press Enter when that is done. ' _
  fi
}
""".strip()


def export(problem: Problem, change: ChangePlan) -> dict[str, str]:
    """A script per node that changes, one for its way back, and the order of the waves across nodes."""
    nodes = {node.name: node for node in export_nodes(problem, change)}
    names = _file_names(nodes)
    files: dict[str, str] = {}
    files[ORDER_FILE] = "\n".join(_order(change, names)) + "\n"
    for kind, steps in (("", change.steps), (".rollback", change.rollback)):
        for name, own in _by_node(steps, nodes).items():
            files[f"{names[name]}{kind}.sh"] = "\n".join(_script(nodes[name], own, is_rollback=bool(kind))) + "\n"
    return files


def _by_node(steps: Sequence[Step], nodes: Mapping[str, ExportNode]) -> dict[str, list[Step]]:
    found: dict[str, list[Step]] = defaultdict(list)
    for step in steps:
        found[step.node].append(step)
    return {name: found[name] for name in nodes if name in found}


def _order(change: ChangePlan, names: Mapping[str, str]) -> Iterator[str]:
    yield "Copy each script to its node and run it there as root, wave by wave: `bash NODE.sh WAVE`."
    yield "Scripts of one wave may run at the same time. Start a wave when all scripts of the one before have ended."
    down = spelled_count(change.max_down, "workload")
    yield f"At most {down} will be down at one moment, if all are stopped and started when the scripts say so."
    yield "Instances do not survive a reboot or a reset, and on Hopper and later MIG mode does not either."
    for title, kind, steps in (("The change", "", change.steps), ("The way back", ".rollback", change.rollback)):
        yield ""
        yield f"{title}:" if steps else f"{title}: nothing to do."
        waves: dict[int, dict[str, None]] = defaultdict(dict)
        for step in steps:
            waves[step.wave][names[step.node]] = None
        for wave, members in sorted(waves.items()):
            yield from (f"  bash {name}{kind}.sh {wave}" for name in members)


def _script(node: ExportNode, steps: Sequence[Step], *, is_rollback: bool) -> Iterator[str]:
    waves: dict[int, list[Step]] = defaultdict(list)
    for step in steps:
        waves[step.wave].append(step)
    numbers = " ".join(map(str, sorted(waves)))
    yield "#!/usr/bin/env bash"
    what = "takes back the MIG change" if is_rollback else "changes MIG"
    yield from comment_lines(f"gpufleet: {what} of node {node.name}, one wave at a time. Run on that node, as root:")
    yield f"#   bash {'NODE.rollback.sh' if is_rollback else 'NODE.sh'} WAVE     with WAVE one of: {numbers}"
    yield from comment_lines(f"{ORDER_FILE} says which scripts belong together. GPUs of this node:")
    gpus = {gpu.after.id: gpu for gpu in node.gpus}
    used = dict.fromkeys(step.gpu for step in steps)
    for name in used:
        counted = "" if gpus[name].index_is_known or gpus[name].address == name else ", counted in the order of ids"
        yield from comment_lines(f"  {gpus[name].address}: {name} ({gpus[name].after.board.name}{counted})")
    yield "set -euo pipefail"
    yield ""
    yield _FUNCTIONS
    yield ""
    yield 'case "${1-}" in'
    for wave, members in sorted(waves.items()):
        yield f"{wave})"
        for step in members:
            yield from (f"  {line}" for line in _commands(gpus[step.gpu], step))
        yield "  ;;"
    yield "*)"
    yield f"  refuse {shlex.quote(f'say which wave to run, one of: {numbers}')}"
    yield "  ;;"
    yield "esac"


def _commands(gpu: ExportGpu, step: Step) -> Iterator[str]:
    if step.note is not None:
        yield from comment_lines(step.note)
    address = shlex.quote(gpu.address)
    board = gpu.after.board
    match step.action:
        case Action.CHECK:
            expected = [f"{start}:{_profile_id(board, profile)}" for profile, start in step.expected]
            yield " ".join(["check", address, *expected])
        case Action.ENABLE_MIG | Action.DISABLE_MIG:
            if step.resets_gpu:
                yield "# resets the GPU"
            yield f"mode {address} {1 if step.action is Action.ENABLE_MIG else 0}"
        case Action.CREATE:
            parts = _widest_first(board, step.compute_instances)
            yield " ".join(["create", *_where(address, board, step), *map(shlex.quote, parts)])
        case Action.DESTROY:
            yield " ".join(["destroy", *_where(address, board, step)])
        case Action.START | Action.STOP:
            if step.is_downtime:
                yield f"# {'downtime begins' if step.action is Action.STOP else 'downtime ends'}"
            name = shlex.quote(printable(step.workload or ""))
            yield f"workload {step.action.value} {name} {address} {step.start}"


def _where(address: str, board: Board, step: Step) -> tuple[str, str, str]:
    return address, str(step.start), _profile_id(board, step.profile or "")


def _profile_id(board: Board, name: str) -> str:
    """The driver's id of the profile: names change with the driver, ids do not."""
    profile = find_profile(board, name)
    return shlex.quote(name) if profile is None or profile.profile_id is None else str(profile.profile_id)


def _widest_first(board: Board, names: Sequence[str]) -> list[str]:
    """In that order every set that fits can be created."""

    def width(name: str) -> int:
        found = find_compute_profile(board, name)
        return found.compute_slices if found else 0

    return sorted(names, key=lambda name: (-width(name), name))


def _file_names(nodes: Mapping[str, ExportNode]) -> dict[str, str]:
    """A name for each node's files that every file system takes; a name that had to be altered carries a hash."""
    allowed = set(ascii_letters + digits + "-_.")
    names = {}
    for name in nodes:
        plain = "".join(letter if letter in allowed else "_" for letter in name)[:_LONGEST_FILE_NAME].lstrip("-.")
        is_safe = plain == name and not plain.endswith(".rollback")
        names[name] = plain if is_safe else f"{plain}-{sha256(name.encode()).hexdigest()[:8]}".lstrip("-")
    taken: dict[str, str] = {}
    for name, plain in names.items():  # some file systems do not tell upper from lower case
        if taken.setdefault(plain.lower(), name) != name:
            names[name] = f"{plain}-{sha256(name.encode()).hexdigest()[:8]}"
    return names
