"""The page in a real Chromium."""

import asyncio
import json
import queue
import threading
from contextlib import contextmanager, suppress

import attrs
import pytest
from selenium.webdriver.common.keys import Keys

from seedance_async.cli.app import run
from seedance_async.media.gallery import LiveGallery, Shot
from seedance_async.media.gallery.server import serve
from tests.media.gallery.conftest import CHEF, HARBOUR, RIVER, STORM
from tests.media.gallery.test_page import HOSTILE
from tests.support.browser import NARROW, WIDE

CARDS = "#grid .card .prompt"
CURRENT = "document.querySelector('.card.current .prompt').textContent"


@pytest.fixture
def opened(browser, written, four):
    browser.open(written(*four))
    browser.until("document.querySelectorAll('#grid .card').length === 4")
    yield browser
    browser.script("localStorage.clear()")


def card(browser, prompt):
    return next(each for each in browser.all("#grid .card") if prompt in each.text)


def test_a_hostile_prompt_is_shown_and_does_not_run(browser, written):
    attack = (
        "<img src=x onerror=\"document.title='run'\"></script><script>document.title='run'</script>"
    )
    prompts = [*(text for text in HOSTILE if "\ud800" not in text and "\0" not in text), attack]
    shots = [
        Shot(
            id=text,
            state="failed",
            request={"prompt": text},
            columns={text: text},
            error=text,
            line=n,
        )
        for n, text in enumerate(prompts, 1)
    ]
    browser.open(written(*shots))
    browser.until("document.querySelector('#grid .card')")
    browser.shows(CARDS, prompts)
    browser.press("j", "1", "c", Keys.ENTER)
    browser.press(Keys.ESCAPE, "e")
    assert browser.driver.title == "videos"
    assert browser.all("img[src=x]") == []


def test_search_state_and_columns_narrow_the_list(opened):
    opened.press("/")
    opened.press("SEA moder")
    opened.shows(CARDS, [])
    opened.press(Keys.ESCAPE, "/")
    opened.press("req_2")
    opened.shows(CARDS, [STORM])
    opened.press(Keys.ESCAPE)
    opened.find("select:has(option[value=sea])").send_keys("sea")
    opened.shows(CARDS, [STORM, HARBOUR])
    opened.find("select:has(option[value='480p'])").send_keys("480p")
    opened.shows(CARDS, [HARBOUR])
    opened.find("#filters button").click()
    opened.find("[data-state=failed]").click()
    opened.shows(CARDS, [CHEF])
    assert opened.texts(".instead .reason") == ["refused by moderation"]
    assert opened.texts("#summary") == ["3 videos · 120 credits"]


def test_a_video_plays_under_the_pointer_until_it_leaves(opened):
    opened.hover(card(opened, STORM).find_element("css selector", ".frame"))
    playing = "document.querySelector('.frame video')"
    opened.until(f"{playing} && {playing}.currentTime > 0.1 && {playing}.muted")
    assert opened.script(f"return {playing}.getAttribute('src')").endswith("/2.mp4")
    opened.hover(opened.find("h1"))
    opened.until(f"{playing} === null")


