"""A teacher behind an API, played by a server in this process: what it is asked, what it answers, and all that goes wrong."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests import toys

from understudy.base.errors import DataError, Interrupted, RecipeError, ResourceError
from understudy.cache import served
from understudy.cache.served import Served, request_body, served_data
from understudy.check import check
from understudy.data.tasks import data_of
from understudy.recipe.load import recipe_from
from understudy.run import train

Answer = Callable[[dict[str, Any], int], tuple[int, Any]]


class Server:
    """Answers as its `answer` says: (request, number of the request) -> (status, body); a body of bytes is sent as it is."""

    def __init__(self, answer: Answer) -> None:
        self.asked: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        lock = threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with lock:
                    outer.asked.append(body)
                    outer.keys.append(self.headers.get("Authorization"))
                    number = len(outer.asked)
                status, said = answer(body, number)
                if not status:  # the connection breaks
                    self.close_connection = True
                    return
                content = said if isinstance(said, bytes) else json.dumps(said).encode()
                self.send_response(status)
                self.send_header("Retry-After", "0.01")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: Any) -> None: ...

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/v1"
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch, understudy_home: Path) -> Iterator[Callable[[Answer], Server]]:
    monkeypatch.setattr(served, "LONGEST_WAIT", 0.01)
    made: list[Server] = []

    def start(answer: Answer) -> Server:
        made.append(Server(answer))
        return made[-1]

    yield start
    for server in made:
        server.http.shutdown()
        server.http.server_close()


def mood(body: dict[str, Any]) -> float:
    """How likely the toy's text is glad, to a model that counts words."""
    text = body["messages"][-1]["content"].split("\n")[0]
    return 0.9 if any(word in text for word in toys.GLAD) else 0.2


def tokens(**shares: float) -> dict[str, Any]:
    top = [{"token": token, "logprob": math.log(share)} for token, share in shares.items()]
    choice = {"message": {"content": "?"}, "logprobs": {"content": [{"top_logprobs": top}]}}
    return {"choices": [choice], "usage": {"total_tokens": 30}}


def text(content: str) -> dict[str, Any]:
    return {"choices": [{"message": {"content": content}}], "usage": {"total_tokens": 20}}


def right(body: dict[str, Any], _: int) -> tuple[int, Any]:
    glad = mood(body)
    return 200, tokens(A=glad * 0.7, a=glad * 0.2, B=(1 - glad) * 0.9, The=0.1)


def recipe(folder: Path, url: str, *, task: dict[str, Any] | None = None, student: str = "x", **server: Any) -> Any:
    toys.save_csv(folder / "data", rows=24)
    files = {part: str(folder / "data" / f"{part}.csv") for part in ("train", "dev", "test")}
    own = {"name": "custom", "kind": "classification", "files": files, "columns": {"text": "body", "label": "mood"}}
    return recipe_from({
        "task": own | (task or {}),
        "teacher": {"server": {"url": url, "model": "big", "retries": 3, **server}},
        "student": {"model": student},
        "method": "automm",
        "train": {"epochs": 1, "batch_size": 8, "lr": 1e-3},
        "evaluate": {"latency": {"repeats": 3, "length": 16}, "bootstrap": 20, "baseline": False},
    })  # fmt: skip


def asked(asked_of: Any) -> Any:
    return served_data(asked_of.teacher.server, data_of(asked_of))


def test_probabilities_of_the_letters_are_those_of_the_labels(serve: Any, tmp_path: Path) -> None:
    data = asked(recipe(tmp_path, serve(right).url))
    for row in data.train:
        glad = 0.9 if any(word in row.text for word in toys.GLAD) else 0.2
        np.testing.assert_allclose(np.exp(row.said), [glad, 1 - glad], atol=1e-12)
    assert all(row.said is not None for row in data.tests["test"])
    assert any("90% of its probability lay on the labels" in note for note in data.notes)


def test_a_letter_that_is_not_listed_has_little(serve: Any, tmp_path: Path) -> None:
    def twenty(body: dict[str, Any], _: int) -> tuple[int, Any]:
        return 200, tokens(A=0.5, **{f"word{i}": 0.01 for i in range(19)})

    data = asked(recipe(tmp_path, serve(twenty).url))
    np.testing.assert_allclose(np.exp(data.train[0].said), [0.5 / 0.51, 0.01 / 0.51], rtol=1e-9)  # the last of the list


