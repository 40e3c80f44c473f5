"""The filter language: what passes, what a typo is told, what may come next."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import Problem
from engine.filtering import Field, Value, completions, parse, pointed, settled, strict

FIELDS = (
    Field("name", "text", "the run's name"),
    Field("state", "choice", "what it is doing", ("queued", "running", "stopping", "stopped", "finished", "failed")),
    Field("loss", "number", "last validation loss"),
    Field("lr", "number", "learning rate"),
    Field("steps", "number", "steps to do"),
    Field("age", "duration", "since it was made"),
    Field("tag", "tags", "tags"),
    Field("note", "text", "the note"),
    Field("method.rank", "any", "a setting"),
    Field("method.targets", "any", "a setting"),
)
ROW: dict[str, Value] = {
    "name": "PubMedQA lora-16",
    "state": "finished",
    "loss": 0.881,
    "lr": 1e-4,
    "steps": 4100,
    "age": 2.5 * 86400,
    "tag": ("medical", "keep"),
    "note": "",
    "method.rank": 16,
    "method.targets": ("q_proj", "v_proj"),
}


def passes(text: str, **changed: Value) -> bool:
    """Whether the row passes; the text has no mistake."""
    made = parse(text, FIELDS)
    assert not made.mistakes
    return made.holds({**ROW, **changed}.__getitem__)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "lora",
        '"qa lora"',
        "-dora",
        "!dora",
        "state=finished",
        "state=fin",
        "state=run,fin",
        "state!=failed",
        "-state=failed",
        "loss<1.2 lr>=1e-4",
        "loss>.88 loss<=0.881",
        "loss=.881",
        "steps=4.1k",
        "STEPS>=4.1K",
        "age>2d age<1w",
        "age>2.4d age<2.6d",
        "age>59h age<61h",
        "age>3599m age<3601m",
        "tag:medical",
        "tag=other,keep",
        "state==finished tag == keep",
        "tag~medi",
        "-tag:old",
        "!tag:old",
        "tag!=old",
        'note=""',
        'tag!=""',
        "method.rank=16",
        "method.rank=8,16.0",
        "method.rank<32",
        "method.targets=v_proj",
        "method.targets~q_",
        "name~lora,dora -name~dora",
        "name!~dora",
        "loss < 1.2 lr >=1e-4 state= fin -tag : old",
        'tag != "old" lora',
    ],
)
def test_what_passes(text: str) -> None:
    assert passes(text)
    if text:
        assert parse(str(parse(text, FIELDS)), FIELDS).holds(ROW.__getitem__)


@pytest.mark.parametrize(
    "text",
    [
        "dora",
        "-lora",
        "state=fail",
        "state!=fin",
        "loss<.881",
        "loss=.88",
        "lr>1e-4",
        "age<2d",
        "tag:med",
        "-tag:medical",
        "lora loss>1",
        'tag=""',
        'note!=""',
        "method.rank!=16",
    ],
)
def test_what_does_not_pass(text: str) -> None:
    assert not passes(text)


@pytest.mark.parametrize("comparison", ["<1", "<=1", ">1", ">=1", "=1", "!=1"])
def test_a_comparison_with_what_a_row_has_not_is_false(comparison: str) -> None:
    assert not passes(f"loss{comparison}", loss=None)
    assert passes(f"-loss{comparison}", loss=None)
    assert passes('loss=""', loss=None)
    assert not passes('loss!=""', loss=None)


def test_nan_is_found_by_its_name_and_by_no_order() -> None:
    assert not any(passes(text, loss=math.nan) for text in ("loss<1", "loss>=1", "loss<inf", "loss>-inf", "loss=1"))
    assert passes("loss=nan", loss=math.nan) and passes("loss=inf", loss=math.inf)
    assert not passes("loss=nan") and not passes("loss!=nan", loss=math.nan)


def test_a_column_of_texts_may_hold_numbers() -> None:
    assert passes("method.rank>=8", **{"method.rank": "16 "}) and passes("method.rank=16", **{"method.rank": "16"})
    assert not passes("method.rank>8", **{"method.rank": "auto"})


def test_a_whole_number_beyond_float64_is_compared_all_the_same() -> None:
    assert passes("method.rank>1", **{"method.rank": 10**400})
    assert not passes("method.rank=16", **{"method.rank": 10**400})


def test_a_switch_is_no_number() -> None:
    assert passes("method.rank=true", **{"method.rank": True})
    assert not passes("method.rank=1", **{"method.rank": True})
    assert not passes("method.rank<2", **{"method.rank": False})


@pytest.mark.parametrize(
    ("text", "wrong", "suggestion", "words"),
    [
        ("lora staet=finished", "staet", "state", "no field staet"),
        ("state=finihsed", "finihsed", "finished", "no state finihsed"),
        ("state=fin,runing", "runing", "running", "no state runing"),
        ("loss<abc", "abc", "", "not a number"),
        ("loss<1,2", "1,2", "", "point"),
        ("age>3", "3", "", "2d"),
        ("age>3x", "3x", "", "2d"),
        ("age=3d", "=", "", "< <= > >="),
        ("loss~3", "~", "", "< <= > >="),
        ("name<b", "<", "", "~ ="),
        ("loss<", "<", "", "nothing stands behind loss<"),
        ("state=,", "=", "", "nothing stands behind state="),
        ("=3", "=3", '"=3"', "no field"),
        ("<think>", "<think>", '"<think>"', "no field before <"),
        ("http://x lora", "http://x", '"http://x"', "no field http"),
        ("loss < abc", "abc", "", "not a number"),
        ('name~"lora', '"lora', "", "not closed"),
        ("-staet=x", "staet", "state", "no field"),
    ],
)
def test_a_typo_is_pointed_at_and_the_rest_applies(text: str, wrong: str, suggestion: str, words: str) -> None:
    made = parse(f"{text} loss<1", FIELDS) if '"' not in text else parse(text, FIELDS)
    (mistake,) = made.mistakes
    assert text[mistake.start : mistake.end] == wrong
    assert mistake.suggestion == suggestion and words in mistake.message
    assert made.holds(ROW.__getitem__)
    assert '"' in text or not made.holds({**ROW, "loss": 2.0}.__getitem__)


@pytest.mark.parametrize("word", ["and", "AND", "&&", "or", "||"])
def test_a_word_between_parts_is_no_name(word: str) -> None:
    (mistake,) = parse(f"lora {word} loss<1", FIELDS).mistakes
    assert (mistake.start, mistake.end) == (5, 5 + len(word))
    assert parse(f"lora {word} loss<1", FIELDS).holds(ROW.__getitem__)
    assert not parse(word, FIELDS).mistakes
    assert not parse(f'lora "{word}"', FIELDS).mistakes


def test_a_command_line_is_told_where() -> None:
    with pytest.raises(Problem, match="did you mean state") as refused:
        strict("模型 staet=x", FIELDS)
    assert refused.value.why == "模型 staet=x\n     ^^^^^"
    assert strict("state=fin", FIELDS).fields == {"state"}
    assert pointed("a\tb=\x1b", parse("a\tb=\x1b", FIELDS).mistakes[0]) == "a b= \n  ^^^"


@given(st.text(st.sampled_from('abn-!=~<>:,. "1e.km名\n') | st.characters(), max_size=40))
def test_no_text_is_too_odd(text: str) -> None:
    made = parse(text, FIELDS)
    made.holds(ROW.__getitem__)
    for mistake in made.mistakes:
        assert 0 <= mistake.start < mistake.end <= len(text)
        pointed(text, mistake)
    for cursor in range(len(text) + 1):
        found = completions(text, cursor, FIELDS)
        settled(text, cursor, FIELDS)
        assert 0 <= found.start <= found.end == cursor


TYPED = st.text(st.characters(exclude_characters='"'), max_size=8)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["", "-", "!"]),
            st.sampled_from(
                ["name~{}", "note={},{}", "tag:{}", "{}", "loss<3", "age>2d", "method.rank!={}", "state=fin"]
            ),
            TYPED,
        )
    )
)
def test_written_and_read_again_it_is_the_same(parts: list[tuple[str, str, str]]) -> None:
    text = " ".join(sign + form.replace("{}", f'"{value}"') for sign, form, value in parts)
    made = parse(text, FIELDS)
    assert len(made.parts) == len(parts) and not made.mistakes
    again = parse(str(made), FIELDS)
    assert again.parts == made.parts and not again.mistakes


# What may come next


def occurring(name: str) -> list[str]:
    return {"name": ["speech", "my run"], "tag": ["medical", "old"]}.get(name, [])


@pytest.mark.parametrize(
    ("text", "choices", "completed"),
    [
        ("", ("name", "state", "loss"), "name"),
        ("lora st", ("state", "steps"), "lora state"),
        ("-st", ("state", "steps"), "-state"),
        ("rank", ("method.rank",), "method.rank"),
        ("state", ("=", "!="), "state="),
        ("loss", ("<", "<=", ">"), "loss<"),
        ("state=f", ("finished", "failed"), "state=finished"),
        ("state = f", ("finished", "failed"), "state = finished"),
        ("tag != ", ("medical", "old"), "tag != medical"),
        ("state=finished,st", ("stopping", "stopped"), "state=finished,stopping"),
        ("tag:", ("medical", "old"), "tag:medical"),
        ("tag:MED", ("medical",), "tag:medical"),
        ("name=", ("speech", '"my run"'), "name=speech"),
        ('name="my', ('"my run"',), 'name="my run"'),
        ("staet=f", (), None),
        ("loss<", (), None),
        ("state=finished", (), None),
    ],
)
def test_what_may_come_next(text: str, choices: tuple[str, ...], completed: str | None) -> None:
    found = completions(text, len(text), FIELDS, occurring)
    assert found.choices[: len(choices)] == choices and bool(found.choices) is bool(choices)
    assert completed is None or found.applied(text, found.choices[0]) == completed


def test_in_the_middle_of_a_text_the_rest_stays() -> None:
    found = completions("st loss<1", 2, FIELDS)
    assert found.applied("st loss<1", found.choices[0]) == "state loss<1"


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("lora sta", "lora "),
        ("-sta", ""),
        ("state ", " "),
        ("sta ", "sta "),
        ("stax", "stax"),
        ("loss<1", "loss<1"),
        ("state lora", "state lora"),
        ("", ""),
    ],
)
def test_a_word_that_may_become_a_field_is_left_out_meanwhile(text: str, left: str) -> None:
    assert settled(text, len(text), FIELDS) == left


def test_where_a_number_belongs_it_is_said() -> None:
    assert completions("lr>", 3, FIELDS).hint == "learning rate: a number such as 1e-4, .5, 4.1k or nan"
    assert completions("loss", 4, FIELDS).hint == "last validation loss"


def test_other_names_of_a_field_mean_the_same() -> None:
    fields = (*FIELDS, Field("train.rate", "number", "rate", aliases=("rate", "loss")))
    assert str(parse("Rate<1 loss<2", fields)) == "train.rate<1 loss<2"  # a name goes before an alias
    assert completions("rate", 4, fields).choices[0] == "<"
    assert parse("raet<1", fields).mistakes[0].suggestion == "rate"
