"""Which names are fields, which are columns, and which are refused for seeming to be a field."""

import json

from seedance_async.cli.inputs import read_lines
from tests.support.for_each import for_each


def read(text, name="a.csv", **options):
    lines, problems = read_lines(text.encode(), None, name=name, **options)
    return lines, list(map(str, problems))


@for_each(
    ("header", "field"),
    [
        ("Aspect Ratio", "aspect_ratio"),
        ("ASPECT-RATIO", "aspect_ratio"),
        ("aspectRatio", "aspect_ratio"),
        (" aspect_ratio ", "aspect_ratio"),
    ],
)
def test_case_and_spaces_of_a_name_do_not_count(header, field):
    (line,), problems = read(f"PROMPT,{header}\nA river,9:16\n")
    assert problems == []
    assert getattr(line.request, field) == "9:16"
    assert line.columns == {}


@for_each(
    ("name", "meant"),
    [
        ("durations", "duration"),
        ("Resolutoin", "resolution"),
        ("Modell", "model"),
        ("image", "media_urls"),
        ("First Frame", "media_urls"),
        ("seconds", "duration"),
        ("aspect_ration", "aspect_ratio"),
    ],
)
def test_a_name_that_seems_to_be_a_field_is_refused_once_and_says_which(name, meant):
    lines, (problem,) = read(f"prompt,{name}\nA river,5\nA fox,5\n")
    assert lines == []
    assert problem.startswith("row 1: ")
    assert f'did you mean {meant}, as by --map "{name}={meant}"?' in problem
    assert f'If it is a column of your own: --map "{name}={name}"' in problem
    (line,), problems = read(f"prompt,{name}\nA river,5\n", names={name: name})
    assert (problems, line.columns) == ([], {name: "5"})
    _, (problem,) = read(json.dumps({"prompt": "a", name: 5}), "a.jsonl")
    assert f"did you mean {meant}," in problem


def test_beside_the_field_itself_such_a_name_is_a_column():
    (line,), problems = read("prompt,prompt_de,text,media_urls,image\nA river,Ein Fluss,t,,i\n")
    assert problems == []
    assert line.columns == {"prompt_de": "Ein Fluss", "text": "t", "image": "i"}
    assert line.request.media_urls == ()


def test_a_mapped_name_is_the_field_or_the_column_that_it_is_mapped_to():
    names = {"shot text": "prompt", "Secs": "Duration", "id": "shot", "prompt": "idea"}
    (line,), problems = read("Shot Text,secs,ID,prompt\nA river,5,7,wet\n", names=names)
    assert problems == []
    assert (line.request.prompt, line.request.duration) == ("A river", 5)
    assert line.columns == {"shot": "7", "idea": "wet"}


@for_each(
    ("text", "names", "problem"),
    [
        ("prompt\na\n", {"Secs": "duration"}, "--map: 'Secs' is no name in the file, which has 'p"),
        (
            "prompt,Secs\na,5\n",
            {"Secs": "durations"},
            "name: 'durations' is no field: did you mean duration,",
        ),
        ("prompt,b\na,c\n", {"b": "prompt"}, "b: ['prompt', 'b'] is given twice as prompt"),
        (
            "scene,shot\n1,A river\n",
            {},
            'must name the prompt; if it has another name, --map "NAME',
        ),
        ("prompt,,\na,,b\n", {}, "row: 'b' is under no header"),
        ("prompt,scene,scene\na,b,c\n", {}, "scene: ['prompt', 'scene', 'scene'] is given twice"),
        (
            '{"prompt": "a", "Prompt": "b"}\n{"prompt": "c"}',
            {},
            "Prompt: ['prompt', 'Prompt'] is g",
        ),
    ],
)
def test_a_fault_of_the_names_is_refused(text, names, problem):
    _, (found,) = read(text, "a.jsonl" if text.startswith("{") else "a.csv", names=names)
    assert problem in found


def test_empty_columns_at_the_end_are_nothing():
    (line,), problems = read("prompt,scene,,\nA river,1,,,,\n")
    assert (problems, line.columns) == ([], {"scene": "1"})


def test_columns_of_json_keep_their_values():
    (line,), _ = read_lines(
        b'{"prompt": "a", "cast": ["x"], "take two": null}', None, name="a.json"
    )
    assert line.columns == {"cast": ["x"], "take two": None}
