"""Which files are understood, and that none is taken for prompts that it does not have."""

import csv
import io
import json

from hypothesis import example, given, settings
from hypothesis import strategies as st

from seedance_async.cli.inputs import read_lines
from seedance_async.cli.reading.formats import InputFormat
from tests.support.for_each import for_each


def read(text, name="prompts", **options):
    """The prompts of a file's lines with their columns, and its problems."""
    data = text if isinstance(text, bytes) else text.encode()
    lines, problems = read_lines(data, None, name=name, **options)
    return [(line.request.prompt, dict(line.columns)) for line in lines], list(map(str, problems))


RECORDS = [{"prompt": 'A river; wide, "slow"', "scene": "1"}, {"prompt": "A fox", "scene": "2"}]
FOUND = [(record["prompt"], {"scene": record["scene"]}) for record in RECORDS]


def table(records, delimiter, header=None):
    written = io.StringIO()
    writer = csv.writer(written, delimiter=delimiter)
    rows = [[each["prompt"], each["scene"]] for each in records]
    writer.writerows([header or ["prompt", "scene"], *rows])
    return written.getvalue()


@for_each("name", ["shots", "shots.txt", "shots.csv", "standard input"])
@for_each("delimiter", [",", ";", "\t"])
def test_a_table_is_understood_with_any_separator_under_any_name(name, delimiter):
    assert read(table(RECORDS, delimiter), name) == (FOUND, [])


@for_each("name", ["shots", "shots.txt", "shots.json", "shots.jsonl"])
@for_each(
    "text",
    [json.dumps(RECORDS), json.dumps(RECORDS, indent=2), "\n".join(map(json.dumps, RECORDS))],
)
def test_json_is_understood_in_either_form_under_any_name(name, text):
    assert read(text, name) == (FOUND, [])


def test_a_tsv_is_separated_by_tabs_alone():
    assert read("prompt\nA river, slow; wide\n", "a.tsv") == ([("A river, slow; wide", {})], [])


def test_a_single_object_is_one_request():
    assert read('{\n"prompt": "A river"\n}', "a.json") == ([("A river", {})], [])


def test_a_spreadsheet_may_name_its_separator_in_the_first_line():
    text = "sep=|\r\nPrompt|scene\r\nA river, slow|1\r\n"
    assert read(text, "a.csv") == ([("A river, slow", {"scene": "1"})], [])


