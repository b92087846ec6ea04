"""A teacher behind an API: every row is asked about once, and what was answered is kept.

Any server that speaks OpenAI's chat completions will do: vLLM, SGLang, llama.cpp, or a hosted one. Classes are asked about as a
multiple choice, because a letter is one token in every vocabulary, and no two of them begin alike, as the words of labels may:
the probabilities of the letters as the first token are those of the labels.

A store holds the answers of one model to one prompt, row by row (`answers/<digest>/`, one file per batch of answers, each
committed by one rename). A run that was stopped, or another run, asks only about rows that nobody has asked about.
"""

from __future__ import annotations

import hashlib
import math
import os
import re
import string
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from understudy.base import disk
from understudy.base.errors import DataError, RecipeError, ResourceError
from understudy.base.home import home
from understudy.base.lock import DAY, lock
from understudy.base.progress import progress, say
from understudy.base.suggest import shown
from understudy.data.answers import outputs_of
from understudy.data.types import Example, Task, TaskData

if TYPE_CHECKING:
    from understudy.cache.signals import StopRequest
    from understudy.recipe.settings import ServerSettings

LETTERS = string.ascii_uppercase
TOP = 20
"""How many of the likeliest first tokens are asked for: what OpenAI's API gives at most."""
BATCH = 64
"""Answers that are committed together: what a kill at the wrong moment makes the server answer again."""
LONGEST_WAIT = 60.0
NOT_ANSWER = {"url", "key", "concurrency", "timeout", "retries", "max_requests", "max_tokens"}
"""Settings that change no answer: they are not part of a store's name."""
_NUMBER = re.compile(r"[-+]?\d+(?:[.,]\d+)?")


@dataclass(frozen=True)
class Reply:
    """What one request came to.

    said    probabilities of the labels (C,) or a number (1,); None where the answer could not be read
    cover   share of the probability that lay on the letters; 1 where no probabilities are asked for
    tokens  that the server counted
    """

    said: list[float] | None
    cover: float
    tokens: int


class Unusable(Exception):
    """An answer that is none of those that were asked for."""


