"""Events, orders, checkpoints and evaluations: what goes in comes out, in order, once."""

from __future__ import annotations

from pathlib import PurePosixPath

from engine.ledger import Ledger, checkpoints, evaluations, events, orders
from engine.ledger.evaluations import Evaluation, Item
from engine.ledger.runs import Run


def test_events_come_newest_last_and_go_on_where_one_left_off(ledger: Ledger, run: Run) -> None:
    for number in range(5):
        events.add(ledger, "test", f"text {number}", run=run.id, step=number, level="warning", detail={"n": [number]})
    events.add(ledger, "test", "of no run", run=None)
    found = events.of_run(ledger, run.id)
    assert [(event.text, event.step, event.level, event.detail) for event in found][-1] == (
        "text 4",
        4,
        "warning",
        {"n": [4]},
    )
    assert [event.text for event in events.of_run(ledger, run.id, limit=2)] == ["text 3", "text 4"]
    assert [event.text for event in events.of_run(ledger, run.id, after=found[2].id)] == ["text 3", "text 4"]


def test_orders_wait_are_taken_once_and_stay_with_the_run(ledger: Ledger, run: Run) -> None:
    orders.give(ledger, run.id, "rate", 0.5)
    orders.give(ledger, run.id, "stop")
    rate, stop = orders.waiting(ledger, run.id)
    assert (rate.verb, rate.value, rate.step, stop.verb) == ("rate", 0.5, None, "stop")
    orders.acknowledge(ledger, rate, step=12, answer="rate is half from step 12")
    orders.acknowledge(ledger, stop, step=None, answer="the job had ended")
    assert orders.waiting(ledger, run.id) == []
    assert [(order.verb, order.step, order.answer) for order in orders.taken(ledger, run.id)] == [
        ("rate", 12, "rate is half from step 12")
    ]


def test_one_checkpoint_is_the_best_and_a_replayed_one_replaces(ledger: Ledger, run: Run) -> None:
    for step, best in ((10, True), (20, True), (30, False), (20, True)):
        checkpoints.add(
            ledger, run.id, step=step, path=f"checkpoints/step-{step}", size=step, validation=1 / step, best=best
        )
    found = checkpoints.of_run(ledger, run.id)
    assert [(each.step, each.best) for each in found] == [(10, False), (20, True), (30, False)]
    assert (found[0].path, found[0].bytes, found[0].validation) == (PurePosixPath("checkpoints/step-10"), 10, 0.1)
    checkpoints.remove(ledger, run.id, step=10)
    assert [each.step for each in checkpoints.of_run(ledger, run.id)] == [20, 30]


def begun(ledger: Ledger, run: int | None, model: str, conditions: str = "greedy") -> Evaluation:
    return evaluations.begin(
        ledger, run=run, model=model, model_name="m", suite="s", suite_fingerprint="f", conditions=conditions
    )


def test_an_evaluation_asked_in_another_way_is_another(ledger: Ledger, run: Run) -> None:
    assert begun(ledger, run.id, "tuned", "sampled").id != begun(ledger, run.id, "tuned").id


def test_an_evaluation_that_died_goes_on_where_it_was(ledger: Ledger, run: Run) -> None:
    evaluation = begun(ledger, run.id, "tuned")
    first = Item("q1", 0, "Is it?", "yes. It is.", "yes", "yes", 1.0, {"tokens": 4})
    evaluations.add_items(ledger, evaluation, [first, Item("q1", 1, "It is?", "hm", None, None, None, {})])
    again = begun(ledger, run.id, "tuned")
    assert again == evaluation
    assert again.finished is None
    evaluations.add_items(ledger, again, [first, Item("q2", 0, "And?", "no", "no", "yes", 0.0, {})])
    assert [(item.item, item.variant) for item in evaluations.items(ledger, again)] == [("q1", 0), ("q1", 1), ("q2", 0)]
    assert evaluations.items(ledger, again)[0] == first
    evaluations.finish(ledger, again, n=2, scores={"accuracy": 0.5})
    (done,) = evaluations.of_run(ledger, run.id)
    assert (done.n, done.scores) == (2, {"accuracy": 0.5})
    assert done.finished is not None


def test_what_may_be_compared_has_the_same_suite_and_conditions(ledger: Ledger, run: Run) -> None:
    base, tuned, other = (
        begun(ledger, None, "base"),
        begun(ledger, run.id, "tuned"),
        begun(ledger, None, "x", "sampled"),
    )
    for evaluation in (base, other):
        evaluations.finish(ledger, evaluation, n=1, scores={})
    assert [each.model for each in evaluations.counterparts(ledger, tuned)] == ["base"]
    assert evaluations.counterparts(ledger, base) == [], "an unfinished one is not compared"
    assert begun(ledger, None, "base").id == base.id, "a base is evaluated once"


def test_two_runs_that_end_in_the_same_bits_have_an_evaluation_each(ledger: Ledger, run: Run) -> None:
    first, none = begun(ledger, run.id, "same"), begun(ledger, None, "same")
    assert first.id != none.id
    assert [each.id for each in evaluations.of_run(ledger, run.id)] == [first.id]
