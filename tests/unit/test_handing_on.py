"""What leaves the machine: a student on the Hub (a stand-in of it), and the teacher of a run in a folder of its own."""

from __future__ import annotations

from types import SimpleNamespace

import huggingface_hub
import pytest
import runs
import toys
from huggingface_hub import ModelCard, ModelCardData
from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError

from understudy.base import disk
from understudy.base.errors import DataError, RecipeError, ResourceError, VerifyError
from understudy.cli import app
from understudy.export import export_folder
from understudy.models.load import load_model
from understudy.push import push
from understudy.recipe.load import recipe_from
from understudy.run import evaluate_folder, train

ANSWER = SimpleNamespace(headers={}, request=None, status_code=403)
"""Of a server, as far as the client's errors look at one."""


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A finished run with a fine-tuned teacher, and its store."""
    folder = tmp_path_factory.mktemp("handing-on")
    checkpoint, data = toys.save_checkpoint(folder / "teacher"), toys.save_csv(folder / "data")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UNDERSTUDY_HOME", str(folder / "home"))
        recipe = recipe_from(runs.recipe(checkpoint, data))
        train(recipe, folder / "run")
        yield SimpleNamespace(folder=folder, run=folder / "run", recipe=recipe)


class Hub:
    """Stands in for the Hub: repositories with their files, and what is known of one model."""

    def __init__(self):
        self.repos, self.private, self.broken = {}, {}, None

    def create_repo(self, repo_id, *, private, exist_ok):
        self.private.setdefault(repo_id, private)
        self.repos.setdefault(repo_id, {})

    def create_commit(self, repo_id, operations, *, commit_message):
        if self.broken:
            raise self.broken
        for one in operations:
            with one.as_file() as file:
                self.repos[repo_id][one.path_in_repo] = file.read()
        return SimpleNamespace(commit_url=f"https://huggingface.co/{repo_id}/commit/abc", oid="abc0123456789")

    def model_info(self, name):
        if name != "owner/encoder":
            raise RepositoryNotFoundError("not there", response=ANSWER)
        return SimpleNamespace(card_data=ModelCardData(license="mit", language=["en"]))


@pytest.fixture
def hub(monkeypatch):
    stand_in = Hub()
    for name in ("create_repo", "create_commit", "model_info"):
        monkeypatch.setattr(huggingface_hub.HfApi, name, getattr(stand_in, name))
    monkeypatch.setenv("HF_TOKEN", "hf_stand_in")
    return stand_in


def test_a_run_goes_up_whole(world, hub, tmp_path):
    made = push(world.run, "ada/moods-small", base_model="owner/encoder", datasets=["ada/moods"])
    files = hub.repos["ada/moods-small"]
    assert hub.private["ada/moods-small"] and made["url"] == "https://huggingface.co/ada/moods-small"
    assert set(made["files"]) == set(files) >= {"README.md", "config.json", "model.safetensors", "task.json", "tokenizer.json"}
    assert disk.MANIFEST not in files
    for name, content in files.items():
        if name != "README.md":
            assert content == (world.run / "student" / name).read_bytes()
    card = ModelCard(files["README.md"].decode())
    assert card.data.base_model == "owner/encoder" and card.data.datasets == ["ada/moods"]
    assert card.data.license == "mit" and card.data.language == ["en"]  # as the model it was made from
    median = disk.read_json(world.run / "result.json")["student"]["latency_ms"]["median"]
    assert f"{median:.2f} (batch" in card.text  # measured; the folder's own card has no times
    assert 'model="ada/moods-small"' in card.text and 'model="."' not in card.text
    back = tmp_path / "back"
    for name, content in files.items():
        (back / name).parent.mkdir(parents=True, exist_ok=True)
        (back / name).write_bytes(content)
    assert evaluate_folder(back, world.recipe)["metrics"] == evaluate_folder(world.run, world.recipe)["metrics"]


def test_the_card_s_code_runs(world, hub, tmp_path, monkeypatch):
    push(world.run, "ada/moods-small")
    (tmp_path / "ada").mkdir()
    (tmp_path / "ada" / "moods-small").symlink_to(world.run / "student")
    monkeypatch.chdir(tmp_path)
    code = hub.repos["ada/moods-small"]["README.md"].decode().partition("```python\n")[2].partition("```")[0]
    said = []
    exec(code, {"print": said.append})
    assert said[0][0]["label"] in ("glad", "sad")


def test_options_come_before_what_the_hub_knows(world, hub):
    made = push(world.run / "student", "ada/b", public=True, license="apache-2.0", languages=["de", "en"])
    assert made["card"]["license"] == "apache-2.0" and made["card"]["language"] == ["de", "en"] and not hub.private["ada/b"]
    assert not push(world.run, "ada/c", base_model="owner/nobody")["card"].get("license")


def test_from_the_command_line(world, hub, capsys):
    with pytest.raises(SystemExit) as ended:
        app(["push", str(world.run), "ada/moods-small"])
    assert ended.value.code == 0
    said = capsys.readouterr().out
    assert "https://huggingface.co/ada/moods-small" in said and "--license apache-2.0" in said


def test_an_export_goes_up_as_it_is(world, hub, tmp_path):
    export_folder(world.run, "hf", out=tmp_path / "hf")
    push(tmp_path / "hf", "ada/hf")
    assert "## This folder: the hf form" in hub.repos["ada/hf"]["README.md"].decode()
    assert "structure.json" in hub.repos["ada/hf"]


def test_what_is_refused_uploads_nothing(world, hub, tmp_path, monkeypatch):
    with pytest.raises(RecipeError, match="OWNER/NAME"):
        push(world.run, "moods")
    with pytest.raises(DataError, match="holds no student"):
        push(tmp_path, "ada/moods")
    copy = tmp_path / "copy"
    disk.copy_dir(world.run / "student", copy)
    (copy / "config.json").write_text("{}")
    with pytest.raises(VerifyError, match=r"config\.json"):
        push(copy, "ada/moods")
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: None)
    with pytest.raises(RecipeError, match="hf auth login"):
        push(world.run, "ada/moods")
    assert not hub.repos


def test_the_hub_s_no_is_a_sentence(world, hub):
    hub.broken = HfHubHTTPError("403 Forbidden: this token may not write.", response=ANSWER)
    with pytest.raises(ResourceError, match="this token may not write"):
        push(world.run, "ada/moods")


def test_the_teacher_of_a_run(world, tmp_path):
    """Exported, it scores what the run says of it, and ONNX or a stock folder is compared with it as a student is."""
    made = export_folder(world.run, "hf", out=tmp_path / "teacher", model="teacher")
    assert made["compared"]["max_abs_difference"] < 1e-5
    back = load_model(str(tmp_path / "teacher"))
    assert back.net.config.num_hidden_layers == 2 and back.labels == ("glad", "sad") and back.handover.max_length == 32
    scores = evaluate_folder(tmp_path / "teacher", world.recipe)["metrics"]["test"]
    told = disk.read_json(world.run / "result.json")["teacher"]["metrics"]["test"]
    assert scores == pytest.approx({metric: one["value"] for metric, one in told.items()})
    assert (tmp_path / "teacher" / "README.md").read_text().startswith("# Teacher: teacher, fine-tuned, for custom")


def test_a_teacher_that_is_gone_is_not_trained_again(world, tmp_path, monkeypatch):
    monkeypatch.setenv("UNDERSTUDY_HOME", str(tmp_path / "empty"))
    with pytest.raises(DataError, match="not in the store any more"):
        export_folder(world.run, "hf", out=tmp_path / "teacher", model="teacher")
    with pytest.raises(RecipeError, match="alone has a teacher"):
        export_folder(world.run / "student" / ".." / ".." / "teacher", "hf", out=tmp_path / "teacher", model="teacher")
    with pytest.raises(RecipeError, match="a student and a teacher"):
        export_folder(world.run, "hf", out=tmp_path / "x", model="baseline")
    assert not (tmp_path / "teacher").exists()
