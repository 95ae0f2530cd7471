"""The problem file: what it means, that it can be written back, and what is said about one that is wrong."""

import json
import time
from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import assume, given, settings

from planner.catalog import load_catalog
from planner.errors import InvalidProblem
from planner.mig.file_shape import MAX_MISTAKES, check_keys
from planner.mig.problem import EVERY, Problem, Reserve, RunningInstance, Spread, Upsize, Workload
from planner.mig.problem_file import SIZE_LIMIT_BYTES, problem_document, read_problem
from planner.mig.rule_conflicts import rule_conflicts
from tests.planner.mig.problems import A100_OLD, problems

OLD_DRIVER = "470.82.01"

FULL: dict[str, Any] = {
    "version": 1,
    "gpus": [
        {
            "id": "g0",
            "node": "a",
            "board": "A100-40GB",
            "instances": [
                {"profile": "3g.20gb", "start": 4, "workload": "big"},
                {"profile": "1g.5gb", "start": None, "workload": None},
                {"profile": "2g.10gb"},
            ],
            "driver": "535.104.05",
            "index": 3,
            "mig_enabled": True,
        },
        {
            "id": "g1",
            "node": "b",
            "board": "A100 40GB",
            "instances": [
                {
                    "profile": "3g.20gb",
                    "start": 0,
                    "compute_instances": [
                        {"profile": "1c.3g.20gb", "workload": "part-1"},
                        {"profile": "1c.3g.20gb"},
                        {"profile": "1c.3g.20gb", "workload": "part-2"},
                    ],
                }
            ],
        },
        {"id": "g2", "node": "b", "board": "H100-80GB-SXM", "occupied_whole": True},
    ],
    "elastic": {"board": "A100-40GB", "gpus_per_node": 4},
    "workloads": [
        {"id": "big", "profile": "2g.10gb", "service": "chat", "tenant": "red", "pinned": True},
        {"id": "part-1", "profile": "3g.20gb"},
        {"id": "part-2", "profile": "3g.20gb"},
        {"id": "waits", "profile": "1g.5gb", "service": "chat"},
    ],
    "new": [{"id": "later", "profile": "MIG 1g.5gb"}],
    "rules": {
        "single_nodes": ["b"],
        "spread": {"chat": "node", "*": "gpu"},
        "isolated_tenants": "all",
        "reserve": [{"profile": "1g.5gb", "count": 2}],
        "survive_node_loss": True,
        "upsize": [{"profile": "2g.10gb", "to": ["3g.20gb", "4g.20gb"], "price": 0.25}],
        "untouchable_gpus": ["g1"],
        "untouchable_nodes": [],
        "max_moves": 7,
    },
    "prices": {"A100-40GB": 1.5, "H100-80GB-SXM": 3},
}


def read(document: object) -> Problem:
    return read_problem(json.dumps(document))


def changed(path: str, value: Any, document: dict[str, Any] = FULL) -> dict[str, Any]:
    """The document with another value at a path such as `gpus.0.board`; `...` takes the key away."""
    copy = deepcopy(document)
    *parents, last = [int(part) if part.isdigit() else part for part in path.split(".")]
    place: Any = copy
    for part in parents:
        place = place[part]
    if value is ...:
        del place[last]
    elif isinstance(place, list) and last == len(place):
        place.append(value)
    else:
        place[last] = value
    return copy


def mistakes(document: object) -> tuple[str, ...]:
    with pytest.raises(InvalidProblem) as caught:
        read(document)
    return caught.value.mistakes


def test_every_key_of_the_format_is_understood() -> None:
    problem = read(changed("rules.single_nodes", []))
    a100 = load_catalog().board("A100-40GB")
    first, second, third = problem.gpus
    assert (first.board, first.driver, first.index, first.mig_enabled) == (a100, "535.104.05", 3, True)
    assert first.instances == (
        RunningInstance(profile="3g.20gb", start=4, workloads=("big",)),
        RunningInstance(profile="1g.5gb", start=None),
        RunningInstance(profile="2g.10gb", start=None),
    )
    assert second.instances[0] == RunningInstance(
        profile="3g.20gb", start=0, workloads=("part-1", "part-2"), compute_instances=("1c.3g.20gb",) * 3
    )
    assert third.occupied_whole
    assert third.mig_enabled is None
    assert problem.elastic is not None
    assert (problem.elastic.boards, problem.elastic.gpus_per_node) == ((a100,), 4)
    assert problem.workloads[0] == Workload(id="big", profile="2g.10gb", service="chat", tenant="red", pinned=True)
    assert problem.new == (Workload(id="later", profile="1g.5gb"),)
    assert problem.running_ids() == {"big", "part-1", "part-2"}
    rules = problem.rules
    assert rules.spread == {"chat": Spread.NODE, "*": Spread.GPU}
    assert rules.isolated_tenants == {EVERY}
    assert rules.reserves == (Reserve(profile="1g.5gb", count=2),)
    assert rules.survive_node_loss
    assert rules.upsizes == (Upsize(profile="2g.10gb", to=("3g.20gb", "4g.20gb"), price=0.25),)
    assert rules.untouchable_gpus == {"g1"}
    assert rules.max_moves == 7
    assert problem.prices == {"A100-40GB": 1.5, "H100-80GB-SXM": 3.0}