class Served:
    """The teacher that `teacher.server` names, and what it has answered so far."""

    def __init__(self, settings: ServerSettings, task: Task) -> None:
        self.settings, self.task = settings, task
        _require_askable(settings, task)
        about = {
            **settings.model_dump(mode="json", exclude=NOT_ANSWER),
            "prompt": settings.prompt or default_prompt(task),  # ours may read otherwise in another version
            "kind": str(task.kind),
            "labels": list(task.labels),
        }
        self.about = {name: value for name, value in about.items() if value is not None}
        digest = hashlib.blake2b(repr(sorted(self.about.items())).encode(), digest_size=16).hexdigest()
        self.folder = home() / "answers" / digest
        self.known: dict[str, Reply] = {}
        self._read: set[str] = set()

    # -- what is kept --------------------------------------------------------------------------------------------------

    def read(self) -> None:
        """Everything that anybody has asked so far."""
        for path in sorted(self.folder.glob("part-*.json")):
            if path.name not in self._read:
                self._read.add(path.name)
                self.known |= {key: Reply(*reply) for key, reply in disk.read_json(path).items()}

    def missing(self, rows: Sequence[Example]) -> list[Example]:
        """Those that nobody has asked about, each text once."""
        return list({key: row for row in rows if (key := _key(row)) not in self.known}.values())

    def beside(self, rows: Sequence[Example]) -> list[Example]:
        """The rows with the answers beside them; a row whose answer could not be read has none."""
        neutral = self.known[_key(NEUTRAL)].said if self.settings.calibrate else None

        def outputs(row: Example) -> tuple[float, ...] | None:
            said = self.known[_key(row)].said
            if said is None or self.task.kind.numeric:
                return None if said is None else tuple(said)
            if neutral is not None:  # Zhao et al. 2021, "Calibrate before use", section 3: W = diag(p_neutral)^-1
                scaled = [one / max(bias, 1e-9) for one, bias in zip(said, neutral, strict=True)]
                said = [one / sum(scaled) for one in scaled]
            return outputs_of(said, self.task.kind)

        return [replace(row, said=outputs(row)) for row in rows]

    # -- asking --------------------------------------------------------------------------------------------------------

    def ask(self, rows: Sequence[Example], stop: StopRequest | None = None) -> int:
        """Ask about what is missing; returns how many requests were made. Whatever ends it early, all answers are kept.

        Raises:
            ResourceError: the server does not answer, or a limit is reached.
            RecipeError: it refuses the key, the model or the request.
        """
        rows = [NEUTRAL, *rows] if self.settings.calibrate else list(rows)
        self.read()
        if not self.missing(rows):
            return 0
        with lock(self.folder, wait_seconds=DAY):  # two runs that begin together do not pay twice
            self.read()
            todo = self.missing(rows)
            disk.write_json(self.folder / "about.json", self.about)
            send = _Server(self.settings)
            with progress(len(todo), "teacher's answers") as bar, ThreadPoolExecutor(self.settings.concurrency) as pool:
                for start in range(0, len(todo), BATCH):
                    batch = todo[start : start + BATCH]
                    self._within_limits(len(batch), len(todo) - start)
                    self._commit(pool, send, batch)
                    bar.advance(len(batch))
                    if stop is not None and stop.received is not None:
                        raise stop.interruption("the teacher's answers so far are saved.")
        return len(todo)

    def _commit(self, pool: ThreadPoolExecutor, send: _Server, batch: Sequence[Example]) -> None:
        """Ask about some rows at once, and keep what was answered even if one of the requests fails."""
        asked = [(row, pool.submit(self._reply, send, row)) for row in batch]
        replies, failed = {}, None
        for row, future in asked:
            try:
                replies[_key(row)] = future.result()
            except (ResourceError, RecipeError) as error:
                failed = failed or error
        self.known |= replies
        if replies:
            content = {key: [reply.said, reply.cover, reply.tokens] for key, reply in replies.items()}
            name = f"part-{hashlib.blake2b(''.join(sorted(replies)).encode(), digest_size=8).hexdigest()}.json"
            disk.write_json(self.folder / name, content)
            self._read.add(name)
        if failed:
            raise type(failed)(f"{failed} {len(self.known):,} answers are kept; the same command asks for the others only.")

    def _within_limits(self, requests: int, left: int) -> None:
        spent = sum(reply.tokens for reply in self.known.values())
        most, tokens = self.settings.max_requests, self.settings.max_tokens
        kept = f"{len(self.known):,} answers are kept, {left:,} rows are not asked about yet"
        if most is not None and len(self.known) + requests > most:
            raise ResourceError(f"teacher.server.max_requests: {most:,} are used up. {kept}; a larger limit goes on from here.")
        if tokens is not None and spent >= tokens:
            raise ResourceError(f"teacher.server.max_tokens: {spent:,} are spent. {kept}; a larger limit goes on from here.")

    def _reply(self, send: _Server, row: Example) -> Reply:
        body = request_body(self.settings, self.task, row)
        answer = send(body)
        tokens = int((answer.get("usage") or {}).get("total_tokens") or 0)
        try:
            said, cover = read_reply(self.settings, self.task, answer)
        except Unusable:
            return Reply(None, 0.0, tokens)
        return Reply(said, cover, tokens)


NEUTRAL = Example("calibration", text="N/A", pair="N/A")
"""A row without content: what the model answers to it is its bias."""


def served_data(settings: ServerSettings, data: TaskData, stop: StopRequest | None = None) -> TaskData:
    """The rows with the server's answers beside them: those to learn from, and those to report on, to score it."""
    served = Served(settings, data.task)
    everything = [*data.train, *(row for rows in data.tests.values() for row in rows)]
    asked = served.ask(everything, stop)
    train, tests = served.beside(data.train), {name: served.beside(rows) for name, rows in data.tests.items()}
    notes = [*data.notes]
    if unread := [row for row in train if row.said is None]:
        notes.append(f"{len(unread)} of {len(train)} training rows are left out: {settings.model}'s answer could not be read.")
    if len(unread) == len(train):
        raise DataError(f"teacher.server: no answer of {settings.model} is one of those it was asked for. Look at the prompt.")
    replies = [served.known[_key(row)] for row in everything]
    read = [reply for reply in replies if reply.said is not None]
    spent = sum(reply.tokens for reply in replies)
    said = f"{settings.model} answered about {len(everything):,} rows ({asked:,} of them asked now, {spent:,} tokens in all)"
    if settings.answer == "probabilities" and not data.task.kind.numeric:
        said += f"; {sum(reply.cover for reply in read) / len(read):.0%} of its probability lay on the labels"
    notes.append(f"{said}.")
    say(notes[-1])
    return replace(data, train=[row for row in train if row.said is not None], tests=tests, notes=notes)


