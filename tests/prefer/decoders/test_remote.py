"""Server and client over a real connection on this machine."""

from __future__ import annotations

import base64
import http.client
import json
import socket
import threading
from contextlib import contextmanager

import numpy as np
import pytest

from diptych.errors import InputError, UnavailableError
from diptych.prefer import Judgement, Session
from diptych.prefer.decoders import open_decoder, wire
from diptych.prefer.decoders.base import BaseDecoder, Decoded
from diptych.prefer.decoders.diffusion import Diffusion
from diptych.prefer.decoders.remote import Remote, Server, health
from diptych.prefer.decoders.serve import DecoderServer
from diptych.prefer.decoders.synthetic import Synthetic
from diptych.prefer.judgement import Frame
from diptych.prefer.spaces.cube import Flat
from diptych.prefer.spaces.sphere import prompt_anchor

JSON = {"Content-Type": "application/json"}


@contextmanager
def serving(decoder, token=None):
    server = DecoderServer(decoder, port=0, token=token)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def server():
    with serving(Synthetic(256, prompt="theirs")) as found:
        yield found


def send(server, method, path, body=b"", headers=JSON):
    connection = http.client.HTTPConnection("127.0.0.1", server.server_address[1], timeout=10)
    connection.request(method, path, body if isinstance(body, bytes) else json.dumps(body).encode(), headers)
    answer = connection.getresponse()
    found = answer.status, json.loads(answer.read())
    connection.close()
    return found


def noise(seed=0, d=256):
    return np.random.default_rng(seed).standard_normal(d, dtype=np.float32)


def test_a_remote_decoder_is_the_decoder_behind_it(server):
    near = Synthetic(256, prompt="ours")
    far = open_decoder("remote", url=server.url, prompt="ours")
    assert (far.name, far.space, far.dimension, far.shape) == ("remote", "sphere", 256, (4, 8, 8))
    assert far.frame == near.frame
    assert np.isnan(far.cost)
    for seed in range(3):
        assert np.array_equal(far.decode(noise(seed)), near.decode(noise(seed)))
    assert far.frame == near.frame
    assert far.cost > 0
    assert Remote(server.url).frame.prompt == "theirs"
    assert np.array_equal(far.changed(seed=3).decode(noise()), near.changed(seed=3).decode(noise()))


def test_health_and_images_of_prompts(server):
    found = health(server.url)
    assert (found["status"], found["decoder"], found["dimension"], found["frame"]["prompt"]) == (
        "ok",
        "synthetic",
        256,
        "theirs",
    )
    status, made = send(server, "POST", "/generate", {"prompt": "ours"})
    assert status == 200
    image = wire.read_image(made["image"], Synthetic(256).frame, "test")
    assert np.array_equal(image, Synthetic(256).decode(prompt_anchor("ours", 256)))
    _, drawn = send(server, "POST", "/generate", {"latent_seed": 5})
    assert np.array_equal(
        wire.read_image(drawn["image"], Synthetic(256).frame, "test"),
        Synthetic(256).decode(np.random.default_rng(5).standard_normal(256)),
    )
    assert send(server, "POST", "/generate", {"latent_seed": -1})[0] == 400


def test_nested_latents_with_a_shape_are_taken(server):
    status, made = send(
        server, "POST", "/generate_latents", {"latents": [noise().reshape(4, 8, 8).tolist()], "shape": [1, 4, 8, 8]}
    )
    assert status == 200
    assert np.array_equal(wire.read_image(made["image"], Synthetic(256).frame, "test"), Synthetic(256).decode(noise()))


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({}, "latents: is missing"),
        ({"latents": [[1.0], [1.0, 2.0]]}, "rows of different lengths"),
        ({"latents": ["a"]}, "values that are not numbers"),
        ({"latents": [1.0], "shape": [2]}, "has shape [1]; expected [2]"),
        ({"latents": [1.0, 2.0]}, "latent for the decoder synthetic: has shape (2,); expected (256,)"),
        ({"latents": [1e60] * 256}, "256 values that are not finite"),
        ({"latents": [0.5] * 256, "prompt": 3}, "prompt: is 3; expected str"),
        ({"latents": [0.5] * 256, "prompt": "a" * 5000}, "prompt: has 5000 characters; expected at most 4000"),
        ({"latents": [0.5] * 256, "width": True}, "width: is True; expected int"),
        ({"latents": [0.5] * 256, "width": 100_000}, "width: is 100000 px; expected 1 to 2048"),
        ({"latents": [0.5] * 256, "width": 128}, "synthetic decoder: has no width to change"),
        (b"[1]", "is a list; expected a JSON object"),
        (b"{", "is not JSON"),
        (b"[" * 100_000, "is not JSON"),
    ],
)
def test_wrong_requests_are_answered_in_words(server, body, text):
    status, found = send(server, "POST", "/generate_latents", body)
    assert status == 400
    assert text in found["error"]