def test_the_request(tmp_path: Path) -> None:
    settings = recipe(
        tmp_path, "http://localhost/v1", prompt="{text}|{pair}|{options}", system="Be brief.",
        extra={"seed": 1, "temperature": None}, descriptions={"sad": "in a bad mood"},
    )  # fmt: skip
    data = data_of(settings)
    row = data.train[0]
    body = request_body(settings.teacher.server, data.task, type(row)("1", text="so {options}", pair="it {text}"))
    assert body["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "so {options}|it {text}|A. glad\nB. in a bad mood"},
    ]
    assert body | {"messages": []} == {
        "model": "big", "messages": [], "max_tokens": 1, "logprobs": True, "top_logprobs": 20, "seed": 1
    }  # fmt: skip


def test_nothing_is_asked_twice(serve: Any, tmp_path: Path) -> None:
    server = serve(right)
    settings = recipe(tmp_path, server.url)
    data = data_of(settings)
    texts = {row.text for row in [*data.train, *data.tests["test"]]}
    asked(settings)
    assert len(server.asked) == len(texts)
    asked(settings)
    asked(recipe(tmp_path, server.url.replace("127.0.0.1", "localhost"), retries=1, concurrency=1))  # the same model elsewhere
    assert len(server.asked) == len(texts)
    asked(recipe(tmp_path, server.url, system="Be brief."))  # another prompt is another teacher
    assert len(server.asked) == 2 * len(texts)


def test_faults_that_pass_are_waited_for(serve: Any, tmp_path: Path) -> None:
    faults = {1: (429, {}), 2: (500, {}), 3: (200, b'{"choices": [{"mess'), 4: (200, [1]), 5: (0, None)}
    server = serve(lambda body, number: faults.get(number) or right(body, number))
    data = asked(recipe(tmp_path, server.url, concurrency=1, retries=5))
    assert all(row.said is not None for row in data.train)


def test_what_was_answered_is_kept_when_the_server_breaks_down(
    serve: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(served, "BATCH", 8)
    broken = True
    server = serve(lambda body, number: (503, {}) if broken and number > 11 else right(body, number))
    settings = recipe(tmp_path, server.url, concurrency=1, retries=0)
    with pytest.raises(ResourceError, match=r"answers 503, after 0 more tries. 11 answers are kept"):
        asked(settings)
    broken, before = False, len(server.asked)
    data = data_of(settings)
    texts = {row.text for row in [*data.train, *data.tests["test"]]}
    asked(settings)
    assert len(server.asked) - before == len(texts) - 11


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ((401, {}), "put the key into the environment variable MY_KEY"),
        ((404, {}), "is the model called big"),
        ((400, {"error": "top_logprobs must be at most 5"}), "top_logprobs must be at most 5"),
        ((200, text("A")), "returns no log-probabilities"),
    ],
)
def test_what_another_try_would_not_change_is_refused(serve: Any, tmp_path: Path, answer: Any, message: str) -> None:
    server = serve(lambda *_: answer)
    with pytest.raises(RecipeError, match=message):
        asked(recipe(tmp_path, server.url, key="MY_KEY", concurrency=1))


def test_an_answer_that_is_none_leaves_the_row_out(serve: Any, tmp_path: Path) -> None:
    def lost(body: dict[str, Any], number: int) -> tuple[int, Any]:
        return (200, {1: tokens(Well=0.9), 2: {"choices": []}}.get(number) or right(body, number)[1])

    settings = recipe(tmp_path, serve(lost).url, concurrency=1)
    whole = data_of(settings)
    data = asked(settings)
    assert len(data.train) == len(whole.train) - 2
    assert any("2 of 24 training rows are left out: big's answer could not be read" in note for note in data.notes)
    with pytest.raises(DataError, match="no answer of big is one of those it was asked for"):
        asked(recipe(tmp_path, serve(lambda *_: (200, {"choices": []})).url, system="other"))


