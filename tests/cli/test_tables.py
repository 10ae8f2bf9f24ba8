"""Tables fit the terminal: no row breaks, and what tells the rows apart stays."""

from rich.cells import cell_len

from seedance_async.cli.tables import shortened, table

ROW = {
    "key": "0123456789abcdef0123456789abcdef-1.take2",
    "state": "queued/processing",
    "request_id": "req_1234567890",
    "credits": "40",
    "file": "videos/0007-take2-req_1234567890.mp4",
    "prompt": "A river in autumn, seen from a slow boat",
}


def test_without_a_terminal_nothing_is_cut():
    heading, row = table([ROW], None)
    assert row.split("  ") == list(ROW.values()) or all(value in row for value in ROW.values())
    assert heading.split() == ["key", "state", "request", "id", "credits", "file", "prompt"]


def test_in_a_terminal_no_line_is_wider_and_no_id_is_cut():
    for width in (200, 160, 120, 100, 80):
        lines = table([ROW, {**ROW, "prompt": "川の秋" * 20}], width)
        assert all(cell_len(line) <= width for line in lines)
        assert all(ROW["request_id"] in line for line in lines[1:])
        assert "…" not in lines[1] or width < 172
    assert "file" not in lines[0]
    assert lines[1].startswith("0123456789a….take2  queued/processing  req_1234567890  40 ")


def test_a_very_narrow_terminal_cuts_the_lines():
    assert all(cell_len(line) <= 30 for line in table([ROW], 30))


def test_no_rows_are_no_table():
    assert table([], 80) == []


def test_a_text_is_cut_by_its_cells():
    assert shortened("short", 5) == "short"
    assert shortened("longer", 5) == "long…"
    assert shortened("川の秋川の秋", 6) == "川の…"
    assert shortened("0123456789-2", 9, keep_end=True) == "01234…9-2"