def test_a_tap_plays_a_video(opened, written, four):
    opened.open(written(*four), NARROW, touch=True)
    place = opened.until("document.querySelector('.frame')?.getBoundingClientRect().toJSON()")
    point = {"x": place["x"] + 50, "y": place["y"] + 50}
    opened.cdp("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": [point]})
    opened.cdp("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    opened.until("document.querySelector('.frame video')?.currentTime > 0")
    assert not opened.script("return document.querySelector('#viewer').open")


def test_the_keyboard_moves_plays_and_shows_its_keys(opened):
    opened.press("j")
    assert opened.script(f"return {CURRENT}") == STORM
    opened.until("document.querySelector('.card.current video')?.currentTime > 0")
    opened.press(" ")
    assert opened.script("return document.querySelector('.card.current video').paused")
    opened.press("k")
    assert opened.script(f"return {CURRENT}") == RIVER
    opened.press("G")
    assert opened.script(f"return {CURRENT}") == CHEF
    opened.press("?")
    assert "rate; the same again takes it back" in opened.find("#help").text
    opened.press("5", Keys.ESCAPE)
    assert opened.all("#help[open], .star.on") == []


def test_ratings_and_picks_survive_a_reload(opened):
    opened.press("j", "4", "p")
    opened.press("j", "2", "2")
    opened.driver.refresh()
    opened.until("document.querySelectorAll('#grid .card').length === 4")
    rated = [row.get_attribute("aria-label") for row in opened.all("[data-stars]")]
    assert rated == ["Not rated", "Rated 4 of 5", "Not rated", "Not rated"]
    opened.find("[data-state=picks]").click()
    opened.shows(CARDS, [STORM])


def test_one_large_shows_everything_that_is_known(opened):
    opened.press("j", Keys.ENTER)
    opened.until("document.querySelector('#viewer video')?.currentTime > 0")
    shown = opened.find("#viewer").text
    for text in ("2 of 4", STORM, "720p", "Text to video", "40 credits", "1:35", "a.png", "sea"):
        assert text in shown
    assert "sig=1" not in shown
    opened.press("3", "j", "j")
    assert "refused by moderation" in opened.find("#viewer").text
    assert "change the prompt" in opened.find("#viewer").text
    opened.press(Keys.ESCAPE)
    opened.until(f"{CURRENT} === arguments[0]", CHEF)


#: How far the videos are from the one that leads; one that is shorter waits at its end.
SPREAD = """(() => {
  const videos = [...document.querySelectorAll('#compare video')];
  const lead = Math.max(...videos.map((video) => video.currentTime));
  const off = (video) => Math.abs(video.currentTime - Math.min(lead, video.duration));
  return Math.max(...videos.map(off));
})()"""


def test_videos_are_compared_on_one_clock(opened):
    opened.press("c", "j", "c", "j", "c", "v")
    videos = "[...document.querySelectorAll('#compare video')]"
    running = f"{videos}.every((video) => video.currentTime > 0.4 && !video.ended)"
    opened.until(f"{videos}.length === 3 && {running} && {SPREAD} < 0.1")
    opened.press(" ")
    opened.until(f"{videos}.every((video) => video.paused && !video.seeking)")
    assert opened.script(f"return {SPREAD}") < 0.001
    opened.script(
        "const time = document.querySelector('#compare input');"
        "time.value = 1.5; time.dispatchEvent(new Event('input'))"
    )
    opened.press(",")
    opened.until(f"{videos}.every((video) => !video.seeking)")
    times = opened.script(f"return {videos}.map((video) => video.currentTime)")
    assert times == pytest.approx([1.5 - 1 / 24] * 3, abs=0.001)
    opened.script("window.kept = document.querySelector('#compare video')")
    opened.press("5", Keys.ESCAPE)
    opened.until("document.querySelector('#compare video') === null")
    opened.script("kept.dispatchEvent(new Event('loadedmetadata'))")  # one that comes too late
    assert opened.all("#grid [aria-label='Rated 5 of 5']") != []


def test_no_more_than_four_are_compared_and_no_failed_one(browser, written, four):
    more = [Shot(id=f"m{n}", state="succeeded", video=four[0].video, line=10 + n) for n in range(3)]
    browser.open(written(*four, *more))
    browser.until("document.querySelectorAll('#grid .card').length === 7")
    browser.press(*"cjcjcjcjcjcjc")
    assert len(browser.all("#tray .thumb")) == 4


def test_the_export_is_a_file_that_a_batch_takes(opened, tmp_path, monkeypatch, capsys):
    opened.cdp("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(tmp_path)})
    opened.press("j", "p", "5", "j", "p", "e")
    opened.find("#export select:has(option[value='1080p'])").send_keys("1080p")
    assert "2 requests." in opened.find("#plan").text
    opened.find("#save").click()
    opened.until("!document.querySelector('#export').open")
    path = tmp_path / "picks.jsonl"
    opened.wait(path.exists)
    storm, harbour = map(json.loads, path.read_text("utf-8").splitlines())
    assert (storm["prompt"], storm["resolution"], storm["rating"]) == (STORM, "1080p", 5)
    assert storm["mediaUrls"] == ["https://cdn.example/a.png?sig=1"]
    assert (harbour["prompt"], harbour["scene"], "rating" in harbour) == (HARBOUR, "sea", False)
    assert (storm["key"], harbour["mediaUrls"]) == ("shot-2", [{"from": "shot-2", "frame": "last"}])
    assert "key" not in harbour
    monkeypatch.chdir(tmp_path)
    assert run(["batch", "picks.jsonl", "--dry-run", "--base-url", "http://127.0.0.1:1"]) == 0
    assert "2 jobs would be submitted" in capsys.readouterr().out


@contextmanager
def served(live):
    """A gallery on a thread of its own, while the test waits for the browser."""
    urls, loop = queue.SimpleQueue(), asyncio.new_event_loop()
    task = loop.create_task(serve(live, urls.put))

    def work():
        with suppress(asyncio.CancelledError):
            loop.run_until_complete(task)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield urls.get(timeout=10)
    finally:
        loop.call_soon_threadsafe(task.cancel)
        thread.join()
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()


def test_a_change_appears_without_a_reload(browser, four):
    running = attrs.evolve(four[0], state="running", video=None, poster=None)
    shots = [running, four[3]]
    live = LiveGallery("videos", lambda: list(shots), lambda: len(shots))
    with served(live) as url:
        browser.open(url)
        browser.until("document.querySelectorAll('#grid .card').length === 2")
        assert browser.texts(".instead .state") == ["Running", "Failed"]
        browser.script("window.same = true")
        shots[:] = four
        browser.until("document.querySelectorAll('#grid .card').length === 4")
        browser.shows(CARDS, [RIVER, STORM, HARBOUR, CHEF])
        assert browser.script("return window.same")
        browser.hover(card(browser, RIVER).find_element("css selector", ".frame"))
        browser.until("document.querySelector('.frame video')?.currentTime > 0")
        browser.driver.get("about:blank")


def test_two_thousand_shots_make_no_more_cards_than_are_near_the_screen(browser, written, four):
    shots = [Shot(id=f"r{n}", state="succeeded", video=four[0].video, line=n) for n in range(2000)]
    browser.open(written(*shots))
    browser.until("document.querySelector('#grid .card')")
    assert browser.script("return document.querySelectorAll('#grid .shell').length") == 2000
    assert len(browser.all("#grid .card")) < 60
    browser.press("G")
    browser.until("document.querySelector('.card.current .number').textContent === '1999'")
    assert browser.script("return scrollY") > 10_000


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_fault(opened, scheme):
    opened.scheme(scheme)
    opened.press("j", "3", "p", "c", "j", "c")
    faults = {"grid": opened.axe()}
    for name, keys in {"compare": "v", "viewer": Keys.ENTER, "export": "e", "help": "?"}.items():
        opened.press(keys)
        faults[name] = opened.axe() if scheme == "dark" else opened.axe("color-contrast")
        opened.press(Keys.ESCAPE)
    assert {name: found for name, found in faults.items() if found} == {}


@pytest.mark.parametrize("size", [WIDE, NARROW], ids=["wide", "narrow"])
def test_nothing_is_wider_than_the_screen(opened, written, four, size):
    opened.open(written(*four), size)
    opened.until("document.querySelectorAll('#grid .card').length >= 2")
    widths = "return [document.documentElement.scrollWidth, innerWidth]"
    opened.press("c", "j", "c")
    found = [opened.script(widths)]
    opened.press("--")
    found += opened.script("""
        const rows = [...document.querySelectorAll('#grid .marks, #grid .prompt')];
        return rows.map((row) => [row.scrollWidth, row.clientWidth]);""")
    for keys in ("v", Keys.ENTER, "e", "?"):
        opened.press(keys)
        found.append(
            opened.script("""
          const dialog = document.querySelector('dialog[open]');
          return [dialog.scrollWidth, dialog.clientWidth];""")
        )
        opened.press(Keys.ESCAPE)
    assert [pair for pair in found if pair[0] > pair[1]] == []
