"""On Ray Serve: the same endpoints in replicas, one queue, and the page."""

import shutil

import httpx
import pytest

pytest.importorskip("ray.serve", reason="Ray is not installed: pip install 'kinema[ray]'", exc_type=ImportError)

SMALL = {"prompt": "a cat", "size": "64x64", "frames": 5, "steps": 2}
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
PATIENCE = 180_000  # ms


@pytest.fixture(scope="module")
def cluster(tmp_path_factory, serving):
    with serving(tmp_path_factory.mktemp("cluster"), "--engine", "ray", "--replicas", "2") as server:
        yield server


@pytest.mark.slow
def test_two_replicas_answer_for_one_queue(cluster, finished):
    with httpx.Client(base_url=cluster.url, timeout=60) as client:
        names = [client.post("/v1/videos", json=SMALL | {"seed": n}).raise_for_status().json()["id"] for n in range(3)]
        for name in names:
            assert finished(cluster, name)["status"] == "completed"
            assert client.get(f"/v1/videos/{name}/content").content[4:8] == b"ftyp"
        assert {job["id"] for job in client.get("/v1/videos").json()["data"]} == set(names)
        with client.stream("GET", f"/v1/videos/{names[0]}/events") as stream:
            assert "event: done" in list(stream.iter_lines())
        assert client.get("/v1/videos/..%2Fqueue.sqlite").status_code == 404
        assert client.get("/healthz").json()["jobs"] == {"done": 3}
        assert "/v1/videos" in client.get("/openapi.json").json()["paths"]


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no chromium is installed: apt-get install chromium")
def test_the_page_works_there_as_it_does_without(cluster):
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright, playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"]) as browser:
        page = browser.new_page()
        page.set_default_timeout(PATIENCE)
        page.goto(cluster.url)
        page.locator("#time .k-time").wait_for()
        size = page.locator("input[aria-label='Size']:visible")
        size.fill("64x64")
        size.press("Enter")
        steps = page.get_by_label("number input for Steps").locator("visible=true")
        steps.fill("20")
        steps.press("Tab")
        page.locator("#generate").click()
        page.locator("#stage img").wait_for()  # the preview
        page.locator("#stage video").wait_for()
