"""The parsers of input files: what they read, and that nothing makes them raise."""

import csv
import io
import json

from hypothesis import example, given
from hypothesis import strategies as st

from seedance_async import GenerationRequest
from seedance_async.cli.inputs import Line, read_lines
from seedance_async.cli.reading.formats import InputFormat
from tests.support.for_each import for_each

JSONL, CSV, PLAIN = InputFormat.JSONL, InputFormat.CSV, InputFormat.PLAIN


def requests(text, form, **options):
    data = text if isinstance(text, bytes) else text.encode()
    lines, problems = read_lines(data, form, **options)
    assert problems == []
    return lines


def problems(text, form, **options):
    data = text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")
    return [str(problem) for problem in read_lines(data, form, **options)[1]]


def test_plain_text_is_one_prompt_per_line_without_blanks_and_comments():
    lines = requests("# a comment\nA river\n\n   \n  A fox  \r\nLast", PLAIN)
    assert lines == [
        Line(2, GenerationRequest("A river")),
        Line(5, GenerationRequest("A fox")),
        Line(6, GenerationRequest("Last")),
    ]


def test_only_a_line_feed_ends_a_line():
    (line,) = requests("A river\u2028in autumn", PLAIN)
    assert line.request.prompt == "A river\u2028in autumn"
    (line,) = requests('{"prompt": "A river\u2028in autumn"}\n', JSONL)
    assert line.request.prompt == "A river\u2028in autumn"


def test_a_byte_order_mark_is_no_part_of_the_first_line():
    (line,) = requests(b"\xef\xbb\xbfA river", PLAIN)
    assert line.request.prompt == "A river"


def test_json_lines_take_the_names_of_the_api_and_of_python():
    (first, second) = requests(
        '{"prompt": "a", "mediaUrls": ["https://example.com/a.jpg"], "aspectRatio": "1:1"}\n\n'
        '{"prompt": "b", "aspect_ratio": "9:16", "duration": 5, "metadata": {"shot": [1]}}\n',
        JSONL,
    )
    assert first.request.media_urls == ("https://example.com/a.jpg",)
    assert first.request.aspect_ratio == "1:1"
    assert (second.number, second.request.metadata) == (3, {"shot": [1]})


def test_csv_reads_every_field():
    (line,) = requests(
        "prompt,model,media_urls,aspectRatio,duration,resolution,webhookUrl,metadata\n"
        '"A river, in\nautumn",seedance-2.0-fast,'
        "https://example.com/a.jpg | https://example.com/b.mp3,"
        '16:9,8,480p,https://example.com/hook,"{""shot"": 7}"\n',
        CSV,
    )
    assert line.number == 1
    assert line.request == GenerationRequest(
        "A river, in\nautumn",
        model="seedance-2.0-fast",
        media_urls=["https://example.com/a.jpg", "https://example.com/b.mp3"],
        aspect_ratio="16:9",
        duration=8,
        resolution="480p",
        webhook_url="https://example.com/hook",
        metadata={"shot": 7},
    )


def test_rows_are_numbered_from_one_under_the_header_as_a_spreadsheet_counts_them():
    text = 'prompt\n"one\ntwo"\n\nthree\n'
    assert [line.number for line in requests(text, CSV)] == [1, 3]
    (problem,) = problems(text + " ,\n,x", CSV)
    assert problem.startswith("line 5 (row 6): row: ['', 'x'] has 2 cells")


def test_an_empty_cell_and_a_missing_one_are_absent():
    first, second = requests("prompt,duration,resolution\na,,\nb\n", CSV, defaults={"duration": 6})
    assert (first.request.duration, second.request.duration) == (6, 6)
    assert first.request.resolution is None


def test_a_line_overrides_the_defaults_under_either_name():
    defaults = {"aspect_ratio": "1:1", "model": "seedance-1.5-pro", "duration": 10}
    first, second, third = requests(
        '{"prompt": "a"}\n{"prompt": "b", "aspectRatio": "9:16", "duration": null}\n'
        '{"prompt": "c", "aspect_ratio": "16:9", "model": "seedance-2.0"}',
        JSONL,
        defaults=defaults,
    )
    assert (first.request.aspect_ratio, first.request.duration) == ("1:1", 10)
    assert (second.request.aspect_ratio, second.request.duration) == ("9:16", None)
    assert (third.request.aspect_ratio, third.request.model) == ("16:9", "seedance-2.0")


