"""The official folder layouts, with a few rows of our own in them."""

from __future__ import annotations

from pathlib import Path

import pytest

from understudy.base.errors import DataError, RecipeError
from understudy.data.tasks import load_task
from understudy.recipe.settings import TaskSettings

PAIRS = [("The lift is stuck.", "The lift does not move."), ("Tea is ready.", 'He said "no".')]


def load(name: str, path: Path, seed: int = 0, **keys: object):
    return load_task(TaskSettings.model_validate({"name": name, "path": str(path), **keys}), seed=seed)


def rows(*cells: object, times: int = 1) -> str:
    return ("\t".join(map(str, cells)) + "\n") * times


def table(header: str, *lines: str) -> str:
    return header.replace(" ", "\t") + "\n" + "".join(lines)


def both(first: str, second: str, times: int = 5) -> str:
    return (first + second) * times


class TestGlue:
    def test_cola_has_no_header(self, write, tmp_path):
        lines = both(rows("us", 1, "", "Birds sing."), rows("us", 0, "*", "Birds sings the."))
        write("CoLA/train.tsv", lines)
        write("CoLA/dev.tsv", lines[:-1])
        data = load("glue/cola", tmp_path)  # the folder above is fine too
        assert data.task.labels == ("unacceptable", "acceptable") and data.task.select == "mcc"
        assert len(data.train) == 8 and len(data.select) == 2 and len(data.tests["dev"]) == 10
        assert data.tests["dev"][0].text == "Birds sing." and data.tests["dev"][0].label == 1
        assert any("no test split with labels" in note for note in data.notes)
        assert any("2 of 10 training rows are held out" in note for note in data.notes)

    def mrpc(self, write) -> str:
        head = "\ufeffQuality\t#1 ID\t#2 ID\t#1 String\t#2 String\n"
        body = both(rows(1, 3, 4, *PAIRS[0]), rows(0, 5, 6, *PAIRS[1]))
        for name in ("train.tsv", "dev.tsv"):
            write(f"MRPC/{name}", head + body)
        return head + body

    def test_mrpc_reports_on_dev_and_on_its_published_test_part(self, write, tmp_path):
        content = self.mrpc(write)
        assert list(load("glue/mrpc", tmp_path).tests) == ["dev"]
        write("MRPC/msr_paraphrase_test.txt", content)
        data = load("glue/mrpc", tmp_path / "MRPC")
        assert list(data.tests) == ["dev", "test"] and data.task.pair and data.task.select == "f1"
        assert data.tests["test"][1].pair == 'He said "no".'
        assert {e.id for e in data.select}.isdisjoint(e.id for e in data.train)

    def test_selection_on_dev_only_where_something_else_is_reported(self, write, tmp_path):
        content = self.mrpc(write)
        with pytest.raises(RecipeError, match=r"task\.selection: dev would select on the rows that are reported on"):
            load("glue/mrpc", tmp_path, selection="dev")
        write("MRPC/msr_paraphrase_test.txt", content)
        data = load("glue/mrpc", tmp_path, selection="dev")
        assert list(data.tests) == ["test"] and [e.id for e in data.select] == [f"dev-{i}" for i in range(10)]

    def test_stsb_scores_and_its_original_test_file(self, write, tmp_path):
        head = "index genre filename year old_index source1 source2 sentence1 sentence2 score"
        lines = rows(0, "g", "f", "y", 0, "n", "n", *PAIRS[0], "4.500") + rows(
            1, "g", "f", "y", 1, "n", "n", *PAIRS[1], 0
        )
        for name in ("train", "dev"):
            write(f"STS-B/{name}.tsv", table(head, lines * 4))
        write(
            "STS-B/original/sts-test.tsv",
            rows("g", "f", "y", 1, 2.5, *PAIRS[0]) + rows("g", "f", "y", 2, 5, *PAIRS[1], "licence", "source"),
        )
        data = load("glue/stsb", tmp_path)
        assert data.task.kind == "regression" and data.task.metrics == ("pearson", "spearman")
        assert {e.label for e in data.train} == {4.5, 0.0}
        assert [(e.label, e.pair) for e in data.tests["test"]] == [(2.5, PAIRS[0][1]), (5.0, PAIRS[1][1])]
        write("STS-B/dev.tsv", table(head, rows(0, "g", "f", "y", 0, "n", "n", *PAIRS[0], "4,5")))
        with pytest.raises(
            DataError, match=r"dev\.tsv, line 2, column 'score': '4,5' is not a number.*decimals with a point"
        ):
            load("glue/stsb", tmp_path)

    def test_mnli_has_two_test_sets(self, write, tmp_path):
        lines = "".join(rows(i, *PAIRS[0], label) for i, label in enumerate(("entailment", "neutral", "contradiction")))
        head = "index sentence1 sentence2 gold_label"
        write("MNLI/train_subset9.tsv", table(head, lines * 5))
        write("MNLI/dev_matched.tsv", table(head, lines))
        data = load("glue/mnli", tmp_path)
        assert list(data.tests) == ["dev_matched"]
        assert any("train_subset9.tsv is trained on" in note for note in data.notes)
        assert any("dev_mismatched.tsv is not in" in note for note in data.notes)
        write("MNLI/dev_mismatched.tsv", table(head, lines * 2))
        assert {name: len(part) for name, part in load("glue/mnli", tmp_path).tests.items()} == {
            "dev_matched": 3,
            "dev_mismatched": 6,
        }
        (tmp_path / "MNLI/dev_matched.tsv").unlink()
        with pytest.raises(
            DataError, match=r"dev_matched\.tsv of MNLI is missing.*found dev_mismatched\.tsv, train_subset9"
        ):
            load("glue/mnli", tmp_path)

    def test_broken_rows_of_qqp_are_counted(self, write, tmp_path):
        head = "id qid1 qid2 question1 question2 is_duplicate"
        lines = both(rows(1, 2, 3, *PAIRS[0], 1), rows(4, 5, 6, *PAIRS[1], 0))
        write("QQP/train.tsv", table(head, lines, "half a row\n"))
        write("QQP/dev.tsv", table(head, lines))
        data = load("glue/qqp", tmp_path)
        assert len(data.train) + len(data.select) == 10
        assert any("1 broken rows are left out" in note for note in data.notes)

    def test_a_label_that_is_not_of_the_task(self, write, tmp_path):
        write("RTE/train.tsv", table("index sentence1 sentence2 label", rows(0, *PAIRS[0], "entailement")))
        with pytest.raises(
            DataError,
            match=r"line 2, column 'label': 'entailement' is not in the label set\. Did you mean 'entailment'",
        ):
            load("glue/rte", tmp_path)

    def test_missing_files(self, write, tmp_path):
        with pytest.raises(DataError, match=r"train\.tsv of WNLI is missing\. Looked for train\.tsv; found nothing"):
            load("glue/wnli", tmp_path)