def test_the_smallest_files() -> None:
    assert read({"version": 1}) == Problem()
    only = read(
        {"version": 1, "elastic": {"boards": ["A30", "A100-40GB"]}, "workloads": [{"id": "w", "profile": "1g.6gb"}]}
    )
    assert only.elastic is not None
    assert [board.name for board in only.elastic.boards] == ["A30-24GB", "A100-40GB"]


def test_a_byte_order_mark_is_no_mistake() -> None:
    assert read_problem(b'\xef\xbb\xbf{"version": 1}') == Problem()
    assert read_problem('\ufeff{"version": 1}') == Problem()


def test_an_old_driver_makes_another_board() -> None:
    gpu = {"id": "g", "node": "n", "board": "A100-40GB", "driver": OLD_DRIVER}
    assert read({"version": 1, "gpus": [gpu]}).gpus[0].board == A100_OLD
    instances = [{"profile": "4g.20gb", "start": 0}, {"profile": "3g.20gb", "start": 4}]
    assert "cannot exist" in mistakes({"version": 1, "gpus": [{**gpu, "instances": instances}]})[0]
    elastic = read({"version": 1, "elastic": {"board": "A100-40GB", "driver": OLD_DRIVER}}).elastic
    assert elastic is not None
    assert elastic.boards == (A100_OLD,)


def test_a_profile_may_be_spelled_as_another_driver_or_kubernetes_does() -> None:
    gpu = {"id": "g", "node": "n", "board": "A100-80GB", "instances": [{"profile": "7g.79gb", "workload": "w"}]}
    problem = read({"version": 1, "gpus": [gpu], "workloads": [{"id": "w", "profile": "mig-7g.80gb"}]})
    assert problem.gpus[0].instances[0].profile == problem.workloads[0].profile == "7g.80gb"


def test_a_profile_of_another_board_is_for_the_planner_to_refuse() -> None:
    document = {"version": 1, "elastic": {"board": "A30"}, "workloads": [{"id": "w", "profile": "7g.80gb"}]}
    assert read(document).workloads[0].profile == "7g.80gb"


def test_one_compute_instance_over_all_of_it_is_the_usual_instance() -> None:
    rows = [{"profile": "3g.20gb", "workload": "w"}]
    instance = {"profile": "3g.20gb", "start": 0, "compute_instances": rows}
    gpu = {"id": "g", "node": "n", "board": "A100-40GB", "instances": [instance]}
    problem = read({"version": 1, "gpus": [gpu], "workloads": [{"id": "w", "profile": "3g.20gb"}]})
    assert problem.gpus[0].instances == (RunningInstance(profile="3g.20gb", start=0, workloads=("w",)),)


@settings(max_examples=150, deadline=None)
@given(problems())
def test_what_is_written_reads_as_the_same_problem(drawn: Problem) -> None:
    with_driver = [replace(gpu, driver=OLD_DRIVER) if gpu.board == A100_OLD else gpu for gpu in drawn.gpus]
    elastic = drawn.elastic
    if elastic is not None and A100_OLD in elastic.boards:
        elastic = replace(elastic, driver=OLD_DRIVER)
    problem = Problem(
        gpus=tuple(with_driver),
        elastic=elastic,
        workloads=drawn.workloads,
        new=drawn.new,
        rules=drawn.rules,
        prices=drawn.prices,
    )
    assume(not any(rule_conflicts(problem)))  # rules are drawn without a look at what runs
    assert read(problem_document(problem)) == problem


def test_what_is_written_of_a_full_file_reads_as_the_same_problem() -> None:
    problem = read(changed("rules.single_nodes", "all", changed("rules.untouchable_gpus", [])))
    assert read(problem_document(problem)) == problem