def _key(row: Example) -> str:
    return hashlib.blake2b(f"{row.text}\x1f{row.pair}".encode(errors="surrogatepass"), digest_size=16).hexdigest()


def _require_askable(settings: ServerSettings, task: Task) -> None:
    kind = task.kind
    if kind.by_word or not kind.labelled:
        raise RecipeError(f"teacher.server: a server is asked about classes, several labels and numbers, not about kind {kind}.")
    if not kind.numeric and len(task.labels) > len(LETTERS):
        raise RecipeError(f"teacher.server: a multiple choice has {len(LETTERS)} letters; here are {len(task.labels)} labels.")
    if unknown := [name for name in settings.descriptions or {} if name not in task.labels]:
        raise RecipeError(f"teacher.server.descriptions: '{unknown[0]}' is no label of the task ({', '.join(task.labels)}).")
    if settings.calibrate and (kind.distribution != "softmax" or settings.answer != "probabilities"):
        raise RecipeError("teacher.server.calibrate: only probabilities of one right class can be calibrated; leave it out.")
    if task.pair and settings.prompt is not None and "{pair}" not in settings.prompt:
        raise RecipeError("teacher.server.prompt: the task reads pairs, and the prompt does not show the second text as {pair}.")


# -- what is asked, and what is understood -----------------------------------------------------------------------------


def default_prompt(task: Task) -> str:
    """The prompt for a kind of task, where the recipe gives none."""
    shows = "First text: {text}\n\nSecond text: {pair}" if task.pair else "Text: {text}"
    if task.kind.numeric:
        return f"{shows}\n\nRate it with a number. Answer with the number alone."
    if task.kind.distribution == "sigmoid":
        return f"{shows}\n\nWhich of these apply?\n{{options}}\n\nAnswer with their letters, as in A, C, or with the word none."
    return f"{shows}\n\nWhich of these is right?\n{{options}}\n\nAnswer with the letter alone."


def request_body(settings: ServerSettings, task: Task, row: Example) -> dict[str, Any]:
    """The request about one row."""
    named = {label: (settings.descriptions or {}).get(label, label) for label in task.labels}
    options = "\n".join(f"{letter}. {name}" for letter, name in zip(LETTERS, named.values(), strict=False))
    values = {"text": row.text or "", "pair": row.pair or "", "options": options}
    # In one pass, so that braces in somebody's text are left alone.
    prompt = re.sub(r"\{(text|pair|options)\}", lambda found: values[found[1]], settings.prompt or default_prompt(task))
    messages = [{"role": "system", "content": settings.system}] if settings.system else []
    body: dict[str, Any] = {
        "model": settings.model,
        "messages": [*messages, {"role": "user", "content": prompt}],
        "temperature": 0,
        "max_tokens": 1 if task.kind.distribution == "softmax" else 64,
    }
    if _wants_probabilities(settings, task):
        body |= {"logprobs": True, "top_logprobs": TOP}
    body |= settings.extra or {}
    return {name: value for name, value in body.items() if value is not None}


def _wants_probabilities(settings: ServerSettings, task: Task) -> bool:
    return settings.answer == "probabilities" and task.kind.distribution == "softmax"


def read_reply(settings: ServerSettings, task: Task, answer: Mapping[str, Any]) -> tuple[list[float], float]:
    """(probabilities of the labels, or a number; share of the probability that lay on them) of one completion.

    Raises:
        Unusable: it is no answer to what was asked.
        RecipeError: the server gives no probabilities.
    """
    choices = answer.get("choices")
    if not isinstance(choices, list) or len(choices) != 1:
        raise Unusable
    text = ((choices[0].get("message") or {}).get("content") or "").strip()
    letters = LETTERS[: len(task.labels)]
    if _wants_probabilities(settings, task):
        content = (choices[0].get("logprobs") or {}).get("content") or []
        if not content or not content[0].get("top_logprobs"):
            raise RecipeError(
                "teacher.server: the server returns no log-probabilities. Start it so that it does, or set `answer: text` to "
                "learn from its answers alone."
            )
        return _shares(content[0]["top_logprobs"], letters)
    if task.kind.numeric:
        if not (found := _NUMBER.search(text)):
            raise Unusable
        return [float(found[0].replace(",", "."))], 1.0
    if task.kind.distribution == "sigmoid":
        if re.fullmatch(r"\W*none\W*", text, re.IGNORECASE):
            return [0.0] * len(letters), 1.0
        named = set(re.findall(r"\b([A-Z])\b", text))
        if not named or not named <= set(letters):
            raise Unusable
        return [float(letter in named) for letter in letters], 1.0
    chosen = _chosen(text, letters, task.labels)
    return [float(i == chosen) for i in range(len(letters))], 1.0


