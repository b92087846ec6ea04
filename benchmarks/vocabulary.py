"""Losses over a vocabulary: what a teacher's records do to the gradient, and what chunks cost against the whole.

    python benchmarks/vocabulary.py signals --teacher TinyStories-656K --text train_sample.txt
    python benchmarks/vocabulary.py tokenizers --teacher TinyStories-656K --student stories260K --text train_sample.txt
    python benchmarks/vocabulary.py chunks --rows 4096 --vocabulary 151936 --width 64

signals  The student is the teacher without its last layer. For each record of the teacher: degrees between the gradient of
         the student's head, summed over the tokens, and the one from the whole distribution; and what a token takes on disk.
tokenizers  The teacher's bits per byte of some documents, by its own tokens and by what it says about the student's: once by the
         token that the student's tokenizer begins with, once by the longest that fits.
chunks   Each arm in a process of its own, forward and backward: seconds, and the peak of memory beside the arguments. Liger's
         loss (which TRL used) takes part where it is installed.

All add to results/vocabulary.json.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "src"))

import torch  # noqa: E402
from record import RESULTS, here, write  # noqa: E402
from torch import Tensor  # noqa: E402

from understudy.cache.fields import Top  # noqa: E402
from understudy.losses.chunked import CHUNK_BYTES, Head, Soft, Sparse, over_vocabulary, peak_bytes  # noqa: E402

FILE = RESULTS / "vocabulary.json"


def record(name: str, found: Any) -> None:
    known = json.loads(FILE.read_text()) if FILE.exists() else {}
    write(FILE, {**known, **here(), "command": "python benchmarks/vocabulary.py signals …; chunks …", name: found})
    print(json.dumps(found, indent=1))


# --- what a record does to the gradient --------------------------------------------------------------------------------


def states(folder: Path, text: Path, tokens: int) -> tuple[Head, Head, Tensor]:
    """Heads of teacher and student over the same positions, and the ids that come next."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    teacher, student = (AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval() for _ in range(2))
    student.model.layers = student.model.layers[:-1]
    hidden: list[list[Tensor]] = [[], []]
    labels: list[Tensor] = []
    number = 0
    for document in text.read_text(encoding="utf-8").split("\n\n"):
        ids = tokenizer(document, return_tensors="pt", truncation=True, max_length=256)["input_ids"]
        if ids.shape[1] < 2:
            continue
        with torch.no_grad():
            for kept, net in zip(hidden, (teacher, student), strict=True):
                kept.append(net.model(input_ids=ids, use_cache=False).last_hidden_state[0, :-1])
        labels.append(ids[0, 1:])
        number += ids.shape[1] - 1
        if number >= tokens:
            break
    weights = [net.lm_head.weight.detach() for net in (teacher, student)]
    one, other = (Head(torch.cat(kept)[:tokens], weight) for kept, weight in zip(hidden, weights, strict=True))
    return one, other, torch.cat(labels)[:tokens]


class Renormalised(Sparse):
    """What most tools do with the most likely ids: as if there were no others."""

    def compare(self, rows: slice, log_q: Tensor, divergence: Any, temperature: float) -> tuple[Tensor, Tensor]:
        ids, p = self.ids[rows], self.log_p[rows].softmax(-1)
        return -(p * log_q.gather(1, ids)).sum(-1), log_q.exp().scatter_add_(1, ids, -p)


class Sampled(Sparse):
    """RS-KD: ids drawn from the whole distribution, each as often as it was drawn."""

    def compare(self, rows: slice, log_q: Tensor, divergence: Any, temperature: float) -> tuple[Tensor, Tensor]:
        assert self.draws is not None
        draws = self.draws[rows]
        share = log_q.new_full(draws.shape, 1 / draws.shape[1])
        return -(share * log_q.gather(1, draws)).sum(-1), log_q.exp().scatter_add_(1, draws, -share)


