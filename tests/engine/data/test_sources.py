"""Files as rows: the bytes are the truth, every row is found again, and what is broken says where."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine import profile
from engine.data import line_index
from engine.data.line_index import LineIndex
from engine.data.mapped import open_mapped
from engine.data.sources import Source, open_source, rows
from engine.errors import Problem


def opened(path: Path | str) -> Source:
    return open_source(profile.Data(source=str(path)))


def written(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


LINE = st.binary(max_size=40).map(lambda line: line.replace(b"\n", b"").replace(b"\r", b""))


@given(lines=st.lists(LINE, min_size=1, max_size=30), last_ends=st.booleans(), chunk=st.integers(1, 50))
@settings(deadline=None, max_examples=150)
def test_index_finds_every_line_again(
    lines: list[bytes], last_ends: bool, chunk: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    content = b"\n".join(lines) + (b"\n" if last_ends else b"")
    wanted = [(number, line) for number, line in enumerate(content.split(b"\n"), 1) if line.strip()]
    if not wanted or content.startswith((b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")):
        return
    path = written(tmp_path_factory.mktemp("index") / "x.jsonl", content)
    before, line_index.CHUNK = line_index.CHUNK, chunk  # type: ignore[misc]
    try:
        index = LineIndex(path)
    finally:
        line_index.CHUNK = before  # type: ignore[misc]
    assert [(int(index.lines[place]), index.record(place)) for place in range(len(index))] == wanted


CELL = st.text(st.characters(blacklist_categories=["Cs", "Cc"]) | st.sampled_from(['"', ",", "\n"]), max_size=12)


@given(table=st.lists(st.tuples(CELL, CELL), min_size=1, max_size=12), chunk=st.integers(1, 40))
@settings(deadline=None, max_examples=100)
def test_csv_round_trip_with_quotes_and_line_ends_in_cells(
    table: list[tuple[str, str]], chunk: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL)
    writer.writerow(["a", "b"])
    writer.writerows(table)
    path = written(tmp_path_factory.mktemp("csv") / "x.csv", text.getvalue())
    before, line_index.CHUNK = line_index.CHUNK, chunk  # type: ignore[misc]
    try:
        source = opened(path)
    finally:
        line_index.CHUNK = before  # type: ignore[misc]
    assert [tuple(row.values.values()) for row in rows(source)] == table


def test_types_are_never_inferred(tmp_path: Path) -> None:
    lines = [{"a": None}] * 200 + [{"a": "2024-01-01"}, {"a": ["x"]}, {"late": "007"}]
    path = written(tmp_path / "x.jsonl", "\n".join(map(json.dumps, lines)))
    assert [row.values for row in rows(opened(path))] == lines
    table = written(tmp_path / "x.csv", "a,b\n007,2024-01-01\n,NULL\n")
    assert [row.values for row in rows(opened(table))] == [{"a": "007", "b": "2024-01-01"}, {"a": "", "b": "NULL"}]


def test_broken_line_names_file_and_line(tmp_path: Path) -> None:
    lines = ['{"a": 1}'] * 8
    lines[6] = '{"a": '
    source = opened(written(tmp_path / "rows.jsonl", "\n".join(lines)))
    assert source.row(7).where == "rows.jsonl:8"
    with pytest.raises(Problem, match=r"^rows.jsonl:7: this line is not JSON"):
        list(rows(source))


def test_bad_utf8_and_surrogates_are_problems_of_their_line(tmp_path: Path) -> None:
    source = opened(written(tmp_path / "x.jsonl", b'{"a": "ok"}\n{"a": "\xff"}\n{"a": "\\ud800"}\n'))
    assert source.row(0).values == {"a": "ok"}
    for number in (1, 2):
        with pytest.raises(Problem, match=f"x.jsonl:{number + 1}"):
            source.row(number)


def test_byte_order_mark_is_passed_over(tmp_path: Path) -> None:
    for name, content in (("x.jsonl", '{"a": 1}\n'), ("x.json", '[{"a": 1}]'), ("x.csv", "a\n1\n")):
        source = opened(written(tmp_path / name, b"\xef\xbb\xbf" + content.encode()))
        assert source.has_bom
        assert source.columns == ("a",)


@pytest.mark.parametrize(
    ("content", "ids"),
    [
        ('[{"a": 1}, {"a": 2}]', ["x.json:1", "x.json:2"]),
        ('{"21": {"a": 1}, "22": {"a": 2}}', ["21", "22"]),
        ('{"data": [{"a": 1}, {"a": 2}]}', ["x.json:1", "x.json:2"]),
        ('{"a": 1}\n{"a": 2}\n', ["x.json:1", "x.json:2"]),  # JSON Lines by the wrong name
    ],
)
def test_shapes_of_json_files(content: str, ids: list[str], tmp_path: Path) -> None:
    source = opened(written(tmp_path / "x.json", content))
    assert [row.values for row in rows(source)] == [{"a": 1}, {"a": 2}]
    assert [row.id for row in rows(source)] == ids


def test_object_with_a_single_keyed_row(tmp_path: Path) -> None:
    source = opened(written(tmp_path / "x.json", '{"21": {"a": "x"}}'))
    assert [(row.id, row.values) for row in rows(source)] == [("21", {"a": "x"})]


def test_parquet(tmp_path: Path) -> None:
    import polars

    polars.DataFrame({"a": ["x", None] * 800, "b": range(1600)}).write_parquet(tmp_path / "x.parquet")
    source = opened(tmp_path / "x.parquet")
    assert len(source) == 1600
    assert source.columns == ("a", "b")
    assert source.row(1500).values == {"a": "x", "b": 1500}
    with pytest.raises(Problem, match="cannot be read as parquet"):
        opened(written(tmp_path / "bad.parquet", "no parquet"))


def test_folders_and_globs_are_one_source(tmp_path: Path) -> None:
    for name in ("one", "two"):
        written(tmp_path / f"{name}.jsonl", json.dumps({"a": name}) + "\n")
    written(tmp_path / "README.md", "not data")
    for place in (tmp_path, tmp_path / "*.jsonl"):
        source = opened(place)
        assert [row.values["a"] for row in rows(source)] == ["one", "two"]
        assert source.row(1).where == "two.jsonl:1"
    assert opened(tmp_path).fingerprint != opened(tmp_path / "one.jsonl").fingerprint


def test_fingerprint_is_over_the_bytes(tmp_path: Path) -> None:
    one = opened(written(tmp_path / "one.jsonl", '{"a": 1}\n'))
    same = opened(written(tmp_path / "two.jsonl", '{"a": 1}\n'))
    other = opened(written(tmp_path / "three.jsonl", '{"a":1}\n'))
    assert one.fingerprint == same.fingerprint != other.fingerprint


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("x.jsonl", None, "There is no file"),
        ("x.jsonl", "", "is empty"),
        ("x.jsonl", "\n \n", "is empty"),
        ("x.jsonl", "nonsense\nmore\n", "not JSON"),
        ("x.json", "[]", "holds no rows"),
        ("x.json", "3", "holds no rows"),
        ("x.json", '[\n{"a": 1},\n{]', r"x.json:3"),
        ("x.csv", "a,b\n", "no rows"),
        ("x.csv", "a,b,a\n1,2,3\n", "two columns called 'a'"),
        ("x.csv", "\ufeffa\n1\n".encode("utf-16-le"), "is UTF-16"),
        ("x.docx", "hello", "no known format"),
        ("*.jsonl", None, "There are no data"),
    ],
)
def test_bad_files_are_said(name: str, content: str | bytes | None, says: str, tmp_path: Path) -> None:
    if content is not None:
        written(tmp_path / name, content)
    with pytest.raises(Problem, match=says) as caught:
        opened(tmp_path / name).columns  # noqa: B018 - reads the first rows
    assert caught.value.code == "data"


def test_a_folder_without_data(tmp_path: Path) -> None:
    with pytest.raises(Problem, match="There are no data"):
        opened(tmp_path)


def test_csv_row_with_too_many_cells_names_its_line(tmp_path: Path) -> None:
    source = opened(written(tmp_path / "x.csv", 'a,b\n1,"two\nlines"\n1,2,3\n'))
    with pytest.raises(Problem, match=r"x.csv:4: 3 cells in a table of 2 columns"):
        list(rows(source))


def test_a_file_cut_short_by_another_program_is_a_broken_row(tmp_path: Path) -> None:
    path = written(tmp_path / "x.jsonl", '{"a": 1}\n' * 3000)
    source = opened(path)
    with path.open("r+b") as file:
        file.truncate(9 * 100 + 4)
    assert source.row(99).values == {"a": 1}
    for number in (100, 2999):
        with pytest.raises(Problem, match=f"x.jsonl:{number + 1}"):
            source.row(number)


def test_a_csv_cell_of_any_length(tmp_path: Path) -> None:
    source = opened(written(tmp_path / "x.csv", f"a\n{'x' * 200_000}\n"))
    assert len(str(source.row(0).values["a"])) == 200_000


def test_missing_column_is_named_with_what_is_there_and_the_closest(tmp_path: Path) -> None:
    path = written(tmp_path / "rows.jsonl", '{"question": "q", "answer": "a"}\n')
    data = profile.Data(source=str(path), columns={"instruction": "qestion", "response": "{answer}. {why}"})
    with pytest.raises(Problem) as caught:
        open_mapped(data, profile.Template())
    assert "rows.jsonl has no column qestion - did you mean question?" in str(caught.value)
    assert "question, answer" in caught.value.why


def test_late_column_is_found_in_any_row(tmp_path: Path) -> None:
    lines = [{"q": "x"}] * 1500 + [{"q": "x", "a": "late"}]
    path = written(tmp_path / "x.jsonl", "\n".join(map(json.dumps, lines)))
    mapped = open_mapped(
        profile.Data(source=str(path), columns={"instruction": "q", "response": "a"}), profile.Template()
    )
    assert mapped.example(1500).response == "late"
    assert mapped.example(0).response == ""


def test_hub_data_that_were_not_downloaded_say_how(tmp_path: Path) -> None:
    with pytest.raises(Problem, match="on the hub and not downloaded yet") as caught:
        opened("somebody/some-data")
    assert "workbench data somebody/some-data" in caught.value.do


def test_text_files_are_documents_but_only_notes_beside_tables(tmp_path: Path) -> None:
    (tmp_path / "b.txt").write_bytes("\ufeffSecond: naïve café.\n".encode())
    (tmp_path / "a.txt").write_text("First.")
    source = open_source(profile.Data(source=str(tmp_path)))
    assert [(row.id, row.values) for row in rows(source)] == [
        ("a.txt", {"text": "First."}),
        ("b.txt", {"text": "Second: naïve café.\n"}),
    ]
    assert source.has_bom
    assert source.raw(0) == "First."
    before = source.fingerprint
    (tmp_path / "a.txt").write_text("Other.")
    assert open_source(profile.Data(source=str(tmp_path / "*.txt"))).fingerprint != before
    (tmp_path / "rows.jsonl").write_text('{"question": "Is it?", "answer": "Yes."}\n')
    assert open_source(profile.Data(source=str(tmp_path))).columns == ("question", "answer")
    (tmp_path / "c.txt").write_bytes(b"caf\xe9")
    with pytest.raises(Problem, match=r"c.txt: this is not UTF-8"):
        open_source(profile.Data(source=str(tmp_path / "c.txt"))).row(0)
