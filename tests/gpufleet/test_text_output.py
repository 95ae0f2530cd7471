"""What the commands print for people; whatever a cluster calls its things is shown and not obeyed."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from gpufleet.text_output import literal, print_advice, print_collection, print_fleet
from planner.advice import Advice, NotAdvised
from planner.attribution import attribute
from planner.fleet import DeviceState, Fleet, Gpu, Node, Observation, Pod, Verdict
from planner.links import Certainty
from planner.units import GpuUuid, NodeName
from tests.planner.joins import device, facts, server, traffic
from tests.planner.joins import gpu as gpu_subject

NOW = datetime(2026, 11, 19, 12, tzinfo=UTC)
HOSTILE = "\x1b[31m[bold]pod[/bold]\r\n\u202eevil"


def fleet(*, pod: str) -> Fleet:
    gpu = Gpu(
        uuid=GpuUuid("GPU-1"),
        index=0,
        node=NodeName("a"),
        model_name="NVIDIA Something New",
        board=None,
        pci_bus_id=None,
        driver_version=None,
        mig_mode=None,
        metrics={"gr_engine_active_ratio": Observation(value=0.42, observed_at=NOW)},
        pods=(Pod(namespace="ml", name=pod),),
        instances=(),
        usage=None,
        verdict=Verdict(state=DeviceState.SERVING, reason="."),
        first_seen=NOW,
        last_seen=NOW,
    )
    return Fleet(taken_at=NOW, nodes=(Node(name=NodeName("a"), cluster="default", gpus=(gpu,)),))


def test_names_are_printed_literally(capsys: pytest.CaptureFixture[str]) -> None:
    print_fleet(fleet(pod=HOSTILE))
    printed = capsys.readouterr().out
    assert "[bold]pod[/bold]" in printed
    assert not set(printed) & {"\x1b", "\r", "\u202e"}
    assert len([line for line in printed.splitlines() if "ml/" in line]) == 1


def test_a_replaced_character_is_seen() -> None:
    assert literal("a\x07b") == "a\ufffdb"


def test_a_device_is_one_line_with_what_is_known_and_a_dash_for_the_rest(capsys: pytest.CaptureFixture[str]) -> None:
    print_fleet(fleet(pod="chat-0"))
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "chat-0" in line]
    known = ["a/0", "NVIDIA", "Something", "New", "serving", "42%", "–", "0", "s"]
    assert line.split() == [*known, "–", "–", "ml/chat-0"]


@pytest.mark.parametrize(
    ("certainty", "mark", "legend"),
    [(Certainty.CERTAIN, "", ""), (Certainty.LIKELY, "~", "~ likely"), (Certainty.GUESSED, "?", "? guessed")],
)
def test_the_model_and_its_tokens_stand_in_the_line_with_how_sure_they_are(
    capsys: pytest.CaptureFixture[str], certainty: Certainty, mark: str, legend: str
) -> None:
    told = facts(device(0, "a"), servers=[server("e:1", traffic(HOSTILE, tokens=7200), pod="a", models=[HOSTILE])])
    [engine] = attribute(told).devices[gpu_subject(0)].engines
    [node] = fleet(pod="chat-0").nodes
    gpu = replace(node.gpus[0], engines=(replace(engine, certainty=certainty),))
    print_fleet(Fleet(taken_at=NOW, nodes=(replace(node, gpus=(gpu,)),)))
    printed = capsys.readouterr().out
    (line,) = [line for line in printed.splitlines() if "chat-0" in line]
    assert line.split()[-3:] == [*([mark] if mark else [line.split()[-3]]), "2.0", "ml/chat-0"]
    assert "[bold]pod[/bold]" in line
    assert not set(printed) & {"\x1b", "\r", "\u202e"}
    assert (legend in printed) if legend else ("How sure" not in printed)


def test_an_empty_fleet_says_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    print_fleet(Fleet(taken_at=NOW))
    assert "gpufleet collect --once" in capsys.readouterr().out


def test_boards_without_advice_are_listed_with_the_reason(capsys: pytest.CaptureFixture[str]) -> None:
    rest = NotAdvised(cluster="default", board="L40S", gpus=8, reason="L40S cannot be cut into GPU instances.")
    print_advice(Advice(taken_at=NOW, boards=(), not_advised=(rest,)))
    assert "L40S: 8 GPUs, no advice: L40S cannot be cut" in capsys.readouterr().out


def test_a_failed_target_is_told_with_its_error(capsys: pytest.CaptureFixture[str]) -> None:
    target = {"source": "s", "target": "t:1", "ok": False, "readings": 0, "facts": 0, "gaps": [], "seconds": 1.0}
    print_collection([{**target, "error": "no answer [within] 10 s"}])
    printed = capsys.readouterr().out
    assert "failed" in printed
    assert "t:1: no answer [within] 10 s" in printed
