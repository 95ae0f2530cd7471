"""The simulator's account of an hour with faults: which work a reader of every good answer has seen."""

from datetime import UTC, datetime, timedelta

from benchmarks.endurance.cluster import Answer
from benchmarks.endurance.journal import GATEWAY_METRICS, account

BEGIN = datetime(2026, 11, 23, 9, 0, tzinfo=UTC)
POD = "/pods/chat/llama/metrics"
POD_FAULT = "/faults/pods/chat/llama"


def at(minute: float) -> datetime:
    return BEGIN + timedelta(minutes=minute)


def answer(minute: float, path: str = POD, *, method: str = "GET", status: int = 200, whole: bool = True) -> Answer:
    return Answer(method=method, path=path, query="", status=status, whole=whole, began_at=at(minute), at=at(minute))


def spans(*answers: Answer, path: str = POD) -> list[tuple[float, float]]:
    return [
        tuple((moment - BEGIN).total_seconds() / 60 for moment in span)  # type: ignore[misc]
        for span in account(answers).counted(path)
    ]


def test_good_answers_count_from_the_first_to_the_last() -> None:
    assert spans(answer(1), answer(2), answer(5)) == [(1, 5)]
    assert spans(answer(1)) == []
    assert spans() == []


def test_answers_that_fail_are_passed_over() -> None:
    assert spans(answer(1), answer(2, status=500), answer(3), answer(4, whole=False)) == [(1, 3)]
    failing = (answer(3.5, f"{POD_FAULT}/garbage", method="POST"), answer(4.5, POD_FAULT, method="DELETE"))
    assert spans(answer(1), answer(2), *failing, answer(4), answer(5)) == [(1, 5)]
    assert spans(answer(1), answer(2), *failing, answer(4)) == [(1, 2)]


def test_a_restart_takes_along_what_was_done_since_the_last_look() -> None:
    restart = answer(2.5, f"{POD_FAULT}/counter-reset", method="POST")
    assert spans(answer(1), answer(2), restart, answer(3), answer(4)) == [(1, 2), (2.5, 4)]
    twice = answer(2.75, f"{POD_FAULT}/counter-reset", method="POST")
    assert spans(answer(1), answer(2), restart, twice, answer(3)) == [(1, 2), (2.75, 3)]
    upgrade = answer(2.5, f"{POD_FAULT}/generation-change", method="POST")
    assert spans(answer(1), answer(2), upgrade, answer(3)) == [(1, 2), (2.5, 3)]


def test_an_answer_that_the_reader_no_longer_took_is_in_neither_account() -> None:
    told = [answer(minute) for minute in (1, 2, 3, 4, 5)]
    looks = [(at(minute - 0.01), at(minute + 0.01)) for minute in (1, 2, 4)]
    found = account(told, {POD: looks})
    assert (found.read[POD], found.untaken) == ((at(1), at(2), at(4)), 2)
    assert account(told, {"/pods/chat/other/metrics": looks}).counted(POD) == [(at(1), at(5))]
    assert account(told, {POD: []}).counted(POD) == []


def test_new_names_of_an_exporter_are_no_restart() -> None:
    path = "/nodes/node-1/metrics"
    renamed = answer(2.5, "/faults/node-1/generation-change", method="POST")
    reset = answer(3.5, "/faults/node-1/counter-reset", method="POST")
    found = account([answer(1, path), renamed, answer(3, path), reset, answer(4, path)])
    assert found.last_restart(path, at(3)) is None
    assert found.last_restart(path, at(4)) == at(3.5)


def test_the_gateway_is_known_by_its_metrics() -> None:
    restart = answer(2, "/faults/gateways/litellm/counter-reset", method="POST")
    seen = (answer(1, GATEWAY_METRICS), restart, answer(3, GATEWAY_METRICS))
    assert spans(*seen, path=GATEWAY_METRICS) == [(2, 3)]