def test_requests_that_are_no_json_too_long_or_go_elsewhere_are_refused(server):
    assert send(server, "POST", "/generate", {}, {"Content-Type": "text/plain"})[0] == 415
    assert send(server, "POST", "/generate", b"", {**JSON, "Content-Length": str(wire.LARGEST_REQUEST + 1)})[0] == 413
    assert send(server, "POST", "/generate", b"", {**JSON, "Content-Length": "-1"})[0] == 411
    assert send(server, "POST", "/elsewhere")[0] == 404
    assert send(server, "GET", "/elsewhere")[0] == 404


def test_a_page_of_another_site_cannot_reach_it_by_its_own_name(server):
    status, found = send(server, "GET", "/health", headers={"Host": "evil.example:8000"})
    assert status == 403
    assert "expected localhost" in found["error"]
    assert send(server, "GET", "/health", headers={"Host": "localhost:8000"})[0] == 200


def test_the_token_is_needed_and_compared():
    with serving(Synthetic(256), token="secret") as server:
        for wrong in (None, "Secret", "secret2"):
            with pytest.raises(InputError, match="the token is missing or wrong"):
                Remote(server.url, token=wrong)
        assert np.array_equal(Remote(server.url, token="secret").decode(noise()), Synthetic(256).decode(noise()))
        assert send(server, "GET", "/health", headers={"Host": "any.name", "Authorization": "Bearer secret"})[0] == 200


def test_others_reach_it_only_with_a_token():
    with pytest.raises(InputError, match=r"0\.0\.0\.0: can be reached from other machines; expected a token"):
        DecoderServer(Synthetic(256), host="0.0.0.0", port=0)
    DecoderServer(Synthetic(256), host="0.0.0.0", port=0, token="secret").server_close()


def test_a_taken_port_is_told(server):
    with pytest.raises(InputError, match=r"cannot be served .*Choose another host or port"):
        DecoderServer(Synthetic(256), port=server.server_address[1])


def test_images_are_decoded_one_at_a_time():
    class Slow(Synthetic):
        inside, most = 0, 0

        def decode(self, latent):
            Slow.inside += 1
            Slow.most = max(Slow.most, Slow.inside)
            image = super().decode(latent)
            threading.Event().wait(0.02)
            Slow.inside -= 1
            return image

    with serving(Slow(256)) as server:
        remotes = [Remote(server.url) for _ in range(4)]
        threads = [threading.Thread(target=remote.decode, args=(noise(),)) for remote in remotes]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert Slow.most == 1
    assert all(remote.last is not None for remote in remotes)


def test_a_decoder_that_fails_is_told_and_the_server_goes_on(server, monkeypatch, caplog):
    def fail(self, latent):
        raise RuntimeError("/secret/path")

    far = Remote(server.url)
    with monkeypatch.context() as patch:
        patch.setattr(Synthetic, "_decode", fail)
        with pytest.raises(UnavailableError, match="the decoder failed; see its log") as caught:
            far.decode(noise())
    assert "/secret/path" not in str(caught.value)
    assert "/secret/path" in caplog.text
    assert far.decode(noise()).shape == (64, 64, 3)


@pytest.mark.parametrize(
    "url", ["localhost:8000", "ftp://localhost", "http://", "http://a:port", "http://user:word@host", ""]
)
def test_addresses_that_are_none_are_refused(url):
    with pytest.raises(InputError, match=r"is not the address of a decoder; .* http://localhost:8000"):
        Remote(url)


def test_a_token_in_clear_text_is_warned_of(caplog):
    Server("http://far.example", token="secret")
    assert "the token is sent unencrypted" in caplog.text
    caplog.clear()
    Server("https://far.example", token="secret")
    Server("http://localhost:8000", token="secret")
    assert caplog.text == ""


def test_no_server_is_told():
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        with pytest.raises(
            UnavailableError, match=r"no decoder answers .*Start one with `diptych prefer serve-decoder`"
        ):
            Remote(f"http://127.0.0.1:{held.getsockname()[1]}")


GOOD = {"space": "sphere", "dimension": 256, "shape": [4, 8, 8], "frame": {"prompt": "a", "width": 64, "height": 64}}


def png(side):
    from diptych.prefer.ledger.files import encode_png

    return base64.b64encode(encode_png(np.zeros((side, side, 3), np.uint8))).decode()


