"""``seralign merge`` and ``seralign push``: a whole model that is base and adapter, and nothing of this machine."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import numpy as np
import pytest
import torch
from huggingface_hub import ModelCard
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from seralign.cli.main import main
from seralign.policy.identity import PolicySource, weights_digest
from seralign.policy.quiet import quiet_transformers
from seralign.runs.files import partial_folder

IDS = torch.tensor([[5, 9, 77, 200, 31, 4, 118]])


def logps(model: Any) -> np.ndarray:
    with torch.no_grad():
        return model.float().eval()(IDS).logits.log_softmax(-1).numpy()


def base_and_adapter(base: Path, adapter: Path) -> np.ndarray:
    with quiet_transformers():
        return logps(PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), str(adapter)))


def whole(folder: Path) -> np.ndarray:
    return logps(AutoModelForCausalLM.from_pretrained(folder))


@pytest.mark.parametrize(
    ("arguments", "adapter"),
    [((), "result"), (("--round", "1"), "round-1/train/policy")],
)
def test_a_merged_model_is_base_and_adapter(
    lora_run: Path, chat_model: Path, tmp_path: Path, arguments: tuple[str, ...], adapter: str,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    out = tmp_path / "whole"
    assert main(["merge", str(lora_run), *arguments, "--out", str(out)]) == 0
    expected, base = base_and_adapter(chat_model, lora_run / adapter), whole(chat_model)
    np.testing.assert_allclose(whole(out), expected, atol=1e-4)
    assert np.abs(expected - base).max() > 0.01, "the adapter does something"
    printed = capsys.readouterr().out
    assert "merged in float32" in printed
    assert f"model: {out}" in printed
    assert not (out / "stage.json").exists()
    messages = [{"role": "user", "content": "hi"}]
    rendered = [AutoTokenizer.from_pretrained(at).apply_chat_template(messages, tokenize=False)
                for at in (out, chat_model)]  # fmt: skip
    assert rendered[0] == rendered[1]
    card = ModelCard.load(out / "README.md")
    assert card.data.to_dict()["library_name"] == "transformers"
    assert weights_digest(PolicySource(str(out))) in card.text


def test_an_adapter_outside_of_a_run_is_merged_in_the_type_of_its_base(
    lora_run: Path, chat_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base, adapter = tmp_path / "half", tmp_path / "adapter"
    half = AutoModelForCausalLM.from_pretrained(chat_model).to(torch.bfloat16)
    half.save_pretrained(base)
    AutoTokenizer.from_pretrained(chat_model).save_pretrained(base)
    shutil.copytree(lora_run / "result", adapter)
    settings = json.loads((adapter / "adapter_config.json").read_text())
    (adapter / "adapter_config.json").write_text(json.dumps(settings | {"base_model_name_or_path": str(base)}))
    assert main(["merge", str(adapter), "--out", str(tmp_path / "whole")]) == 0
    tensors = load_file(tmp_path / "whole" / "model.safetensors")
    assert {tensor.dtype for tensor in tensors.values()} == {torch.bfloat16}
    assert "merged in bfloat16" in capsys.readouterr().out
    # One rounding of each weight, by at most 2^-9 of itself.
    with quiet_transformers():
        exact: Any = PeftModel.from_pretrained(half.float(), str(adapter))
        exact = exact.merge_and_unload().state_dict()
    for name, tensor in tensors.items():
        torch.testing.assert_close(tensor.float(), exact[name], rtol=2**-8, atol=1e-6)


def test_a_merge_that_goes_wrong_leaves_nothing(
    lora_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from seralign.policy import merging

    def forgetful(model: Any, source: PolicySource) -> Any:
        return model.unload()

    monkeypatch.setattr(merging, "merged", forgetful)
    assert main(["merge", str(lora_run), "--out", str(tmp_path / "whole")]) == 2
    error = capsys.readouterr().err
    assert "differs from base plus adapter" in error
    assert not list(tmp_path.iterdir())


def test_a_whole_model_is_copied(chat_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["merge", str(chat_model), "--out", str(tmp_path / "copy")]) == 0
    assert "nothing to merge, so it is copied" in capsys.readouterr().out
    weights = [(folder / "model.safetensors").read_bytes() for folder in (chat_model, tmp_path / "copy")]
    assert weights[0] == weights[1]


def test_what_is_there_is_not_written_over(lora_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    assert main(["merge", str(lora_run), "--out", str(tmp_path)]) == 2
    assert "already exists" in capsys.readouterr().err
    assert [entry.name for entry in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_folder_that_a_user_calls_partial_is_not_touched(
    lora_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = tmp_path / "whole.partial"
    mine.mkdir()
    (mine / "thesis.tex").write_text("years of work")
    arguments = ["merge", str(lora_run), "--out", str(tmp_path / "whole")]
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {mine} already exists and is not from an interrupted seralign merge")
    assert [(entry.name, entry.read_text()) for entry in mine.iterdir()] == [("thesis.tex", "years of work")]
    shutil.rmtree(mine)
    mine.write_text("years of work")
    assert main(arguments) == 2
    assert f"{mine} already exists" in capsys.readouterr().err
    assert mine.read_text() == "years of work"
    mine.unlink()
    (tmp_path / "elsewhere").mkdir()
    mine.symlink_to(tmp_path / "elsewhere")
    assert main(arguments) == 2
    assert mine.is_symlink()
    assert not (tmp_path / "whole").exists()


def test_two_merges_into_one_folder_do_not_delete_each_other(
    lora_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    part = tmp_path / "whole.partial"
    with partial_folder(part, "seralign merge"):
        (part / "model").mkdir()
        (part / "model" / "config.json").write_text("half")
        assert main(["merge", str(lora_run), "--out", str(tmp_path / "whole")]) == 2
        assert f"{part}: another process is writing there" in capsys.readouterr().err
        assert (part / "model" / "config.json").read_text() == "half"


@pytest.mark.parametrize(
    "left", [{".seralign": "seralign merge", "model/leftover.json": "half"}, {".seralign": ""}, {}]
)
def test_what_a_killed_merge_left_is_taken_over(
    lora_run: Path, chat_model: Path, tmp_path: Path, left: dict[str, str]
) -> None:
    (tmp_path / "whole.partial" / "model").mkdir(parents=True)
    for name, text in left.items():
        (tmp_path / "whole.partial" / name).write_text(text)
    if not left:
        (tmp_path / "whole.partial" / "model").rmdir()
    assert main(["merge", str(lora_run), "--out", str(tmp_path / "whole")]) == 0
    assert [entry.name for entry in tmp_path.iterdir()] == ["whole"]
    own = {entry.name for entry in chat_model.iterdir()}
    assert {entry.name for entry in (tmp_path / "whole").iterdir()} == own | {"README.md"}


def test_weights_that_changed_since_are_refused(
    lora_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "talk"
    shutil.copytree(lora_run, run)
    file = run / "result" / "adapter_model.safetensors"
    tensors = load_file(file)
    next(iter(tensors.values())).view(-1)[0] += 1
    save_file(tensors, file, metadata={"format": "pt"})
    assert main(["merge", str(run), "--out", str(tmp_path / "whole")]) == 2
    assert "adapter_model.safetensors: its contents have changed" in capsys.readouterr().err


def test_an_adapter_on_another_base_is_refused(
    lora_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from seralign.pipeline import publishing

    monkeypatch.setattr(publishing, "weights_digest", lambda source: "of another base")
    assert main(["merge", str(lora_run), "--out", str(tmp_path / "whole")]) == 2
    assert "are not the ones that the run recorded" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


# --- push


class StandIn:
    """A hub with one repository; records requests and uploaded files."""

    asked: list[tuple[Any, ...]]
    files: dict[str, bytes]
    is_private = True

    def create_repo(self, repo: str, *, private: bool | None, exist_ok: bool) -> str:
        type(self).asked.append(("create_repo", repo, private, exist_ok))
        return f"https://huggingface.co/{repo}"

    def repo_info(self, repo: str) -> SimpleNamespace:
        return SimpleNamespace(private=self.is_private)

    def upload_folder(self, *, repo_id: str, folder_path: Path, commit_message: str) -> None:
        type(self).asked.append(("upload_folder", repo_id, commit_message))
        type(self).files = {
            str(path.relative_to(folder_path)): path.read_bytes() for path in folder_path.rglob("*") if path.is_file()
        }


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> type[StandIn]:
    StandIn.asked, StandIn.files, StandIn.is_private = [], {}, True
    monkeypatch.setattr(huggingface_hub, "HfApi", StandIn)
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: "a token")
    monkeypatch.setattr("seralign.pipeline.publishing.silence", lambda: None)
    return StandIn


def no_paths(files: dict[str, bytes], *places: Path) -> None:
    for name, content in files.items():
        for place in places:
            assert str(place).encode() not in content, name


def test_an_adapter_is_pushed_with_its_base_as_the_hub_names_it(
    lora_run: Path, chat_model: Path, hub: type[StandIn], capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["push", str(lora_run), "--repo", "me/talk", "--private", "--base_model", "Tiny/Talker"]
    assert main(arguments) == 0
    assert hub.asked == [("create_repo", "me/talk", True, True), ("upload_folder", "me/talk", "round 2, seralign")]
    assert capsys.readouterr().out.splitlines()[-1] == "https://huggingface.co/me/talk"
    assert set(hub.files) == {
        "README.md", "adapter_config.json", "adapter_model.safetensors", "chat_template.jinja", "tokenizer.json",
        "tokenizer_config.json",
    }  # fmt: skip
    assert hub.files["adapter_model.safetensors"] == (lora_run / "result" / "adapter_model.safetensors").read_bytes()
    assert json.loads(hub.files["adapter_config.json"])["base_model_name_or_path"] == "Tiny/Talker"
    header = ModelCard(hub.files["README.md"].decode()).data.to_dict()
    assert (header["base_model"], header["library_name"]) == ("Tiny/Talker", "peft")
    no_paths(hub.files, lora_run, lora_run.parent, chat_model, chat_model.parent)


def test_a_merged_model_is_pushed_without_a_base_that_nobody_has(
    lora_run: Path, chat_model: Path, hub: type[StandIn], tmp_path: Path
) -> None:
    assert main(["push", str(lora_run), "--round", "1", "--repo", "me/talk", "--merged"]) == 0
    assert hub.asked == [("create_repo", "me/talk", None, True), ("upload_folder", "me/talk", "round 1, seralign")]
    card = ModelCard(hub.files["README.md"].decode())
    header = card.data.to_dict()
    assert "base_model" not in header
    assert header["library_name"] == "transformers"
    assert "this is round 1 of 2" in card.text
    no_paths(hub.files, lora_run, lora_run.parent, chat_model, chat_model.parent)
    for name, content in hub.files.items():
        (tmp_path / name).write_bytes(content)
    expected = base_and_adapter(chat_model, lora_run / "round-1" / "train" / "policy")
    np.testing.assert_allclose(whole(tmp_path), expected, atol=1e-4)


def test_a_dry_run_asks_the_hub_nothing(
    lora_run: Path, hub: type[StandIn], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "would"
    assert main(["push", str(lora_run), "--repo", "me/talk", "--merged", "--dry-run", "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "nothing was uploaded" in printed
    assert f"model.safetensors  {(out / 'model.safetensors').stat().st_size:,} bytes" in printed
    assert hub.asked == []


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--repo", "me/talk"), ["--merged", "--base_model"]),
        (("--repo", "talk", "--merged"), ["--repo", "OWNER/NAME"]),
        (("--repo", "me/talk", "--base_model", "/models/talker"), ["--base_model", "OWNER/NAME"]),
        (("--repo", "me/talk", "--merged", "--out", "here"), ["--dry-run"]),
        (("--repo", "me/talk", "--merged", "--round", "9"), ["no round 9"]),
    ],
)
def test_mistakes_are_one_line(
    lora_run: Path, hub: type[StandIn], capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], says: list[str]
) -> None:
    assert main(["push", str(lora_run), *arguments]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    for word in says:
        assert word in error
    assert hub.asked == []


def test_a_public_repository_is_not_taken_for_a_private_one(
    lora_run: Path, hub: type[StandIn], capsys: pytest.CaptureFixture[str]
) -> None:
    hub.is_private = False
    assert main(["push", str(lora_run), "--repo", "me/talk", "--merged", "--private"]) == 2
    assert "already exists and is public" in capsys.readouterr().err
    assert hub.files == {}


def test_no_token_and_no_hub_are_one_line(
    lora_run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["push", str(lora_run), "--repo", "me/talk", "--merged"]
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: None)
    assert main(arguments) == 2
    assert "HF_TOKEN" in capsys.readouterr().err
    # The tests forbid the hub, which is as good as one that cannot be reached.
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: "a token")
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: me/talk: the hub cannot be reached: HF_HUB_OFFLINE is set")
    assert error.count("\n") == 1
