"""The API as programs meet it: what it takes, what it refuses, who sees what; it never answers with a server error."""

import threading

import pytest

SMALL = {"prompt": "a cat", "size": "64x64", "frames": 5, "steps": 2}
NASTY = [
    "\x00",
    "\x1b[31m\r\n",
    "مرحبا \u202e",
    "고양이 🐈‍⬛",
    "猫" * 1000,
    "../../etc/passwd",
    "$(reboot)`id`;'\"<script>",
    "${7*7}{{7*7}}%n%s",
]


def create(client, **changes):
    return client.post("/v1/videos", json=SMALL | changes)


def test_a_video_is_queued_with_nothing_left_to_choose(client):
    job = create(client).json()
    request = job["kinema"]["request"]
    assert (job["object"], job["status"], job["size"]) == ("video", "queued", "64x64")
    assert (request["width"], request["height"], request["frames"], request["guidance"]) == (64, 64, 5, 5.0)
    assert client.get(f"/v1/videos/{job['id']}").json() == job


def test_a_form_is_the_same_as_json(client):
    form = {name: (None, str(value)) for name, value in SMALL.items()} | {"seed": (None, "3")}
    assert client.post("/v1/videos", files=form).json()["kinema"]["request"] == create(client, seed=3).json()["kinema"]["request"]


def test_seconds_become_frames_that_the_model_can_make(client):
    job = create(client, frames=None, seconds="2").json()
    assert job["kinema"]["request"]["frames"] == 25
    assert job["seconds"] == f"{25 / 12:g}"


@pytest.mark.parametrize(
    ("wrong", "word"),
    [
        ({"prompt": ""}, "prompt"),
        ({"prompt": "  "}, "prompt"),
        ({"size": "65x64"}, "width=65"),
        ({"size": "big"}, "size"),
        ({"frames": 6}, "frames=6"),
        ({"steps": 0}, "steps"),
        ({"model": "sora-2"}, "mini"),
        ({"sampler": "ddim"}, "euler"),
        ({"lora": "../../secret"}, "lora"),
        ({"unknown": 1}, "unknown"),
        ({"size": "9984x9984", "frames": 2401}, "memory"),
        ({"seed": 10**5000}, "JSON"),
        ({"prompt": "half \ud83d"}, "prompt"),
    ],
)
def test_what_cannot_be_made_is_refused_with_the_reason(client, wrong, word):
    import json

    text = json.dumps(SMALL | {k: v for k, v in wrong.items() if k != "seed"})
    if "seed" in wrong:
        text = text[:-1] + ', "seed": 1' + "0" * 5000 + "}"
    answer = client.post("/v1/videos", content=text, headers={"content-type": "application/json"})
    assert answer.status_code == 400
    assert word in answer.json()["error"]["message"]


@pytest.mark.parametrize("body", [b"", b"{", b"[" * 100_000, b"\xff\xfe", b"null", b"[]", b'{"prompt": NaN}'])
def test_a_broken_body_is_the_callers_fault(client, body):
    assert client.post("/v1/videos", content=body, headers={"content-type": "application/json"}).status_code == 400
    assert client.post("/v1/videos", content=body, headers={"content-type": "multipart/form-data; boundary=x"}).status_code == 400


@pytest.mark.parametrize("prompt", NASTY)
def test_any_text_is_taken_as_it_is(client, prompt):
    answer = create(client, prompt=prompt)
    assert answer.status_code == 200
    assert client.get(f"/v1/videos/{answer.json()['id']}").json()["prompt"] == prompt


@pytest.mark.parametrize("name", [*NASTY[:2], "..", "../queue.sqlite", "%2e%2e%2fqueue.sqlite", "/etc/passwd", "a" * 5000])
def test_no_path_reaches_the_disk(client, name):
    from urllib.parse import quote

    for sent in (quote(name, safe=""), quote(quote(name, safe=""), safe="")):
        for rest in ("", "/content", "/preview", "/events"):
            assert client.get(f"/v1/videos/{sent}{rest}").status_code in (404, 405)


def test_the_page_hands_out_no_files_of_the_disk(client, service):
    create(client)
    for path in ("/etc/passwd", service.folder / "queue.sqlite", "../queue.sqlite"):
        assert client.get(f"/gradio_api/file={path}").status_code in (403, 404)


def test_pages_walk_through_all_videos_once(client):
    made = [create(client).json()["id"] for _ in range(5)]
    seen, after = [], None
    while True:
        page = client.get("/v1/videos", params={"limit": 2} | ({"after": after} if after else {})).json()
        seen += [job["id"] for job in page["data"]]
        after = page["last_id"]
        if not page["has_more"]:
            break
    assert seen == made[::-1]


def test_an_idempotency_key_makes_one_video(client):
    key = {"Idempotency-Key": "k"}
    first, second = (client.post("/v1/videos", json=SMALL, headers=key).json()["id"] for _ in range(2))
    other = client.post("/v1/videos", json=SMALL | {"prompt": "a dog"}, headers=key)
    assert first == second
    assert other.status_code == 400


