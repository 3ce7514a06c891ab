"""The page of a report in a real browser: nothing fails, nothing overflows, and pointing, keys and sorting work."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from saccade.evaluate.measure import measure_video
from saccade.preprocess import Preprocess
from saccade.report.album import Album
from saccade.report.page import write_page
from saccade.stream import Stream
from saccade.video import Frame
from saccade.zoo import LoadedModel

sync_api = pytest.importorskip("playwright.sync_api", reason="needs a browser: pip install playwright")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
if CHROMIUM is None:
    pytest.skip("there is no Chromium here", allow_module_level=True)

COUNT = 30


@pytest.fixture(scope="module")
def report_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        body = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 4, 3, padding=1)).eval()
    how = Preprocess(size=(45, 80))
    name = "a_model_with_one_very_long_name_and_no_place_to_break_it_" * 3
    model = LoadedModel(name, body, (torch.zeros(1, 3, 45, 80),), how, kind="segmentation", weights="random, seed 0")
    stream = Stream(body, model.example, tolerance=0.05, preprocess=how)
    album = Album(model, stream)
    draw = np.random.default_rng(0)
    still = draw.integers(40, 200, (12, 20, 3)).repeat(15, 0).repeat(16, 1)
    frames = []
    for index in range(COUNT):
        picture = still + draw.integers(0, 3, still.shape)
        picture[40:90, 9 * index : 9 * index + 40] = 255
        frames.append(Frame(picture.astype(np.uint8), index, index / 25))
    report = measure_video(
        stream, frames, reference=body, observe=album.add, model=name, video="clip <b>.mp4", command=f"saccade {name}"
    )
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(write_page(report, key_frames=album.key_frames(), worst=album.worst), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield opened
        opened.close()


@pytest.fixture(params=[(400, "light"), (400, "dark"), (1400, "light"), (1400, "dark")], ids=str)
def page(request: pytest.FixtureRequest, browser: Any, report_file: Path) -> Iterator[Any]:
    """The opened page; whatever the browser complained of or asked for fails the test."""
    width, scheme = request.param
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    shown = context.new_page()
    wrong: list[str] = []
    shown.on("console", lambda message: wrong.append(f"{message.type}: {message.text}"))
    shown.on("pageerror", lambda error: wrong.append(str(error)))
    shown.on("requestfailed", lambda asked: wrong.append(f"failed: {asked.url[:80]}"))
    shown.on("request", lambda asked: asked.url.startswith(("file:", "data:")) or wrong.append(asked.url[:80]))
    shown.goto(report_file.as_uri())
    yield shown
    assert wrong == []
    context.close()


def test_all_is_shown_and_nothing_overflows(page: Any) -> None:
    for name in ("agreement", "time", "worst", "steps", "origin"):
        box = page.locator(f"#{name}").bounding_box()
        assert box["height"] > 80, name
    wide = page.viewport_size["width"]
    assert page.evaluate("document.documentElement.scrollWidth") <= wide
    loaded = page.evaluate("[...document.images].map(image => image.complete && image.naturalWidth > 0)")
    assert len(loaded) > 10
    assert all(loaded)
    outside = page.evaluate(
        "[...document.querySelectorAll('body *')].filter(e => !e.closest('.scroll') && !e.closest('svg'))"
        ".filter(e => e.getBoundingClientRect().right > innerWidth + 1).map(e => e.outerHTML.slice(0, 80))"
    )
    assert outside == []


def test_the_colours_follow_the_scheme_and_can_be_read(page: Any) -> None:
    dark = page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches")
    luminance = """selector => {
        const read = (element, name) => getComputedStyle(element)[name].match(/[\\d.]+/g).slice(0, 3).map(Number);
        const light = rgb => rgb.map(c => c / 255).map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
            .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
        return [light(read(document.querySelector(selector), 'color')), light(read(document.body, 'backgroundColor'))];
    }"""
    for selector in ("h1", ".note", ".brand", ".level-label", ".mark.repeat span", ".tile.first strong", ".axis-label"):
        text, paper = page.evaluate(luminance, selector)
        assert (paper < 0.1) == dark
        contrast = (max(text, paper) + 0.05) / (min(text, paper) + 0.05)
        assert contrast >= 4.5, (selector, contrast)


def test_pointing_at_a_mark_tells_its_numbers(page: Any) -> None:
    chart = page.locator(".chart").first
    mark = chart.locator(".mark.operating")
    mark.locator("i").hover()
    assert chart.locator(".says").text_content() == mark.get_attribute("data-says")
    assert "operating point: macs" in chart.locator(".says").text_content()
    chart.locator(".mark.repeat").first.focus()
    assert "dense result repeated" in chart.locator(".says").text_content()


def test_moving_over_the_course_shows_the_frame_there_and_its_nearest_key_frame(page: Any) -> None:
    area = page.locator("#course .area").first
    area.scroll_into_view_if_needed()
    for place in (0, 11, COUNT - 1):
        box = area.bounding_box()
        page.mouse.move(box["x"] + min(max(box["width"] * place / (COUNT - 1), 2), box["width"] - 2), box["y"] + 40)
        assert page.locator("#viewer p").text_content().startswith(f"frame {place} at {place / 25:.2f} s")
        left = page.evaluate("document.querySelector('.cursor').style.left")
        assert float(left.rstrip("%")) == pytest.approx(100 * place / (COUNT - 1))
        places = [int(key.get_attribute("data-place")) for key in page.locator(".key").all()]
        near = page.locator(".key.near")
        assert near.count() == 1
        gap = abs(int(near.get_attribute("data-place")) - place)
        assert gap == min(abs(other - place) for other in places)
        assert page.locator("#viewer img").get_attribute("src") == near.locator("img").get_attribute("src")


def test_arrows_and_clicks_choose_frames(page: Any) -> None:
    course, says = page.locator("#course"), page.locator("#viewer p")
    course.focus()
    for key, frame in (("Home", 0), ("ArrowRight", 1), ("PageDown", 11), ("ArrowLeft", 10), ("End", 29), ("End", 29)):
        page.keyboard.press(key)
        assert says.text_content().startswith(f"frame {frame} ")
        assert course.get_attribute("aria-valuenow") == str(frame)
    last = page.locator(".key").last
    last.click()
    assert says.text_content().startswith(last.locator("span").first.text_content())


def test_headings_sort_the_steps(page: Any) -> None:
    def names() -> list[str]:
        return [row.text_content() for row in page.locator("#step-rows tbody th").all()]

    before = names()
    heads = page.locator("#step-rows thead button")
    for column in (1, 2, 3, 4, 5):
        heads.nth(column).click()
        cells = page.locator(f"#step-rows tbody tr > :nth-child({column + 1})").all()
        values = [float(cell.get_attribute("data-value")) for cell in cells]
        assert values == sorted(values, reverse=True)
    heads.nth(1).click()
    heads.nth(1).click()
    assert page.locator("#step-rows thead th").nth(1).get_attribute("aria-sort") == "ascending"
    heads.nth(0).click()
    assert names() == before


def test_it_prints_on_white_with_every_row(page: Any) -> None:
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") in (
        "rgb(255, 255, 255)",
        "rgba(0, 0, 0, 0)",
    )
    hidden = page.evaluate("[...document.querySelectorAll('.scroll')].map(box => box.scrollHeight - box.clientHeight)")
    assert max(hidden) <= 2
    page.set_viewport_size({"width": 700, "height": 1000})  # A4 within its margins
    assert (
        page.evaluate("Math.max(...[...document.querySelectorAll('table')].map(t => t.getBoundingClientRect().right))")
        <= 700
    )
    assert not page.locator("#viewer").is_visible()