def signals(options: argparse.Namespace) -> None:
    teacher, student, labels = states(Path(options.teacher), Path(options.text), options.tokens)
    generator = torch.Generator().manual_seed(options.seed)

    def gradient(says: Any) -> Tensor:
        weight = student.weight.clone().requires_grad_()
        over_vocabulary(Head(student.hidden, weight), labels, says, soft=Soft(1 / len(labels)))[0].backward()
        assert weight.grad is not None
        return weight.grad.flatten().double()

    whole, vocabulary = gradient(teacher), teacher.weight.shape[0]
    kl = float(over_vocabulary(student, labels, teacher, soft=Soft())[1]) / len(labels)
    rows = []

    def row(name: str, says: Any, entries: float, size: int) -> None:
        angle = torch.rad2deg(torch.acos(torch.cosine_similarity(gradient(says), whole, dim=0).clamp(-1, 1)))
        rows.append({"signal": name, "degrees": round(float(angle), 2), "entries": round(entries, 1), "bytes": size})

    for k in (12, 24, 50):
        kept = Sparse.of(teacher, labels, k)
        size = Top(f"top-{k}-0", vocabulary).bytes_per_row
        row(f"renormalised {k}", Renormalised(**vars(kept)), k, size)
        row(f"rest {k}", kept, k, size)
    p = teacher.logits().softmax(-1)
    for n in (50, 100):
        draws = torch.multinomial(p, n, replacement=True, generator=generator)
        unique = sum(len(one.unique()) for one in draws) / len(draws)
        kept = Sparse.of(teacher, labels, 1)
        row(f"sampled {n}", Sampled(**{**vars(kept), "draws": draws}), unique, round(unique * 3))
    for k, n in ((8, 8), (16, 8), (32, 16)):
        uniform = torch.rand(len(labels), generator=generator)
        row(f"top {k} + {n}", Sparse.of(teacher, labels, k, uniform, n), k + n, Top(f"top-{k}-{n}", vocabulary).bytes_per_row)
    name = Path(options.teacher).name
    record(f"signals {name}", {"tokens": len(labels), "vocabulary": vocabulary, "kl": round(kl, 3), "rows": rows})


# --- another tokenizer ------------------------------------------------------------------------------------------------


def tokenizers(options: argparse.Namespace) -> None:
    from math import log

    from transformers import AutoModelForCausalLM, AutoTokenizer

    from understudy.cache import LiveTeacher
    from understudy.cache.aligned import AlignedTeacher, between_vocabularies
    from understudy.data.encode import encode
    from understudy.data.types import IGNORE, Example, Task
    from understudy.losses.aligned import Aligned, Vocabularies
    from understudy.models.model import Model
    from understudy.models.needs import Needs

    both = [AutoTokenizer.from_pretrained(folder) for folder in (options.teacher, options.student)]
    net = AutoModelForCausalLM.from_pretrained(options.teacher, dtype=torch.float32).eval()
    texts = [text.strip() for text in Path(options.text).read_text(encoding="utf-8").split("\n\n") if text.strip()]
    examples = [Example(f"row-{i}", text=text) for i, text in enumerate(texts[: options.documents])]
    task = Task("text", "lm", labels=())
    theirs, ours = (encode(examples, one, task, max_length=256, learning=True) for one in both)
    live = LiveTeacher(Model(net, both[0], (), "lm", "teacher", None), theirs, Needs(head=True), "fp32", lambda _: None)
    words = between_vocabularies(*both)
    head = live.signals(range(len(theirs))).head
    assert isinstance(head, Head) and theirs.labels is not None
    labels = torch.from_numpy(theirs.labels[theirs.labels != IGNORE])
    nats = -float(head.logits().log_softmax(-1).gather(1, labels[:, None]).sum())
    found: dict[str, Any] = {"documents": len(examples)}
    found["own tokens, bits per byte"] = round(nats / sum(len(words.teacher[i] or b"") for i in labels.tolist()) / log(2), 3)
    for name, rule in (("first token", words), ("longest", Vocabularies(words.teacher, words.student, words.same))):
        teacher = AlignedTeacher(live, ours, theirs, rule, strict=False)
        said = teacher.signals(range(len(ours))).head
        assert isinstance(said, Aligned)
        places = (said.at >= 0).nonzero().squeeze(1)
        follows = said.label[places]
        p = said.classes(places, len(words.student), torch.float32).gather(1, follows[:, None])
        size = sum(len(words.student[i] or b"") for i in follows.tolist())
        found[name] = {
            "bits per byte": round(-float(p.clamp_min(1e-9).log().sum()) / size / log(2), 3),
            "share without probability": round(float((p < 1e-9).float().mean()), 4),
            "covered, begin together, same": [round(share, 3) for share in teacher.coverage],
        }
    record(f"tokenizers {Path(options.teacher).name} to {Path(options.student).name}", found)