def test_limits_end_cleanly(serve: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(served, "BATCH", 4)
    server = serve(right)
    with pytest.raises(ResourceError, match=r"max_requests: 10 are used up. 8 answers are kept"):
        asked(recipe(tmp_path, server.url, max_requests=10))
    with pytest.raises(ResourceError, match=r"max_tokens: 360 are spent"):
        asked(recipe(tmp_path, server.url, max_tokens=300))
    assert len(server.asked) == 12
    asked(recipe(tmp_path, server.url, max_requests=1000))


def test_a_signal_ends_it_between_two_batches(serve: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(served, "BATCH", 4)

    class Stop:
        received = 15

        def interruption(self, saved: str) -> Exception:
            return Interrupted(saved, exit_code=143)

    settings = recipe(tmp_path, serve(right).url)
    data = data_of(settings)
    with pytest.raises(Interrupted, match="so far are saved"):
        Served(settings.teacher.server, data.task).ask(data.train, Stop())
    again = Served(settings.teacher.server, data.task)
    again.read()
    assert len(again.known) == 4


def test_calibration_divides_by_what_is_said_about_nothing(serve: Any, tmp_path: Path) -> None:
    def biased(body: dict[str, Any], _: int) -> tuple[int, Any]:
        neutral = "Text: N/A" in body["messages"][-1]["content"]
        return 200, tokens(A=0.8, B=0.2) if neutral else tokens(A=0.6, B=0.4)

    data = asked(recipe(tmp_path, serve(biased).url, calibrate=True))
    np.testing.assert_allclose(np.exp(data.train[0].said), [0.75 / 2.75, 2 / 2.75], rtol=1e-9)  # 0.6 / 0.8 and 0.4 / 0.2


@pytest.mark.parametrize(
    ("content", "label"), [("B", 1), (" b.", 1), ("(A)", 0), ("Sad", 1), ("glad.", 0), ("C", None), ("both", None)]
)
def test_answers_in_words(serve: Any, tmp_path: Path, content: str, label: int | None) -> None:
    server = serve(lambda body, number: (200, text("A" if number == 1 else content)))
    settings = recipe(tmp_path, server.url, answer="text", concurrency=1)
    data = data_of(settings)
    asker = Served(settings.teacher.server, data.task)
    asker.ask(data.train[:2])
    said = asker.beside(data.train[:2])[1].said
    assert (None if said is None else int(np.argmax(said))) == label
    assert "logprobs" not in server.asked[0]


def test_several_labels_and_numbers(serve: Any, tmp_path: Path) -> None:
    says = iter(["A, B", "none", "I would give it 3,5 points."])
    server = serve(lambda *_: (200, text(next(says))))
    several = {"kind": "multilabel", "labels": ["glad", "sad"]}
    settings = recipe(tmp_path, server.url, task=several, concurrency=1)
    data = data_of(settings)
    asker = Served(settings.teacher.server, data.task)
    asker.ask(data.train[:2])
    assert [np.round(1 / (1 + np.exp(-np.array(row.said)))).tolist() for row in asker.beside(data.train[:2])] == [[1, 1], [0, 0]]
    files = {"train": str(tmp_path / "numbers.csv")}
    (tmp_path / "numbers.csv").write_text("body,n\n" + "\n".join(f"t{i},{i}" for i in range(40)))
    number = {"kind": "regression", "files": files, "columns": {"text": "body", "label": "n"}}
    settings = recipe(tmp_path, server.url, task=number)
    data = data_of(settings)
    asker = Served(settings.teacher.server, data.task)
    asker.ask(data.train[:1])
    assert asker.beside(data.train[:1])[0].said == (3.5,)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"prompt": "Which?"}, "put {text} where its text belongs"),
        ({"url": "localhost:8000"}, "teacher.server.url"),
        ({"descriptions": {"mad": "x"}}, "'mad' is no label of the task"),
        ({"calibrate": True, "answer": "text"}, "only probabilities of one right class"),
    ],
)
def test_what_has_no_meaning_is_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError) as error:
        settings = recipe(tmp_path, **{"url": "http://127.0.0.1:9/v1", **changes})
        Served(settings.teacher.server, data_of(settings).task)
    assert message in str(error.value)


def test_a_student_is_taught_from_end_to_end(
    serve: Any, tmp_path: Path, toy_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_KEY", "s3cret")
    server = serve(right)
    settings = recipe(tmp_path, server.url, student=str(toy_checkpoint), key="MY_KEY")
    said = [finding.text for finding in check(settings)]
    assert any(f"big at {server.url}: " in one and "requests to make, 0 answers are kept" in one for one in said)
    assert not server.asked  # checking costs nothing
    result = train(settings, tmp_path / "run")
    assert result["teacher"]["name"] == "big"
    assert result["teacher"]["metrics"]["test"]["accuracy"]["value"] == 1.0  # it counts the words that decide
    assert set(server.keys) == {"Bearer s3cret"}
    number = len(server.asked)
    assert train(settings, tmp_path / "again")["student"]["metrics"] == result["student"]["metrics"]
    assert len(server.asked) == number
    kept = [path for folder in (tmp_path / "run", tmp_path / "understudy-home") for path in folder.rglob("*") if path.is_file()]
    assert not [path for path in kept if b"s3cret" in path.read_bytes()]  # the key is nowhere
