"""The API in replicas on Ray Serve: the same endpoints, one queue."""

import httpx
import pytest

pytest.importorskip("ray.serve", reason="Ray is not installed: pip install 'kinema[ray]'", exc_type=ImportError)

SMALL = {"prompt": "a cat", "size": "64x64", "frames": 5, "steps": 2}


@pytest.mark.slow
def test_two_replicas_answer_for_one_queue(tmp_path, serving, finished):
    with serving(tmp_path, "--engine", "ray", "--replicas", "2") as server, httpx.Client(base_url=server.url, timeout=60) as client:
        names = [client.post("/v1/videos", json=SMALL | {"seed": n}).raise_for_status().json()["id"] for n in range(3)]
        for name in names:
            assert finished(server, name)["status"] == "completed"
            assert client.get(f"/v1/videos/{name}/content").content[4:8] == b"ftyp"
        assert {job["id"] for job in client.get("/v1/videos").json()["data"]} == set(names)
        with client.stream("GET", f"/v1/videos/{names[0]}/events") as stream:
            assert "event: done" in list(stream.iter_lines())
        assert client.get("/v1/videos/..%2Fqueue.sqlite").status_code == 404
