"""The scripts, run by bash on a fake nvidia-smi, reach the target wave by wave and come back; refusals stop them."""

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from planner.errors import PlannerError
from planner.mig.exports import Format, export
from planner.mig.plan import Action, ChangePlan, Mode
from planner.mig.problem import Problem
from planner.mig.state import with_starts
from tests.planner.mig.exports.hostile import NAMES, hostile_plan
from tests.planner.mig.plans import PLANS, example, gpu, planned, problem, workloads_of

FAKE = Path(__file__).with_name("fake_nvidia_smi.py")

HOOK = f"""#!{sys.executable}
import json, os, sys
verb, workload, gpu, start = sys.argv[1:]
path = os.environ["FAKE_GPUS"]
state = json.load(open(path))
held = next(one for one in state["gpus"].values() if gpu in (one["uuid"], str(one["index"])))
instance = next(one for one in held["instances"] if one["start"] == int(start))
for part in instance["compute"]:
    if part[1] == (None if verb == "start" else workload):
        part[1] = workload if verb == "start" else None
        break
else:
    sys.exit(f"cannot {{verb}} {{workload}} there")
json.dump(state, open(path, "w"))
"""

Cut = dict[str, list[tuple[str, int, list[str], list[str]]]]
"""By GPU, of every instance: profile, start, compute instances, workloads."""


class Cluster:
    """Nodes with a fake nvidia-smi each, and the scripts of an export."""

    def __init__(self, folder: Path, asked: Problem, change: ChangePlan) -> None:
        self.folder, self.asked, self.change = folder, asked, change
        self.files = dict(export(Format.NVIDIA_SMI, asked, change))
        tools = folder / "bin"
        tools.mkdir()
        for name, text in (("nvidia-smi", f'#!/bin/sh\nexec {sys.executable} -S {FAKE} "$@"\n'), ("hook", HOOK)):
            (tools / name).write_text(text)
            (tools / name).chmod(0o755)
        scripts = folder / "scripts"
        scripts.mkdir()
        for name, text in self.files.items():
            (scripts / name).write_text(text)
        self.scripts = {name: scripts / name for name in self.files}
        self.node_of = self._nodes()
        self.ids: dict[str, dict[str, str]] = {}
        for node in set(self.node_of.values()):
            self._write(node)

    def _nodes(self) -> dict[str, str]:
        return {gpu.id: gpu.node for gpu in self.change.target.gpus}

    def _write(self, node: str) -> None:
        members = sorted((gpu for gpu in self.change.target.gpus if gpu.node == node), key=lambda one: one.id)
        known = {gpu.id: gpu for gpu in self.asked.gpus}
        state: dict[str, Any] = {"gpus": {}, "next": 11}
        for index, member in enumerate(members):
            before = known.get(member.id)
            profiles = {
                str(one.profile_id): {
                    "name": one.name,
                    "size": one.memory_slices,
                    "starts": [placement.start for placement in one.placements],
                    "most": one.max_instances,
                    "slices": one.compute_slices,
                }
                for one in member.board.profiles
            }
            ids = {row["name"]: key for key, row in profiles.items()}
            instances = []
            for number, one in enumerate(with_starts(before) if before else ()):
                names = one.compute_instances or (one.profile,)
                workloads = [*one.workloads, *[None] * (len(names) - len(one.workloads))]
                compute = [list(pair) for pair in zip(names, workloads, strict=True)]
                row = {"id": 5 - number, "profile": ids[one.profile], "start": one.start, "compute": compute}
                instances.append(row)
            self.ids[member.id] = {"node": node, "index": str(index)}
            state["gpus"][str(index)] = {
                "uuid": member.id if member.id.startswith("GPU-") else f"uuid-{index}",
                "index": index,
                "mig": bool(instances) or bool(before and before.mig_enabled),
                "resets": member.board.mig_enable_resets_gpu,
                "profiles": profiles,
                "instances": instances,
            }
        self.path(node).write_text(json.dumps(state))

    def path(self, node: str) -> Path:
        return self.folder / f"{sorted(set(self.node_of.values())).index(node)}.json"

    def run(self, script: str, node: str, wave: str, *, has_hook: bool = True) -> subprocess.CompletedProcess[str]:
        environment = {
            "PATH": f"{self.folder / 'bin'}:/usr/bin:/bin",
            "FAKE_GPUS": str(self.path(node)),
            "FAKE_GPUS_LOG": str(self.folder / "log"),
        }
        if has_hook:
            environment["GPUFLEET_WORKLOAD_HOOK"] = str(self.folder / "bin" / "hook")
        return subprocess.run(
            ["bash", str(self.scripts[script]), wave],
            cwd=self.folder / "scripts",
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )

    def run_all(self, title: str) -> None:
        """The commands of one part of the order file, as it lists them."""
        part = self.files["order.txt"].split(f"{title}:")[1].split("\n\n")[0]
        for line in part.splitlines():
            words = line.split()
            if words[:1] == ["bash"]:
                node = self.node_of_script(words[1])
                done = self.run(words[1], node, words[2])
                assert done.returncode == 0, (line, done.stdout, done.stderr)

    def node_of_script(self, script: str) -> str:
        name = script.removesuffix(".sh").removesuffix(".rollback")
        return next(node for node in self.node_of.values() if node == name)

    def cut(self) -> Cut:
        found: Cut = {}
        for name, at in self.ids.items():
            one = json.loads(self.path(at["node"]).read_text())["gpus"][at["index"]]
            found[name] = sorted(
                (
                    one["profiles"][row["profile"]]["name"],
                    row["start"],
                    sorted(part for part, _ in row["compute"]),
                    sorted(workload for _, workload in row["compute"] if workload),
                )
                for row in one["instances"]
            )
        return found

    def log(self) -> list[list[str]]:
        path = self.folder / "log"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def target_of(change: ChangePlan) -> Cut:
    return {
        gpu.id: sorted(
            (one.profile, one.start, sorted(one.compute_instances or (one.profile,)), sorted(one.workloads))
            for one in gpu.instances
        )
        for gpu in change.target.gpus
    }