class TestPawsx:
    HEAD = "id sentence1 sentence2 label"

    @pytest.fixture
    def folder(self, write, tmp_path) -> Path:
        for language in ("en", "de"):
            lines = "".join(rows(i, f"{language} {i}", "b", i % 2) for i in range(8)) + rows(8, "NS", "c", 0)
            for name in ("dev_2k", "test_2k"):
                write(f"x-final/{language}/{name}.tsv", table(self.HEAD, lines))
        write("x-final/en/train.tsv", table(self.HEAD, lines))
        return tmp_path

    def test_trains_where_there_is_a_train_file_and_reports_per_language(self, folder):
        data = load("pawsx", folder)
        assert {name: len(part) for name, part in data.tests.items()} == {"de": 9, "en": 9, "all": 18}
        assert len(data.train) == 8 and {e.language for e in data.train} == {"en"}
        assert {e.language for e in data.select} == {"en"} and len(data.select) == 9
        assert "PAWS-X en: 1 untranslated rows (NS) are left out of train." in data.notes
        assert data.tests["all"] == data.tests["de"] + data.tests["en"]
        assert list(load("pawsx", folder, languages=["de"], train_languages=["en"]).tests) == ["de"]

    def test_translations_share_a_group_and_are_held_out_together(self, folder, write):
        lines = "".join(rows(i, f"de {i}", "b", i % 2) for i in range(8))
        write("x-final/de/translated_train.tsv", table(self.HEAD, lines))
        data = load("pawsx", folder, selection=0.25)
        assert len(data.train) == 12 and len(data.select) == 4
        assert {e.group for e in data.train}.isdisjoint(e.group for e in data.select)
        assert len({e.id for e in data.train}) == 12
        assert "The dev part is not used (task.selection is a fraction of train)." in data.notes

    def test_languages_that_are_not_there(self, folder):
        with pytest.raises(RecipeError, match=r"task\.languages: there is no 'fr' in .* Languages there: de, en"):
            load("pawsx", folder, languages=["fr"])
        with pytest.raises(DataError, match=r"no training file for de.*task\.train_languages"):
            load("pawsx", folder, languages=["de"])
        with pytest.raises(DataError, match="de training file of PAWS-X is missing"):
            load("pawsx", folder, train_languages=["de"])
        with pytest.raises(DataError, match="no folder of a known language"):
            load("pawsx", folder / "x-final" / "en")