@for_each(
    ("text", "form", "message"),
    [
        ('{"prompt": ', JSONL, "line 1: line: '{\"prompt\":' must be a JSON object ("),
        ("[1]", JSONL, "line 1: line: '[1]' must be a JSON object"),
        ("[" * 100_000, JSONL, "line 1: line: '[["),
        ('{"prompt": "a", "prompt": "b"}', JSONL, "('prompt' is given twice)"),
        ('\n{"prompt": " "}', JSONL, "line 2: prompt: ' ' must not be blank"),
        ('{"prompt": "\\ud800"}', JSONL, "prompt: '\\ud800' must be valid Unicode"),
        ('{"duration": 5}', JSONL, "line 1: prompt: None is required"),
        ('{"prompt": "a", "model": []}', JSONL, "line 1: model: [] must be text"),
        ('{"prompt": "a", "duration": 5.0}', JSONL, "duration: 5.0 must be a whole number"),
        (
            '{"prompt": "a", "metadata": {"a": NaN}}',
            JSONL,
            "metadata: {'a': nan} must be a JSON object",
        ),
        ('{"prompt": "a", "media_urls": "x"}', JSONL, "media_urls: 'x' must be a list"),
        ("prompt,duration\na,5_0\n", CSV, "line 1 (row 2): duration: '5_0' must be a whole number"),
        ("prompt,metadata\na,[1]\n", CSV, "line 1 (row 2): metadata: '[1]' must be a JSON object"),
        ("prompt,metadata\na,{\n", CSV, "line 1 (row 2): metadata: '{' must be a JSON object ("),
        ("prompt\na,b\n", CSV, "line 1 (row 2): row: ['a', 'b'] has 2 cells, the header 1"),
        ('prompt\n"a\n', CSV, "row 2: row: 2 has a quote that is opened and never closed"),
        ('prompt\na\n"a"b\n', CSV, "row 3: row: 3 must be readable CSV ('"),
        ("prompt\n" + "a" * 131_073, CSV, "row 2: row: 2 has a cell of more than 131,072 char"),
        (
            "prompt,prompt\na,b\n",
            CSV,
            "row 1: prompt: ['prompt', 'prompt'] is given twice as",
        ),
        ("duration\n5\n", CSV, "row 1: header: ['duration'] must name the prompt"),
        ("media_urls,mediaUrls,prompt\n", CSV, "'prompt'] is given twice as media_urls"),
        (b"good\nb\xffd\n", PLAIN, "line 2: text: b'\\xff' must be UTF-8"),
    ],
)
def test_a_bad_line_is_reported_with_its_number_field_value_and_rule(text, form, message):
    (problem,) = problems(text, form)
    assert message in problem


def test_every_broken_rule_of_a_line_is_reported():
    (problem,) = problems('{"prompt": "", "duration": 99, "aspectRatio": "4:3"}', JSONL)
    assert "prompt: '' must not be blank" in problem
    assert "aspect_ratio: '4:3' must be one of 16:9, 9:16, 1:1" in problem
    assert "duration: 99 must be 4 to 15 seconds" in problem


def test_local_media_are_good_for_a_local_api_alone():
    text = '{"prompt": "a", "media_urls": ["http://127.0.0.1:1/a.jpg"]}'
    assert "must be a public https:// URL" in problems(text, JSONL)[0]
    assert len(requests(text, JSONL, allow_local=True)) == 1


def test_one_bad_line_leaves_the_others_good():
    lines, bad = read_lines(b'{"prompt": "a"}\nnonsense\n{"prompt": "b"}', JSONL)
    assert ([line.number for line in lines], [each.where for each in bad]) == ([1, 3], ["line 2"])


def check(data, form, defaults=None):
    lines, bad = read_lines(data, form, defaults=defaults)
    assert all(not line.request.violations() for line in lines)
    assert all(problem.violations and str(problem) for problem in bad)
    numbers = [line.number for line in lines]
    assert numbers == sorted(set(numbers))
    assert not numbers or numbers[0] >= 1
    assert len({problem.where for problem in bad}) == len(bad)


@given(st.binary(max_size=300), st.sampled_from(InputFormat))
@example(b"prompt\n\x00", CSV)
@example(b"prompt\n" + b"x" * 140_000, CSV)
def test_no_bytes_make_the_parsers_raise(data, form):
    check(data, form)


@given(st.text(max_size=300), st.sampled_from(InputFormat))
def test_no_text_makes_the_parsers_raise(text, form):
    check(text.encode("utf-8", "surrogatepass"), form)


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
FIELDS = ["prompt", "model", "media_urls", "aspect_ratio", "duration", "resolution", "metadata"]
NAMES = st.sampled_from([*FIELDS, "mediaUrls", "aspectRatio", "webhookUrl", "webhook_url"])
VALUES = ANYTHING | st.sampled_from(["seedance-2.0", "16:9", "720p", 5, ["https://example.com"]])


@given(
    st.lists(st.dictionaries(NAMES | st.text(), VALUES, max_size=6), max_size=4),
    st.dictionaries(st.sampled_from(["duration", "model"]), VALUES),
)
def test_no_json_objects_make_the_parser_raise(objects, defaults):
    check("\n".join(map(json.dumps, objects)).encode(), JSONL, defaults)


@given(st.lists(NAMES | st.text(), max_size=5), st.lists(st.lists(st.text(), max_size=5)))
def test_no_csv_table_makes_the_parser_raise(header, rows):
    written = io.StringIO()
    csv.writer(written).writerows([header, *rows])
    check(written.getvalue().encode("utf-8", "surrogatepass"), CSV)


@given(st.lists(st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1)))
def test_a_csv_of_prompts_says_what_the_prompts_were(prompts):
    written = io.StringIO()
    csv.writer(written).writerows([["prompt"], *([prompt] for prompt in prompts)])
    lines = requests(written.getvalue(), CSV)
    assert [line.request.prompt for line in lines] == prompts


def test_a_problem_shortens_what_it_shows():
    (problem,) = read_lines(b"x" * 1000, JSONL)[1]
    assert len(str(problem)) < 300