@pytest.mark.parametrize("name", PLANS)
def test_the_scripts_lead_to_the_target_and_back(name: str, tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, *example(name))
    began = cluster.cut()
    cluster.run_all("The change")
    assert cluster.cut() == target_of(cluster.change)
    cluster.run_all("The way back")
    assert cluster.cut() == began


def test_every_instance_is_created_at_an_explicit_start_by_the_id_of_its_profile(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, *example("growing"))
    cluster.run_all("The change")
    created = [words[words.index("-cgi") + 1] for words in cluster.log() if "-cgi" in words]
    steps = [step for step in cluster.change.steps if step.action is Action.CREATE]
    assert len(created) == len(steps)
    assert all(":" in asked for asked in created)


def test_a_gpu_that_is_cut_otherwise_stops_the_script_before_it_changes_anything(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, *example("spread out"))
    state = json.loads(cluster.path("b").read_text())
    state["gpus"]["0"]["instances"][0]["start"] = 0
    cluster.path("b").write_text(json.dumps(state))
    done = cluster.run("b.sh", "b", "1")
    assert done.returncode == 1
    assert "GPU 0 holds '0:14' and the plan was made for" in done.stderr
    assert not any({"-cgi", "-dgi", "-dci"} & set(words) for words in cluster.log())


def test_a_workload_that_still_runs_stops_the_script(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, *example("cramped"))
    before = cluster.cut()
    for wave in ("1", "2"):
        done = cluster.run("b.sh", "b", wave, has_hook=False)
    assert "stop workload red-1" in done.stdout
    assert done.returncode != 0
    assert cluster.cut() == before


def test_mig_mode_that_stays_pending_stops_the_script(tmp_path: Path) -> None:
    gpus = [gpu("g0", "a", mig_enabled=False)]
    asked = problem(gpus=gpus, new=[{"id": "n", "profile": "7g.40gb"}])
    cluster = Cluster(tmp_path, asked, planned(asked, Mode.ADD))
    state = json.loads(cluster.path("a").read_text())
    state["gpus"]["0"]["instances"] = [{"id": 1, "profile": "19", "start": 0, "compute": [["1g.5gb", "someone"]]}]
    cluster.path("a").write_text(json.dumps(state))
    done = [cluster.run("a.sh", "a", wave) for wave in ("1", "2")]
    assert "MIG mode of GPU 0 is 'Disabled'" in "".join(one.stderr for one in done)
    assert done[-1].returncode == 1


def test_without_a_wave_a_script_does_nothing(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, *example("cramped"))
    for wave in ("", "9", "1; touch pwned", "*"):
        done = cluster.run("a.sh", "a", wave)
        assert done.returncode == 1
        assert "say which wave to run, one of: 1 3" in done.stderr
    assert cluster.log() == []


def test_a_uuid_addresses_the_gpu_itself(tmp_path: Path) -> None:
    uuid = "GPU-8f2c1d90-3e5a-4b17-9c2e-5da9abb51763"
    gpus = [gpu("GPU-0", "a"), gpu(uuid, "a", ("1g.5gb", 0, "w"), ("1g.5gb", 1, None))]
    asked = problem(gpus=gpus, workloads=workloads_of(gpus), new=[{"id": "n", "profile": "4g.20gb"}])
    cluster = Cluster(tmp_path, asked, planned(asked, Mode.ADD))
    cluster.run_all("The change")
    assert cluster.cut() == target_of(cluster.change)
    assert {words[words.index("-i") + 1] for words in cluster.log()} <= {uuid, "0"}


def test_hostile_names_run_nothing(tmp_path: Path) -> None:
    asked, change = hostile_plan()
    files = dict(export(Format.NVIDIA_SMI, asked, change))
    assert len({name.lower() for name in files}) == len(files) == 2 * len(NAMES) + 1
    assert all(len(name) < 130 and name[0] not in "-." and "/" not in name and name.isprintable() for name in files)
    calls = tmp_path / "calls"
    for tool in ("nvidia-smi", "hook"):
        path = tmp_path / "bin" / tool
        path.parent.mkdir(exist_ok=True)
        path.write_text('#!/bin/bash\nprintf "%s\\0" "$0" "$@" >>"$CALLS"\necho "| 0 MIG 1g.5gb 19 9 0:1 |"\n')
        path.chmod(0o755)
    environment: Mapping[str, str] = {
        "PATH": f"{tmp_path / 'bin'}:/usr/bin:/bin",
        "CALLS": str(calls),
        "GPUFLEET_WORKLOAD_HOOK": str(tmp_path / "bin" / "hook"),
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    for name in files:
        if name.endswith(".sh"):
            for wave in ("1", "2", "3"):
                subprocess.run(["bash", name, wave], cwd=tmp_path, env=environment, capture_output=True, check=False)
    assert {path.name for path in tmp_path.iterdir()} == {"bin", "calls", *files}
    assert b"hook" in calls.read_bytes()


def test_the_scripts_are_valid_shell(tmp_path: Path) -> None:
    for name in PLANS:
        try:
            files = export(Format.NVIDIA_SMI, *example(name))
        except PlannerError as error:
            pytest.fail(str(error))
        for file, text in files.items():
            if file.endswith(".sh"):
                subprocess.run(["bash", "-n"], input=text, text=True, check=True)