def test_many_may_cancel_and_delete_at_once(client):
    name = create(client).json()["id"]
    codes = []
    calls = [lambda: codes.append(client.post(f"/v1/videos/{name}/cancel").status_code) for _ in range(8)]
    calls += [lambda: codes.append(client.delete(f"/v1/videos/{name}").status_code) for _ in range(4)]
    threads = [threading.Thread(target=call) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(codes) <= {200, 404, 409}
    assert client.get(f"/v1/videos/{name}").status_code == 404


def test_one_client_cannot_fill_the_queue(client, service):
    service.rate.rate = 1e-6  # a slow machine would see the bucket fill again
    codes = [create(client).status_code for _ in range(80)]
    assert codes[0] == 200
    assert codes[-1] == 429
    assert codes == sorted(codes)
    assert service.queue.counts()["queued"] == codes.count(200)


def test_a_thousand_waiting_jobs_are_listed_and_counted(client, service):
    for n in range(1000):
        service.queue.submit(f"user{n % 20}", create(client).json()["kinema"]["request"] if n == 0 else REQUEST)
    last = create(client).json()
    assert last["kinema"]["waiting_before"] == 1001
    assert client.get("/metrics").text.count('kinema_jobs{status="queued"} 1002.0') == 1


REQUEST = {"model": "mini", "prompt": "x", "seed": 0, "frames": 5, "height": 64, "width": 64, "fps": 12, "steps": 2}


def test_a_body_over_the_limit_is_cut_off_whether_announced_or_not(client):
    def endless():
        for _ in range(80):
            yield b"x" * 2**20

    announced = client.post("/v1/videos", content=b"{}", headers={"content-length": str(10 * 2**30)})
    streamed = client.post("/v1/videos", content=endless(), headers={"content-type": "application/json"})
    assert (announced.status_code, streamed.status_code) == (413, 413)


def test_other_sites_and_strange_names_are_turned_away(client):
    assert client.post("/v1/videos", json=SMALL, headers={"origin": "https://evil.example"}).status_code == 403
    assert client.get("/v1/videos", headers={"host": "evil.example"}).status_code == 403
    assert client.get("/v1/videos", headers={"host": "["}).status_code == 403
    assert client.post("/v1/videos", json=SMALL, headers={"origin": "http://localhost"}).status_code == 200


def test_every_answer_carries_the_security_headers_and_opens_no_cors(client):
    for path in ("/", "/v1/videos", "/healthz", "/nothing"):
        headers = client.get(path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert "access-control-allow-origin" not in headers


@pytest.fixture
def guarded(service, build):
    """With keys of two people: (client, ann's key, bob's key)."""
    from dataclasses import replace

    from starlette.testclient import TestClient

    from kinema.serve.guard import Keys

    keys = Keys(service.folder / "keys")
    pair = keys.add("ann"), keys.add("bob")
    app = build(replace(service, keys=keys), local=False)
    with TestClient(app, base_url="http://studio.example", raise_server_exceptions=False) as client:
        yield client, *pair


def test_with_keys_nobody_sees_anothers_videos(guarded):
    client, ann, bob = guarded
    as_ann, as_bob = ({"Authorization": f"Bearer {key}"} for key in (ann, bob))
    name = client.post("/v1/videos", json=SMALL, headers=as_ann).json()["id"]
    assert client.post("/v1/videos", json=SMALL).status_code == 401
    assert client.post("/v1/videos", json=SMALL, headers={"Authorization": "Bearer kn-wrong"}).status_code == 401
    assert client.get(f"/v1/videos/{name}", headers=as_ann).status_code == 200
    for path in ("", "/content", "/preview", "/events"):
        assert client.get(f"/v1/videos/{name}{path}", headers=as_bob).status_code == 404
    assert client.delete(f"/v1/videos/{name}", headers=as_bob).status_code == 404
    assert client.get("/v1/videos", headers=as_bob).json()["data"] == []


def test_the_page_opens_with_a_key_that_a_cookie_keeps(guarded):
    client, ann, _ = guarded
    assert client.get("/").status_code == 401
    assert client.get("/config").status_code == 401
    assert client.post("/login", data={"key": "kn-wrong"}).status_code == 401
    answer = client.post("/login", data={"key": ann}, follow_redirects=False)
    assert answer.status_code == 303
    assert all(word in answer.headers["set-cookie"].lower() for word in ("httponly", "samesite=strict"))
    assert client.get("/").status_code == 200
    assert client.get("/v1/videos").status_code == 200


def test_priority_goes_first_as_far_as_ones_key_allows(client, service, guarded):
    usual, urgent, late = (create(client, priority=priority).json()["id"] for priority in (0, 3, -1))
    assert [service.queue.claim("w").id for _ in range(3)] == [urgent, usual, late]
    assert create(client, priority=11).status_code == 400
    from kinema.serve.guard import Keys

    door, _, bob = guarded
    eve = Keys(service.folder / "keys").add("eve", priority=5)
    sent = [(eve, 6), (eve, 5), (bob, 1), (bob, -3)]
    codes = [
        door.post("/v1/videos", json=SMALL | {"priority": p}, headers={"Authorization": f"Bearer {key}"}).status_code for key, p in sent
    ]
    assert codes == [400, 200, 400, 200]


def test_keys_are_kept_as_hashes_that_others_cannot_read(guarded, service):
    _, ann, _ = guarded
    file = service.folder / "keys"
    assert ann not in file.read_text()
    assert file.stat().st_mode & 0o077 == 0