class TestXnli:
    LABELS = ("neutral", "contradiction", "entailment")

    def own(self, write, times: int = 2) -> None:
        for language in ("en", "fr"):
            body = "".join(rows(f"{language} p", "h", label) for label in self.LABELS) * times
            for split in ("dev", "test"):
                write(f"xnli/{language}/{split}.tsv", table("premise hypothesis label", body))

    def test_one_file_per_language(self, write, tmp_path):
        self.own(write)
        with pytest.raises(DataError, match=r"XNLI has no training part of its own.*MNLI/train\.tsv"):
            load("xnli", tmp_path)
        body = "".join(rows(*PAIRS[0], label) for label in self.LABELS) * 3
        write("MNLI/train.tsv", table("sentence1 sentence2 gold_label", body))
        data = load("xnli", tmp_path)
        assert {name: len(part) for name, part in data.tests.items()} == {"en": 6, "fr": 6, "all": 12}
        assert len(data.train) == 9 and len(data.select) == 6 and {e.language for e in data.select} == {"en"}
        assert [e.label for e in data.tests["fr"]][:3] == [1, 2, 0]
        assert data.tests["en"][1].group == data.tests["fr"][1].group

    def test_the_official_layout_and_translated_training_data(self, write, tmp_path):
        header = (
            "language gold_label sentence1_binary_parse sentence2_binary_parse sentence1_parse sentence2_parse "
            "sentence1 sentence2 promptID pairID genre label1 label2 label3 label4 label5 "
            "sentence1_tokenized sentence2_tokenized match"
        )
        blank = [""] * 4
        body = "".join(
            rows(language, label, *blank, f"{language} p", "h", *[""] * 11)
            for language in ("ar", "de")
            for label in self.LABELS
        )
        for split in ("dev", "test"):
            write(f"XNLI-1.0/xnli.{split}.tsv", table(header, body))
        for language in ("ar", "de"):
            lines = "".join(rows("p", "h", label) for label in ("neutral", "entailment", "contradictory"))
            write(f"XNLI-MT-1.0/multinli/multinli.train.{language}.tsv", table("premise hypo label", lines))
        data = load("xnli", tmp_path, languages=["de", "ar"], train_languages=["ar", "de"])
        assert list(data.tests) == ["de", "ar", "all"] and data.tests["de"][2].text == "de p"
        assert [e.label for e in data.train] == [1, 0, 2] * 2 and data.train[0].group == data.train[3].group
        assert len(data.select) == 6
        with pytest.raises(DataError, match="no rows in 'bg'. Languages there: ar, de"):
            load("xnli", tmp_path, train_languages=["ar"])

    def test_nothing_there(self, tmp_path):
        with pytest.raises(DataError, match=r"test file of XNLI is missing"):
            load("xnli", tmp_path)


class TestEntities:
    def test_conll2003(self, write, tmp_path):
        body = "-DOCSTART- -X- O O\n\nAnna NNP I-NP I-PER\nBerg NNP I-NP I-PER\nsings VB O O\n\n"
        body += "in IN O O\nRome NNP I-NP I-LOC\n\n"
        for name in ("eng.train", "eng.testa", "eng.testb"):
            write(name, body)
        data = load("conll2003", tmp_path)
        labels = data.task.labels
        assert labels == ("O", "B-PER", "I-PER", "B-ORG", "I-ORG", "B-LOC", "I-LOC", "B-MISC", "I-MISC")
        assert data.train[0].words == ("Anna", "Berg", "sings")
        assert [labels[tag] for tag in data.train[0].label] == ["B-PER", "I-PER", "O"]
        assert (len(data.train), len(data.select), list(data.tests)) == (2, 2, ["test"])
        assert any("2 tags are converted to BIO" in note for note in data.notes)
        assert any("eng.testb: 1 -DOCSTART- lines" in note for note in data.notes)
        write("eng.testb", body.replace("I-LOC", "I-LOK"))
        with pytest.raises(DataError, match=r"eng\.testb, line 8: the tag 'B-LOK' is not in the label set.*'B-LOC'"):
            load("conll2003", tmp_path)

    def test_wikineural_without_train_learns_on_a_part_of_val(self, write, tmp_path):
        for language in ("en", "pl"):
            body = "".join(f"0\tOslo\tI-LOC\n1\t{language}{i}\tO\n\n" for i in range(20))
            for name in ("val", "test"):
                write(f"{language}/{name}.conllu", body)
        data = load("wikineural", tmp_path)
        assert (len(data.train), len(data.select)) == (32, 8)
        assert list(data.tests) == ["en", "pl", "all"] and len(data.tests["all"]) == 40
        assert {e.id for e in data.train}.isdisjoint(e.id for e in data.select)
        assert any("WikiNEuRal pl has no train.conllu here: 16 sentences" in note for note in data.notes)
        assert load("wikineural", tmp_path, seed=1).select != data.select
        write("pl/train.conllu", "0\tOslo\tB-LOC\n")
        data = load("wikineural", tmp_path, train_languages=["pl"], languages=["en"])
        assert (len(data.train), len(data.select), list(data.tests)) == (1, 20, ["en"])
