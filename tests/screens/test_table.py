"""Tables: any number of rows, a cursor and marks that stay with their rows, lines that are sent only when they changed."""

from __future__ import annotations

from collections.abc import Sequence

from textual.app import App, ComposeResult
from textual.geometry import Region

from screens.widgets.cells import Column
from screens.widgets.table import Table

Row = tuple[str, int]


class Alone(App[None]):
    """A table and nothing else."""

    def compose(self) -> ComposeResult:
        yield Table[Row](
            (Column("name", 6, stretch=True), Column("n", 4, right=True)),
            lambda row: (row[0], str(row[1])),
            lambda row: row[0],
        )


def rows(many: int) -> list[Row]:
    return [(f"row {number}", number) for number in range(many)]


def text_of(table: Table[Row]) -> list[str]:
    return [table.render_line(y).text for y in range(table.size.height)]


async def test_figures_stand_right_and_long_names_are_cut() -> None:
    app = Alone()
    async with app.run_test(size=(20, 5)) as pilot:
        table = app.query_one(Table)
        table.show([("a name that is far too long", 7), ("b", 1234)])
        await pilot.pause()
        lines = text_of(table)
        assert lines[1] == " ▌ a name that…    7"
        assert lines[2] == "   b            1234"


async def test_the_end_of_a_name_is_kept_where_it_tells_rows_apart() -> None:
    app = Alone()
    async with app.run_test(size=(20, 5)) as pilot:
        table = app.query_one(Table)
        table.show(
            [("a name that is far too long-17", 7), ("short", 8)], (Column("name", 12, keep_end=3), *table.columns[1:])
        )
        await pilot.pause()
        assert text_of(table)[1:3] == [" ▌ a name t…-17    7", "   short           8"]


async def test_a_column_that_pushes_leaves_out_what_is_not_whole_beside_it() -> None:
    app = Alone()
    async with app.run_test(size=(24, 5)) as pilot:
        table = app.query_one(Table)
        table.show(
            [("short", 7), ("a longer one", 12_345), ("a longer name", 123)],
            (Column("name", 6, pushes=True), *table.columns[1:]),
        )
        table.columns = (table.columns[0], Column("n", 4, stretch=True))
        table.refresh()
        await pilot.pause()
        assert text_of(table)[1:4] == [
            " ▌ short  7             ",
            "   a longer one 12345   ",
            "   a longer name 123    ",
        ]


async def test_without_titles_rows_begin_at_the_top() -> None:
    app = Alone()
    async with app.run_test(size=(20, 3)) as pilot:
        table = app.query_one(Table)
        table.show(rows(9), (Column("", 6, stretch=True), Column("", 4, right=True)))
        await pilot.pause()
        assert [line.split()[-2] for line in text_of(table)] == ["0", "1", "2"]
        await pilot.press("G")
        assert [line.split()[-2] for line in text_of(table)] == ["6", "7", "8"]
        await pilot.click(Table, offset=(5, 0))
        assert table.cursor == 6


async def test_the_last_column_is_beside_the_scrollbar_not_under_it() -> None:
    app = Alone()
    async with app.run_test(size=(20, 5)) as pilot:
        table = app.query_one(Table)
        table.show(rows(3))
        await pilot.pause()
        assert text_of(table)[1] == " ▌ row 0           0"
        table.show(rows(300))
        await pilot.pause()
        assert text_of(table)[1] == " ▌ row 0          0"


async def test_other_columns_are_seen_in_every_line() -> None:
    app = Alone()
    async with app.run_test(size=(20, 5)) as pilot:
        table = app.query_one(Table)
        table.show(rows(3))
        await pilot.pause()
        assert text_of(table)[1] == " ▌ row 0           0"
        table.columns = (Column("name", 6), Column("n", 4, right=True))
        table.refresh()
        assert text_of(table)[1] == " ▌ row 0     0      "


async def test_a_million_rows_are_moved_through() -> None:
    class Many(Sequence[Row]):
        def __len__(self) -> int:
            return 1_000_000

        def __getitem__(self, place: int) -> Row:  # type: ignore[override]
            if not 0 <= place < 1_000_000:
                raise IndexError(place)
            return (f"row {place}", place)

    app = Alone()
    async with app.run_test(size=(30, 10)) as pilot:
        table = app.query_one(Table)
        table.show(Many())
        await pilot.press("G")
        assert table.selected == ("row 999999", 999_999)
        assert "row 999999" in text_of(table)[-1]
        await pilot.press("k", "k", "g", "j")
        assert table.cursor == 1


async def test_cursor_and_marks_stay_with_their_rows() -> None:
    app = Alone()
    async with app.run_test(size=(30, 10)) as pilot:
        table = app.query_one(Table)
        table.show(rows(5))
        await pilot.press("j", "j")
        table.toggle_mark()
        assert table.marked == {"row 2"} and table.selected == ("row 3", 3)
        table.show([("new", 9), *rows(5)])
        assert table.selected == ("row 3", 3)
        assert table.marked == {"row 2"}
        table.show(rows(2))
        assert table.selected == ("row 1", 1)
        assert not table.marked
        table.show([])
        assert table.selected is None


async def test_only_the_line_that_changed_is_drawn_again() -> None:
    app = Alone()
    async with app.run_test(size=(30, 10)) as pilot:
        table = app.query_one(Table)
        table.show(rows(5))
        await pilot.pause()
        refreshed: list[Region] = []
        table.refresh = lambda *regions, **_: refreshed.extend(regions)  # type: ignore[method-assign,assignment]
        table.show(rows(5))
        assert not refreshed
        table.show([("row 0", 0), ("row 1", 77), *rows(5)[2:]])
        assert [region.y for region in refreshed] == [2]


async def test_a_click_moves_and_a_second_opens() -> None:
    opened: list[Row | None] = []

    class Listening(Alone):
        def on_table_opened(self, message: Table.Opened) -> None:
            opened.append(message.table.selected)

    app = Listening()
    async with app.run_test(size=(30, 10)) as pilot:
        table = app.query_one(Table)
        table.show(rows(5))
        await pilot.pause()
        await pilot.click(Table, offset=(5, 4))
        assert table.cursor == 3 and not opened
        await pilot.click(Table, offset=(5, 4), times=2)
        await pilot.pause()
        assert opened == [("row 3", 3)]