# --- chunks against the whole --------------------------------------------------------------------------------------------


def arm(name: str, rows: int, vocabulary: int, width: int) -> None:
    """One forward and backward pass, measured from inside; printed as JSON."""
    import resource
    from time import perf_counter

    torch.manual_seed(0)
    h, t = torch.randn(rows, width).requires_grad_(), torch.randn(rows, width)
    w, u = ((torch.randn(vocabulary, width) / width**0.5) for _ in range(2))
    w.requires_grad_()
    labels = torch.arange(rows) % vocabulary

    def run(h: Tensor, t: Tensor, labels: Tensor) -> None:
        if name == "chunked":
            over_vocabulary(Head(h, w), labels, Head(t, u), soft=Soft(), hard=1.0)[0].backward()
            return
        if name == "liger":
            from liger_kernel.chunked_loss import LigerFusedLinearJSDLoss

            LigerFusedLinearJSDLoss(weight_hard_loss=0.5, weight_soft_loss=0.5)(h, w, t, u, labels).backward()
            return
        z, log_p = h @ w.T, (t @ u.T).log_softmax(-1)
        kl = torch.nn.functional.kl_div(z.log_softmax(-1), log_p, log_target=True, reduction="sum")
        (kl + torch.nn.functional.cross_entropy(z, labels, reduction="sum")).backward()

    run(h[:8], t[:8], labels[:8])
    before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, perf_counter()
    run(h, t, labels)
    seconds = perf_counter() - began
    peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    print(json.dumps({"seconds": round(seconds, 2), "bytes": peak}))


def chunks(options: argparse.Namespace) -> None:
    sizes = (options.rows, options.vocabulary, options.width)
    found: dict[str, Any] = {"rows": options.rows, "vocabulary": options.vocabulary, "width": options.width}
    found["promised bytes"] = peak_bytes(*sizes, chunk_bytes=CHUNK_BYTES)
    for name in options.arms.split(","):
        if name == "liger" and importlib.util.find_spec("liger_kernel") is None:
            found[name] = "not installed"
            continue
        command = [sys.executable, __file__, "arm", name, *map(str, sizes)]
        done = subprocess.run(command, capture_output=True, text=True)
        found[name] = json.loads(done.stdout) if done.returncode == 0 else done.stderr.strip().splitlines()[-1:]
    record(f"chunks {options.rows} x {options.vocabulary}", found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("signals")
    one.add_argument("--teacher", required=True, help="folder of a decoder")
    one.add_argument("--text", required=True, help="documents, told apart by blank lines")
    one.add_argument("--tokens", type=int, default=10_240)
    one.add_argument("--seed", type=int, default=0)
    one = commands.add_parser("tokenizers")
    for name in ("teacher", "student", "text"):
        one.add_argument(f"--{name}", required=True)
    one.add_argument("--documents", type=int, default=12)
    one = commands.add_parser("chunks")
    for name, default in (("rows", 4096), ("vocabulary", 151_936), ("width", 64)):
        one.add_argument(f"--{name}", type=int, default=default)
    one.add_argument("--arms", default="chunked,dense,liger")
    one = commands.add_parser("arm")
    one.add_argument("name")
    for name in ("rows", "vocabulary", "width"):
        one.add_argument(name, type=int)
    options = parser.parse_args()
    if options.command == "arm":
        arm(options.name, options.rows, options.vocabulary, options.width)
    else:
        {"signals": signals, "tokenizers": tokenizers, "chunks": chunks}[options.command](options)


if __name__ == "__main__":
    main()