@pytest.mark.parametrize(
    ("path", "value", "place", "said"),
    [
        ("version", 2, "version", "must be 1, not 2"),
        ("version", True, "version", "must be 1, not true"),
        ("version", 1.0, "version", "must be 1, not 1.0"),
        ("version", ..., "version", "is missing"),
        ("gpu", [], "gpu", "is no key of this format. Nearest: 'gpus'"),
        ("gpus.0.nodes", "a", "gpus[0].nodes", "Nearest: 'node'"),
        ("gpus.0.id", 5, "gpus[0].id", "must be a text, not 5"),
        ("gpus.0.id", "", "gpus[0].id", "at least 1 character"),
        ("gpus.0.id", "x" * 1000, "gpus[0].id", "at most 512 characters"),
        ("gpus.0.node", None, "gpus[0].node", "not null"),
        ("gpus.0.board", "A100-40", "gpus[0].board", "Nearest: A100-40GB"),
        ("gpus.0.instances.0.profile", "3g.21gb", "gpus[0].instances[0].profile", "Nearest: 3g.20gb"),
        ("gpus.0.instances.0.profile", "3g.40gb", "gpus[0].instances[0].profile", "A100-40GB"),
        ("gpus.0.instances.0.profile", "1c.3g.20gb", "gpus[0].instances[0].profile", "compute_instances"),
        ("gpus.0.instances.0.start", 1, "gpus[0].instances", "starts are 0, 4"),
        ("gpus.0.instances.0.start", -1, "gpus[0].instances[0].start", "greater than or equal to 0"),
        ("gpus.0.instances.0.start", "4", "gpus[0].instances[0].start", "must be a valid integer, not '4'"),
        ("gpus.0.instances.0.start", 4.0, "gpus[0].instances[0].start", "integer, not 4.0"),
        ("gpus.0.instances.0.start", True, "gpus[0].instances[0].start", "not true"),
        ("gpus.0.instances.1", {"profile": "1g.5gb", "start": 5}, "gpus[0].instances", "overlaps"),
        ("gpus.0.instances.1", {"profile": "4g.20gb"}, "gpus[0].instances", "cannot exist"),
        ("gpus.0.instances.0.workload", "nobody", "gpus[0].instances[0].workload", "no entry of `workloads`"),
        ("gpus.0.instances.0.workload", "bigg", "gpus[0].instances[0].workload", "Nearest: 'big'"),
        ("gpus.0.instances.0.workload", "later", "gpus[0].instances[0].workload", "listed under `new`"),
        ("gpus.0.instances.0.workload", "part-1", "gpus[1].instances[0].workload", "gpus[0].instances[0] already"),
        ("gpus.0.instances.0.workload", "waits", "gpus[0].instances[0].workload", "`upsize` rule from 1g.5gb to 3g"),
        ("gpus.0.mig_enabled", False, "gpus[0].mig_enabled", "is in MIG mode"),
        ("gpus.0.driver", "abc", "gpus[0].driver", "'abc' is no driver version; give it as nvidia-smi does"),
        ("elastic.driver", "535-", "elastic.driver", "is no driver version"),
        ("gpus.0.index", -1, "gpus[0].index", "greater than or equal"),
        ("gpus.1.id", "g0", "gpus[1].id", "the id of gpus[0] too"),
        ("gpus.1.instances.0.workload", "waits", "gpus[1].instances[0].workload", "in the compute instance"),
        (
            "gpus.1.instances.0.compute_instances.0.profile",
            "3c.3g.20gb",
            "gpus[1].instances[0].compute_instances",
            "compute slices",
        ),
        (
            "gpus.1.instances.0.compute_instances.0.profile",
            "1c.2g.10gb",
            "gpus[1].instances[0].compute_instances",
            "it has 1c.3g.20gb",
        ),
        ("gpus.2.instances", [{"profile": "1g.10gb"}], "gpus[2].occupied_whole", "has no instances"),
        ("elastic.board", "T4", "elastic.board", "cannot be cut"),
        ("elastic.board", "RTX-PRO-5000-48GB", "elastic.board", "No source states"),
        ("elastic.boards", ["A30-24GB"], "elastic", "either `board` or `boards`"),
        ("elastic.gpus_per_node", 0, "elastic.gpus_per_node", "greater than or equal to 1"),
        ("workloads.0.id", "waits", "workloads[3].id", "the id of workloads[0] too"),
        ("new.0.id", "waits", "new[0].id", "the id of workloads[3] too"),
        ("workloads.3.profile", "9g.90gb", "workloads[3].profile", "no board has a profile"),
        ("workloads.3.profile", "1g.5g", "workloads[3].profile", "Nearest: '1g.5gb'"),
        ("workloads.3.profile", "1c.3g.20gb", "workloads[3].profile", "ask for the GPU instance, '3g.20gb'"),
        ("rules.reserve.0.count", -1, "rules.reserve[0].count", "greater than or equal to 0"),
        ("rules.reserve.0.count", 10**9, "rules.reserve[0].count", "less than or equal to 1000000"),
        ("rules.reserve.0.count", 10**40, "rules.reserve[0].count", "not 1000000"),
        ("rules.reserve.0.profile", "1g.4gb", "rules.reserve[0].profile", "Nearest"),
        ("rules.reserve.1", {"profile": "1g.5gb", "count": 1}, "rules.reserve[1].profile", "make them one"),
        ("rules.max_moves", -1, "rules.max_moves", "greater than or equal to 0"),
        ("rules.spread.chat", "rack", "rules.spread.chat", "'gpu' or 'node'"),
        ("rules.spread.chatt", "gpu", "rules.spread", "Nearest: 'chat'"),
        ("rules.single_nodes", ["c"], "rules.single_nodes", "'c' is no node of a GPU"),
        ("rules.untouchable_gpus", ["g9"], "rules.untouchable_gpus", "is no GPU in this problem. Nearest: 'g"),
        ("rules.untouchable_nodes", ["*"], "rules.untouchable_nodes", "is no node of a GPU"),
        ("rules.isolated_tenants", ["blue"], "rules.isolated_tenants", "is no tenant of a workload"),
        ("rules.isolated_tenants", "some", "rules.isolated_tenants", "'all'"),
        ("rules.upsize.0.to.1", "1g.5gb", "rules.upsize[0].to[1]", "does not provide everything"),
        ("rules.upsize.0.to.1", "2g.10gb", "rules.upsize[0].to[1]", "does not provide everything"),
        ("rules.upsize.0.to.1", "5g.20gb", "rules.upsize[0].to[1]", "no board has a profile"),
        ("rules.upsize.0.to.1", "3g.20gb", "rules.upsize[0].to[1]", "named twice"),
        ("rules.upsize.0.price", -0.5, "rules.upsize[0].price", "greater than or equal to 0"),
        ("rules.upsize.1", {"profile": "2g.10gb", "to": ["7g.40gb"]}, "rules.upsize[1].profile", "make them one"),
        ("prices.A100-40GB", ..., "prices", "none for A100-40GB"),
        ("prices.A100-40GB", 0, "prices[A100-40GB]", "greater than 0"),
        ("prices.A100", 1, "prices", "Nearest"),
        ("prices.A100 40GB", 2, "prices", "give one price"),
    ],
)
def test_a_mistake_is_named_with_its_place(path: str, value: Any, place: str, said: str) -> None:
    document = changed(path, value, changed("rules.single_nodes", [], changed("rules.untouchable_gpus", [])))
    found = mistakes(document)
    matching = [mistake for mistake in found if said in mistake]
    assert matching, found
    assert any(mistake.startswith(place) or mistake.replace("'", "").startswith(place) for mistake in matching), found