@pytest.mark.parametrize(
    ("about", "text"),
    [
        ({}, "describes no decoder"),
        ({**GOOD, "space": "line"}, "describes no decoder"),
        ({**GOOD, "shape": [4, 8, 9]}, "describes no decoder"),
        ({**GOOD, "frame": {"prompt": 3}}, "sends no frame"),
        ({**GOOD, "frame": {"prompt": "a", "versions": [1]}}, "sends no frame"),
    ],
)
def test_a_server_of_another_kind_is_found_out(monkeypatch, about, text):
    monkeypatch.setattr(Server, "ask", lambda self, method, path, values, timeout: about)
    with pytest.raises(UnavailableError, match=f"http://localhost: {text}"):
        Remote("http://localhost")


CUBE = {
    "space": "cube",
    "dimension": 4,
    "shape": None,
    "frame": GOOD["frame"],
    "categories": [[1, 3]],
    "flats": [],
    "start": None,
}


class Settings(BaseDecoder):
    """A category of two, a whole number from 0 to 2, and a number that does nothing above its middle."""

    def __init__(self):
        super().__init__("settings", "cube", 4, Frame("x", width=8, height=8))
        self.categories = (slice(1, 3),)
        self.flats = (Flat(0, (0.0, 0.25, 0.75), (0.25, 0.75, 1.0), (0.0, 0.5, 1.0)), Flat(3, (0.5,), (1.0,), (0.5,)))
        self.start = np.array([0.5, 0, 1, 0.5], np.float32)

    def _decode(self, latent):
        return Decoded((np.resize(latent, (8, 8, 3)) * 255).astype(np.uint8))


def test_a_remote_cube_has_the_categories_levels_and_start_of_the_one_behind_it(tmp_path):
    near = Settings()
    with serving(near) as server:
        far = Remote(server.url)
        assert (far.space, far.dimension, far.categories, far.flats) == ("cube", 4, near.categories, near.flats)
        assert np.array_equal(far.start, near.start)
        runs = []
        for name, decoder in (("near", near), ("far", far)):
            with Session.open(tmp_path / name, decoder, synchronous=True) as session:
                first = session.ask(3)
                session.tell(Judgement.choose(first[1], first))
                runs.append(np.stack([one.latent for one in (*first, *session.ask(3))]))
    assert np.array_equal(*runs)
    assert np.array_equal(runs[0][0], near.start)
    assert set(runs[0][:, 0]) <= {0, 0.5, 1}
    assert runs[0][:, 3].max() <= 0.5


def test_a_remote_cube_of_which_no_more_is_known_starts_in_the_centre(monkeypatch):
    monkeypatch.setattr(Server, "ask", lambda self, method, path, values, timeout: CUBE)
    far = Remote("http://localhost")
    assert far.start.tolist() == [0.5] * 4
    assert far.categories == (slice(1, 3),)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"categories": None}, "cannot be read"),
        ({"categories": [[1, 3], [2, 4]]}, "inconsistent; expected a cube of 4"),
        ({"categories": [[1, 2]]}, "inconsistent"),
        ({"categories": [[2, 5]]}, "inconsistent"),
        ({"flats": [[0, [0.5]]]}, "cannot be read"),
        ({"flats": [[4, [0.5], [1.0], [0.5]]]}, "inconsistent"),
        ({"flats": [[0, [0.5, 0.2], [1.0, 0.3], [0.5, 0.2]]]}, "inconsistent"),
        ({"flats": [[0, [], [], []]]}, "inconsistent"),
        ({"start": [0.5] * 3}, "inconsistent"),
        ({"start": [0, 1, 0, float("nan")]}, "inconsistent"),
    ],
)
def test_a_cube_that_is_none_is_found_out(monkeypatch, change, text):
    monkeypatch.setattr(Server, "ask", lambda self, method, path, values, timeout: {**CUBE, **change})
    with pytest.raises(UnavailableError, match=f"describes no cube: .*{text}"):
        Remote("http://localhost")


@pytest.mark.parametrize(
    ("image", "text"), [(None, "cannot be read"), ("@@", "cannot be read"), ("AAAA", "cannot be read"), (png(65), "65")]
)
def test_images_that_are_none_or_of_another_size_are_refused(monkeypatch, image, text):
    monkeypatch.setattr(
        Server,
        "ask",
        lambda self, method, path, values, timeout: GOOD if path == "/describe" else {**GOOD, "image": image},
    )
    with pytest.raises(InputError, match=text):
        Remote("http://localhost").decode(noise())


def test_a_diffusion_pipeline_is_served_with_other_prompts_and_sizes(tiny):
    near = Diffusion("ours", model=str(tiny), steps=1, width=64, height=64)
    with serving(Diffusion("theirs", model=str(tiny), steps=1)) as server:
        far = Remote(server.url, prompt="ours", width=64, height=64)
        assert far.shape == (4, 8, 8)
        assert np.array_equal(far.decode(noise()), near.decode(noise()))
        assert far.frame == near.frame
        with pytest.raises(InputError, match="the scheduler 'os' is not compatible"):
            Remote(server.url, scheduler="os")
