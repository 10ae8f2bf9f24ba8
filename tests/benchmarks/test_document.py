"""The documents have the exact output of the benchmarks."""

import json

import pytest

from benchmarks.document import DOCUMENT, DOCUMENTS, documented
from benchmarks.report import RESULTS, Target, table


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.stem)
def test_the_tables_of_a_document_are_from_the_last_runs(document):
    text = document.read_text("utf-8")
    assert documented(text) == text


def test_every_benchmark_with_results_is_in_the_document():
    text = DOCUMENT.read_text("utf-8")
    assert [p.stem for p in RESULTS.glob("*.json") if f"printed: {p.stem} -->" not in text] == []


def test_every_benchmark_with_results_has_a_plot_that_the_document_shows():
    text = DOCUMENT.read_text("utf-8")
    plots = {kept.stem: kept.with_suffix(".png") for kept in RESULTS.glob("*.json")}
    assert [name for name, plot in plots.items() if f"results/{name}.png)" not in text] == []
    signature = b"\x89PNG"
    assert all(plot.read_bytes().startswith(signature) for plot in plots.values())


def test_every_torture_with_a_record_is_in_the_document():
    text = DOCUMENTS[1].read_text("utf-8")
    records = (RESULTS / "torture").glob("*.json")
    assert [p.stem for p in records if f"printed: torture/{p.stem} -->" not in text] == []


def test_a_mark_is_filled_with_the_output_of_the_benchmark_it_names(tmp_path):
    kept = {"command": "python -m benchmarks.x", "printed": "x: 1"}
    (tmp_path / "x.json").write_text(json.dumps(kept))
    text = "a\n<!-- printed: x -->\nold\n<!-- end -->\nb"
    filled = documented(text, tmp_path)
    assert "```\n$ python -m benchmarks.x\nx: 1\n```" in filled
    assert "old" not in filled
    assert documented(filled, tmp_path) == filled


def test_a_target_is_met_up_to_its_bound_and_missed_beyond_it():
    assert Target("t", 1.0, at_most=1.0).met
    assert not Target("t", 1.1, at_most=1.0).met
    assert Target("t", 0.9, at_least=0.9).met
    assert str(Target("t", 0.8, at_least=0.9)).startswith("MISSED")
    assert not Target("t", float("nan"), at_most=1.0).met


def test_a_table_has_aligned_columns():
    assert table(["", "n"], [["a", 1.5], ["bcd", 12345]]) == "          n\na       1.5\nbcd  12,345"