def test_two_gpus_of_a_node_with_one_index() -> None:
    document = changed("gpus.1.index", 0, changed("gpus.2.index", 0))
    assert any("index 0 too" in mistake for mistake in mistakes(document))


def test_requests_without_any_gpu() -> None:
    assert "no GPU" in mistakes({"version": 1, "workloads": [{"id": "w", "profile": "1g.5gb"}]})[0]


def test_an_unknown_board_is_one_mistake() -> None:
    gpu = {"id": "g", "node": "n", "board": "A1OO-40GB"}
    document = {"version": 1, "gpus": [gpu], "workloads": [{"id": "w", "profile": "1g.5gb"}]}
    assert [mistake.split(":")[0] for mistake in mistakes(document)] == ["gpus[0].board"]
    document = {"version": 1, "elastic": {"boards": ["A1OO"]}, "workloads": document["workloads"]}
    assert [mistake.split(":")[0] for mistake in mistakes(document)] == ["elastic.boards[0]"]


def test_a_driver_that_is_none_is_said_once() -> None:
    gpus = [{"id": f"g{number}", "node": "n", "board": "A30", "driver": "abc"} for number in range(50)]
    assert len(mistakes({"version": 1, "gpus": gpus})) == 1


@pytest.mark.parametrize(
    ("text", "places"),
    [
        ('{"version": 1, "new": [], "new": []}', ["new"]),
        ('{"version": 1, "version": 1, "prices": {"A30": 1, "A30": 2, "A30": 3}}', ["version", "prices.A30"]),
        ('{"version": 1, "elastic": {"board": "A30", "board": "T4"}}', ["elastic.board"]),
        ('{"version": 1, "new": [{"profile": "1g.6gb", "id": "b", "\\u0069d": "b"}]}', ["new[0].id"]),
    ],
)
def test_a_key_that_comes_twice_in_one_object_is_named_with_its_place(text: str, places: list[str]) -> None:
    with pytest.raises(InvalidProblem) as caught:
        read_problem(text)
    assert list(caught.value.mistakes) == [f"{place}: is given twice; keep one." for place in places]


