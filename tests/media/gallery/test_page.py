"""The page's document: whole, alone, and deaf to what is in its data."""

import json
import re
from base64 import b64encode
from hashlib import sha256
from html import unescape

from hypothesis import given
from hypothesis import strategies as st

from seedance_async.media.gallery import Gallery, Shot, page
from tests.support.for_each import for_each

HOSTILE = (
    "</script><script>document.title='run'</script>",
    "<!--<script>",
    "]]>--!>",
    "\u2028\u2029\x00\x7f",
    "\"\\'`${1}",
    "{{script}} {{data}}",
    "עברית ‮ 夜市 🎬",
    "a lone \ud800 surrogate",
)


def shot(**fields):
    return Shot(**{"id": "req_1", "state": "succeeded", "request": {"prompt": "p"}, **fields})


def made(*shots, title="videos", address=lambda path: path.name):
    return page(Gallery(title), shots, address)


def data_of(text):
    """The data as a browser reads them: up to the first end of a script."""
    (found,) = re.findall(r'<script type="application/json" id="data">(.*?)</script', text, re.S)
    return json.loads(found)


def script_of(text):
    return re.findall(r"<script>(.*?)</script>", text, re.DOTALL)


@for_each("prompt", HOSTILE)
def test_any_prompt_comes_out_as_it_went_in(prompt):
    text = made(shot(request={"prompt": prompt}, error=prompt))
    (kept,) = data_of(text)["shots"]
    assert (kept["request"]["prompt"], kept["error"]) == (prompt, prompt)


@given(st.text(), st.text())
def test_no_text_changes_what_the_page_runs(prompt, title):
    text = made(shot(request={"prompt": prompt}, columns={prompt: title}), title=title)
    assert script_of(text) == script_of(made())
    assert text.count("<script") == made().count("<script")
    assert data_of(text)["shots"][0]["columns"] == {prompt: title}


def test_a_title_is_text():
    text = made(title="<b>&\"'")
    assert "<h1>&lt;b&gt;&amp;&quot;&#x27;</h1>" in text


def test_the_page_needs_nothing_from_elsewhere():
    text = made(shot())
    without_names = text.replace("http://www.w3.org/2000/svg", "")  # the name of a language
    assert "://" not in without_names
    assert "@import" not in text
    assert not re.search(r'<(script|link|img)[^>]* (src|href)="(?!data:,)', text)


def test_the_policy_allows_the_page_s_own_script_and_style_alone():
    text = made(shot())
    policy = unescape(re.findall(r'http-equiv="Content-Security-Policy" content="(.*?)"', text)[0])
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert rules["default-src"] == "'none'"
    (script,), (style,) = script_of(text), re.findall(r"<style>(.*?)</style>", text, re.DOTALL)
    for kind, content in (("script-src", script), ("style-src", style)):
        digest = b64encode(sha256(content.encode()).digest()).decode()
        assert rules[kind] == f"'sha256-{digest}'"


def test_nothing_absent_is_in_the_data_and_files_are_addresses(tmp_path):
    data = data_of(made(shot(video=tmp_path / "1.mp4", poster=tmp_path / "1.jpg", line=3)))
    assert data["shots"] == [
        {
            "id": "req_1",
            "state": "succeeded",
            "request": {"prompt": "p"},
            "line": 3,
            "video": "1.mp4",
            "poster": "1.jpg",
            "name": "1.mp4",
        }
    ]
    assert str(tmp_path) not in made(shot(video=tmp_path / "1.mp4"))