@for_each("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_the_encodings_of_spreadsheets_are_read(encoding):
    text = "prompt\tscene\nEin Fluß im Herbst\tÜ\n"
    assert read(text.encode(encoding)) == ([("Ein Fluß im Herbst", {"scene": "Ü"})], [])


@for_each(
    ("data", "where", "what"),
    [
        ("prompt\nEin Fluß\n".encode("cp1252"), "line 2", "save as “CSV UTF-8”; elsewhere, `iconv"),
        (b"PK\x03\x04rest", "line 1", "is a spreadsheet or another packed file"),
        ("A river".encode("utf-32"), "line 1", "not UTF-32"),
        ("A river\nB".encode("utf-16-le"), "line 1", "is not text"),
        (b"\xff\xfeA", "line 1", "begins as UTF-16 does"),
        (b"A river\n\x89PNG\x1a", "line 2", "must be UTF-8"),
        (b"%PDF-1.4\n\x00", "line 2", "is not text"),
    ],
)
def test_what_is_no_text_is_refused_with_what_to_do(data, where, what):
    lines, (problem,) = read(data, "a.csv")
    assert lines == []
    assert problem.startswith(where)
    assert what in problem


def test_lines_that_end_as_on_an_old_mac_are_lines():
    assert read("A river\rA fox\r")[0] == [("A river", {}), ("A fox", {})]


NO_PROMPTS = [
    ("scene,text\n1,A river\n2,A fox", "a.txt"),
    ("scene;text\n1;A river; wide\n", ""),
    ("scene, text\n1, A river, wide\n2, A fox\n", ""),
    ("| scene | text |\n| --- | --- |\n", "a.md"),
    ("```\nA river\n```\n", "a.md"),
    ("Szene\tText\n1\tEin Fluss\n", ""),
    ("A river\tA fox\n", ""),
    ('[{"prompt": "A river"},\n{"prompt": "A fox"}', "a.txt"),
    ('{"prompt": "A river"\n', ""),
    ('["A river", "A fox"]', ""),
    ('A river\n{\n  "prompt": "A fox"\n}\n', ""),
    ('"prompt": "A river",\n', ""),
    ("- prompt: A river\n- prompt: A fox\n", "a.txt"),
    ("prompt = A river", ""),
    ("A river\n", "shots.yaml"),
    ("A river\n", "shots.xlsx"),
    ("import sys\n", "make.py"),
    ("#!/bin/sh\nls\n", ""),
    ("<html><body>\n", "a"),
    ("[shots]\nfirst = A river\n", ""),
    ("{\\rtf1 A river}\n", ""),
]


@for_each(("text", "name"), NO_PROMPTS)
def test_what_does_not_look_like_prompts_is_refused_with_one_sentence(text, name):
    lines, problems = read(text, name)
    assert lines == []
    (problem,) = problems
    assert "--format plain" in problem


@for_each(("text", "name"), NO_PROMPTS)
def test_the_user_may_say_that_they_are_prompts(text, name):
    lines, problems = read_lines(text.encode(), InputFormat.PLAIN, name=name)
    assert problems == []
    assert lines


@for_each(
    "text",
    [
        "A river, slow, in autumn\nA fox, quick, in snow\nA boat, old, at sea\n",
        "[wide shot] A river in autumn\n",
        "sunset, beach, fog\nriver, fox\n",
        "3 foxes, running\n2 boats, sinking\n",
        "A river; a fox; the end\nA boat\n",
        '"A river" says the title\n',
        "Prompt attention: a river\n",
        "<3 rivers\n",
        "# header,of,comments\nA river\n",
        "Fluss\n",
        "# only\n# prompt,model\nA river, slow\n",
    ],
)
def test_prompts_are_prompts(text):
    lines, problems = read(text)
    assert problems == []
    assert [prompt for prompt, _ in lines] == [
        line for line in text.splitlines() if not line.startswith("#")
    ]


WORDS = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1, max_size=9)
CELLS = st.lists(WORDS, min_size=1, max_size=4).map(" ".join)
TABLES = st.lists(st.fixed_dictionaries({"prompt": CELLS, "scene": CELLS}), min_size=1, max_size=4)


@given(TABLES, st.sampled_from(",;\t"), st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]))
@example([{"prompt": "=1;2", "scene": '"'}], ",", "utf-8")
def test_columns_come_back_from_any_table_as_they_were(records, delimiter, encoding):
    found, problems = read(table(records, delimiter).encode(encoding))
    assert problems == []
    assert found == [(record["prompt"], {"scene": record["scene"]}) for record in records]


@given(
    st.lists(
        st.fixed_dictionaries({"prompt": CELLS}, optional={"scene": st.integers()}), min_size=1
    )
)
def test_columns_come_back_from_json_as_they_were(records):
    for text in (json.dumps(records), "\n".join(map(json.dumps, records))):
        found, problems = read(text, "a.json")
        assert problems == []
        assert [{"prompt": prompt, **columns} for prompt, columns in found] == records


@given(TABLES, st.sampled_from(",;\t"), st.lists(WORDS, min_size=2, max_size=2, unique=True))
def test_no_row_of_a_table_is_ever_bought_as_a_prompt(records, delimiter, header):
    """Whatever its header says, the rows are read as a table, or the file is refused."""
    text = table(records, delimiter, header)
    found, problems = read(text)
    assert bool(found) != bool(problems)
    prompts = {value for record in records for value in record.values()}
    assert {prompt for prompt, _ in found} <= prompts


OBJECTS = st.lists(st.dictionaries(WORDS, WORDS, min_size=1, max_size=3), min_size=1, max_size=4)


@settings(max_examples=40)
@given(OBJECTS, st.integers(0, 200))
def test_no_piece_of_json_is_ever_bought_as_a_prompt(objects, cut):
    whole = json.dumps(objects, indent=1, ensure_ascii=False)
    for text in (whole, whole[:cut] or whole, "\n".join(map(json.dumps, objects))):
        found, problems = read(text)
        assert problems
        assert found == []
