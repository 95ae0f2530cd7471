"""mig-parted's file, read back by the rules of the tool: the layouts of the target and nothing else."""

from collections import Counter
from dataclasses import replace

import pytest
import yaml

from planner.catalog import load_catalog
from planner.mig.exports import Format, export
from planner.mig.plan import ChangePlan, Mode
from planner.mig.problem import Problem
from tests.planner.mig.exports.hostile import NAMES, hostile_plan
from tests.planner.mig.exports.mig_parted_format import PROFILE, Config, by_gpu, commented, read_mig_parted
from tests.planner.mig.plans import PLANS, example, gpu, planned, problem, workloads_of


def exported(asked: Problem, change: ChangePlan) -> str:
    return dict(export(Format.MIG_PARTED, asked, change))["mig-parted.yaml"]


def wanted(asked: Problem, change: ChangePlan, node: str) -> Config:
    """What the target says of a node, counted anew; GPUs are numbered by their ids."""
    known = {gpu.id: gpu for gpu in asked.gpus}
    switched = {step.gpu for step in change.steps if step.action.value == "enable-mig"}
    found: Config = {}
    for index, one in enumerate(sorted((g for g in change.target.gpus if g.node == node), key=lambda g: g.id)):
        before = known.get(one.id)
        if before is not None and before.occupied_whole:
            continue
        devices = Counter(name for i in one.instances for name in i.compute_instances or (i.profile,))
        is_on = bool(one.instances) or one.id in switched or (before is not None and bool(before.instances))
        if is_on or (before is not None and before.mig_enabled is False):
            found[index] = (is_on, dict(devices))
    return found


@pytest.mark.parametrize("name", PLANS)
def test_it_says_of_every_node_what_the_target_says(name: str) -> None:
    asked, change = example(name)
    text = exported(asked, change)
    configs = read_mig_parted(text)
    assert configs.pop("all-disabled") == [{"devices": "all", "mig-enabled": False}]
    nodes = {gpu.node for gpu in change.target.gpus}
    expected = [found for node in nodes if (found := wanted(asked, change, node))]
    written = [by_gpu(entries) for entries in configs.values()]
    assert all(config in expected for config in written)
    assert all(config in written for config in expected)
    assert len(written) == len({str(sorted(config.items())) for config in expected}), "nodes that are alike share one"


def test_nodes_that_are_cut_alike_share_one_name() -> None:
    gpus = [gpu(f"{node}{index}", node, ("3g.20gb", 0, f"{node}{index}")) for node in "abc" for index in range(8)]
    gpus[-1]["instances"][0]["profile"] = "4g.20gb"
    asked = problem(gpus=gpus, workloads=workloads_of(gpus))
    text = exported(asked, planned(asked, Mode.ADD_WITHOUT_MOVES))
    assert list(read_mig_parted(text))[:2] == ["all-disabled", "gpufleet-8gpu-1x3g.20gb"]
    assert len(read_mig_parted(text)) == 3
    assert "2 nodes: a, b" in commented(text)


def test_a_name_depends_on_its_content_alone() -> None:
    gpus = [gpu("a0", "a", ("3g.20gb", 0, "w0")), gpu("b0", "b", ("1g.5gb+me", 0, "w1")), gpu("b1", "b")]
    few = problem(gpus=gpus[:1], workloads=workloads_of(gpus[:1]))
    all_of_them = problem(gpus=gpus, workloads=workloads_of(gpus))
    names = [set(read_mig_parted(exported(one, planned(one, Mode.ADD_WITHOUT_MOVES)))) for one in (few, all_of_them)]
    assert names[0] < names[1]


def test_compute_instances_are_mig_devices_of_their_own() -> None:
    asked, change = example("growing")
    configs = [
        by_gpu(entries) for name, entries in read_mig_parted(exported(asked, change)).items() if "disabled" not in name
    ]
    assert any(
        devices.get("1c.3g.20gb") == 1 and devices.get("2c.3g.20gb") == 1
        for one in configs
        for _, devices in one.values()
    )