def test_looking_for_keys_that_come_twice_takes_no_time() -> None:
    gpus = [{"id": f"g{n}", "node": f"n{n}", "board": "A30", "instances": []} for n in range(60_000)]
    text = json.dumps({"version": 1, "gpus": gpus})
    assert len(text) > 4 * 10**6
    began = time.process_time()
    check_keys(text, InvalidProblem)
    assert time.process_time() - began < 0.3


def test_an_instance_on_a_board_that_cannot_be_cut() -> None:
    gpu = {"id": "g", "node": "n", "board": "T4", "instances": [{"profile": "1g.5gb"}]}
    assert "no MIG profiles" in mistakes({"version": 1, "gpus": [gpu]})[0]
    assert read({"version": 1, "gpus": [{**gpu, "instances": []}]}).gpus[0].board.name == "T4"


def test_several_mistakes_are_named_at_once() -> None:
    document = changed("gpus.0.board", "A100", changed("gpus.1.board", "H200", changed("elastic.board", "B100")))
    assert len(mistakes(document)) >= 2
    document = changed("workloads.0.id", 1, changed("workloads.3.id", 2, changed("rules.max_moves", -3)))
    assert len(mistakes(document)) == 3


def test_no_more_mistakes_are_listed_than_anyone_reads() -> None:
    workloads = [{"id": "same", "profile": "1g.5gb"} for _ in range(5000)]
    document = {"version": 1, "elastic": {"board": "A100-40GB"}, "workloads": workloads}
    assert len(mistakes(document)) == MAX_MISTAKES
    with pytest.raises(InvalidProblem, match="possibly more"):
        read(document)
    wrong = [{"id": n, "profile": "1g.5gb"} for n in range(5000)]
    assert len(mistakes({"version": 1, "workloads": wrong})) == MAX_MISTAKES


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b'{"version": 1', "EOF while parsing an object at line 1 column 13"),
        (b'{"version": 1,\n "gpus": [}', "at line 2 column 11"),
        (b"", "EOF"),
        (b"\xff\xfe{\x00", "not valid JSON"),
        (b"[" * 100_000, "recursion limit"),
        (b'{"version":1,"a":' * 100_000, "recursion limit"),
        ('{"version": 1, "x": "\ud800"}', "not valid JSON"),
        (b"[]", "must be an object"),
        (b"null", "must be an object"),
        (b'{"version": 1, "prices": {"A30-24GB": NaN}}', "finite number"),
        (b'{"version": 1, "prices": {"A30-24GB": Infinity}}', "finite number"),
        (b'{"version": 1, "prices": {"A30-24GB": 1e999}}', "finite number"),
        (b'{"version": 1, "gpus": [' + b"0," * 100_000 + b"0]}", "gpus[0]: must be an object, not 0"),
        (b'{"version": 1, ' + b",".join(b'"k%d": 0' % n for n in range(50_000)) + b"}", "in 50000 places"),
        (b" " * (SIZE_LIMIT_BYTES + 1), "larger than 32 MiB"),
    ],
)
def test_hostile_text_is_refused_with_a_sentence(text: bytes | str, said: str) -> None:
    with pytest.raises(InvalidProblem) as caught:
        read_problem(text)
    assert said in str(caught.value)
    assert len(str(caught.value)) < 10_000


def test_names_cannot_write_to_the_terminal() -> None:
    hostile = "\x1b[2J\n\u202eevil"
    document = changed("gpus.0.instances.0.workload", hostile)
    assert not any(letter in text for text in mistakes(document) for letter in "\x1b\n")


def test_the_mistakes_survive_a_process_boundary() -> None:
    import pickle

    error = InvalidProblem(["a: wrong.", "b: wrong."])
    copy = pickle.loads(pickle.dumps(error))
    assert (str(copy), copy.mistakes) == (str(error), error.mistakes)