def _shares(top: Sequence[Mapping[str, Any]], letters: str) -> tuple[list[float], float]:
    """Probabilities of the letters among the likeliest first tokens, and how much of all they had together.

    One letter may be several tokens ("A", " A", "a"). A letter that is not listed has at most the probability of the last one
    that is, and no more than what is left.
    """
    found = dict.fromkeys(letters, 0.0)
    listed = [(str(one["token"]).strip().strip(".):").upper(), math.exp(float(one["logprob"]))) for one in top]
    for token, share in listed:
        if token in found:
            found[token] += share
    cover = sum(found.values())
    if cover < 0.01:
        raise Unusable
    unseen = [letter for letter, share in found.items() if not share]
    rest = max(0.0, 1 - sum(share for _, share in listed))
    for letter in unseen:
        found[letter] = min(rest / len(unseen), min(share for _, share in listed)) if len(listed) >= TOP else 0.0
    whole = sum(found.values())
    return [found[letter] / whole for letter in letters], min(1.0, cover)


def _chosen(text: str, letters: str, labels: Sequence[str]) -> int:
    """The number of the label that an answer in words names, by its letter or itself."""
    if (found := re.match(r"\W*([A-Za-z])(?![A-Za-z])", text)) and found[1].upper() in letters:
        return letters.index(found[1].upper())
    same = [i for i, label in enumerate(labels) if label.casefold() == text.strip(" .\"'").casefold()]
    if len(same) != 1:
        raise Unusable
    return same[0]


# -- the wire ----------------------------------------------------------------------------------------------------------


class _Server:
    """Requests that are tried again where that may help."""

    def __init__(self, settings: ServerSettings) -> None:
        import requests
        from requests.adapters import HTTPAdapter

        self.settings = settings
        self.url = settings.url.rstrip("/") + "/chat/completions"
        self.session = requests.Session()
        self.session.mount("http", HTTPAdapter(pool_maxsize=settings.concurrency))
        key = os.environ.get(settings.key, "")
        self.headers = {"Authorization": f"Bearer {key}"} if key else {}

    def __call__(self, body: Mapping[str, Any]) -> Mapping[str, Any]:
        """The server's answer to one request.

        Raises:
            RecipeError: it refuses the request, which another try would not change.
            ResourceError: it cannot be reached, or was overloaded at every try.
        """
        import requests

        problem = ""
        for wait in self._waits():
            time.sleep(wait)
            try:
                answer = self.session.post(self.url, json=body, headers=self.headers, timeout=self.settings.timeout)
            except requests.RequestException as error:
                problem = f"cannot be reached ({type(error).__name__})"
                continue
            if answer.status_code == 200:
                try:
                    read = answer.json()
                except ValueError:
                    problem = "sent half an answer"
                    continue
                if isinstance(read, dict):
                    return read
                problem = "sent something that is no completion"
                continue
            problem = f"answers {answer.status_code}"
            if answer.status_code == 429 or answer.status_code >= 500:
                self._rest(answer.headers.get("Retry-After"))
                continue
            raise RecipeError(f"teacher.server: {self.settings.url} {problem}{self._why(answer)}")
        raise ResourceError(f"teacher.server: {self.settings.url} {problem}, after {self.settings.retries} more tries.")

    def _waits(self) -> Iterator[float]:
        yield 0.0
        for number in range(self.settings.retries):
            yield min(LONGEST_WAIT, 0.5 * 2**number)

    def _rest(self, asked: str | None) -> None:
        """As long as the server asks for, within reason."""
        if asked and re.fullmatch(r"\d+(\.\d+)?", asked):
            time.sleep(min(LONGEST_WAIT, float(asked)))

    def _why(self, answer: Any) -> str:
        if answer.status_code in (401, 403):
            return f": put the key into the environment variable {self.settings.key} (teacher.server.key names another)."
        if answer.status_code == 404:
            return f": is the model called {self.settings.model}, and does the address end with /v1?"
        return f": {shown(answer.text)}. See teacher.server.extra for what it takes and what it does not."