def test_every_profile_of_the_catalogue_can_be_written() -> None:
    for board in load_catalog().boards:
        for profile in board.profiles:
            assert PROFILE.fullmatch(profile.name), profile.name


def test_it_says_what_the_format_cannot() -> None:
    asked, change = example("spread out")
    text = commented(exported(asked, change))
    assert "has no start positions" in text
    assert "starts of the plan are not guaranteed" in text
    assert "counted in the order of their ids" in text


def test_it_names_what_it_would_stop_beside_the_plan() -> None:
    gpus = [gpu("g0", "a", ("3g.20gb", 0, "stays")), gpu("g1", "a", ("1g.5gb", 0, "moves"))]
    asked = problem(gpus=gpus, workloads=workloads_of(gpus))
    text = commented(exported(asked, planned(asked, Mode.RECONFIGURE)))
    assert "1 workload that the plan keeps running would be stopped beside those it moves: stays." in text


def test_it_names_gpus_whose_starts_it_leaves_alone() -> None:
    gpus = [gpu("g0", "a", ("1g.5gb", 0, "w0"), ("1g.5gb", 4, "w1"))]
    asked = problem(gpus=gpus, workloads=workloads_of(gpus))
    change = planned(asked, Mode.ADD_WITHOUT_MOVES)
    assert "leaves them alone" not in commented(exported(asked, change))
    one = change.target.gpus[0]
    moved = replace(one, instances=(one.instances[0], replace(one.instances[1], start=1)))
    shifted = replace(change, target=replace(change.target, gpus=(moved,)))
    assert "mig-parted does not see GPUs that keep their MIG devices at other starts, and leaves them alone: g0." in (
        commented(exported(asked, shifted))
    )


def test_it_warns_where_mig_mode_resets_the_gpus_of_the_node() -> None:
    gpus = [gpu("g0", "a", ("7g.40gb", 0, "stays")), gpu("g1", "a", mig_enabled=False)]
    asked = problem(gpus=gpus, workloads=workloads_of(gpus), new=[{"id": "n", "profile": "7g.40gb"}])
    text = commented(exported(asked, planned(asked, Mode.ADD)))
    assert "On a MIG mode is switched" in text
    assert "stays" in text


def test_given_indexes_are_used_and_the_rest_is_counted_around_them() -> None:
    gpus = [
        gpu("x", "a", ("7g.40gb", 0, "w0"), index=1),
        gpu("b", "a", ("3g.20gb", 0, "w1")),
        gpu("c", "a", ("4g.20gb", 0, "w2")),
    ]
    asked = problem(gpus=gpus, workloads=workloads_of(gpus))
    text = exported(asked, planned(asked, Mode.ADD_WITHOUT_MOVES))
    (config,) = [by_gpu(entries) for name, entries in read_mig_parted(text).items() if name != "all-disabled"]
    assert config == {0: (True, {"3g.20gb": 1}), 1: (True, {"7g.40gb": 1}), 2: (True, {"4g.20gb": 1})}
    known = problem(gpus=[{**one, "index": 7 - n} for n, one in enumerate(gpus)], workloads=workloads_of(gpus))
    assert "counted" not in commented(exported(known, planned(known, Mode.ADD_WITHOUT_MOVES)))


def test_long_configurations_get_short_names() -> None:
    profiles = ["1g.5gb", "1g.5gb+me", "1g.10gb", "2g.10gb", "3g.20gb", "4g.20gb", "7g.40gb"]
    gpus = [gpu(f"g{number}", "a", (name, 0, f"w{number}")) for number, name in enumerate(profiles)]
    asked = problem(gpus=gpus, workloads=workloads_of(gpus))
    (name,) = set(read_mig_parted(exported(asked, planned(asked, Mode.ADD_WITHOUT_MOVES)))) - {"all-disabled"}
    assert len(name) <= 63


def test_hostile_names_stay_in_comments() -> None:
    text = exported(*hostile_plan())
    read_mig_parted(text)
    bare = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    assert yaml.safe_load(bare) == yaml.safe_load(text)
    assert not any(name in bare for name in NAMES if len(name) > 5 and name != "node")
    assert "\x1b" not in text
    assert "\x00" not in text
