"""Servers of the OpenAI API that sample from a tiny model, in the ways that different software has."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from fake_server import Asked, Scripted
from transformers import AutoModelForCausalLM, AutoTokenizer

from seralign.config import PolicyConfig
from seralign.policy.identity import PolicySource
from seralign.policy.load import load_model


@dataclass
class ModelServer:
    """A script for ``fake_server``.

    Args:
        folder: The model that is served.
        owner: ``owned_by`` in the list of models: ``vllm`` gives token ids and log-probabilities; others give text.
        takes: How it takes prompts: ``tokens``, ``text``, ``messages``.
        extra_tokens: Tokens that it reads besides those of the prompt.
        fail_after: It answers no more after so many sampled requests.
        change: Changes the text of a response, by its number.
        fault: What it does wrong with adapters: ``refuse`` loads none, ``fail`` answers with status 500, ``ignore``
            answers as the base, ``stale`` answers as the adapter that was loaded first.
        tell: Gets a line for each adapter that is loaded or unloaded.
    """

    folder: Path
    owner: str = "vllm"
    takes: Sequence[str] = ("tokens", "text", "messages")
    extra_tokens: int = 0
    fail_after: int | None = None
    change: Any = None
    fault: str = ""
    tell: Callable[[str], object] = print
    sampled: list[Any] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.model = AutoModelForCausalLM.from_pretrained(self.folder).eval()
        self.first: Any = None
        self.adapters: dict[str, tuple[str, Any]] = {}
        self.tokenizer: Any = AutoTokenizer.from_pretrained(self.folder)

    def __call__(self, asked: Asked, number: int) -> Scripted:
        if asked.path.endswith("/health"):
            return Scripted({})
        if asked.path.endswith("/models"):
            roots = {"m": str(self.folder)} | {name: folder for name, (folder, _) in self.adapters.items()}
            return Scripted({"object": "list", "data": [
                {"id": name, "object": "model", "created": 0, "owned_by": self.owner, "root": root}
                for name, root in roots.items()
            ]})  # fmt: skip
        body = asked.body
        if asked.path.endswith("_lora_adapter"):
            return self._change_adapters(asked.path.rpartition("/")[2], body)
        chat = asked.path.endswith("/chat/completions")
        mode = "messages" if chat else "text" if isinstance(body["prompt"], str) else "tokens"
        if mode not in self.takes:
            return Scripted({"error": {"message": f"no {mode} here"}}, 404 if chat else 400)
        ids = self._ids(body, mode)
        if body.get("echo"):
            return self._echo(body, ids)
        if body["temperature"] > 0:
            if self.fail_after is not None and len(self.sampled) >= self.fail_after:
                return Scripted({"error": {"message": "out of memory"}}, 500)
            self.sampled.append(body)
        choices = [self._choice(body, ids, index, chat) for index in range(body.get("n") or 1)]
        made = sum(len(one["token_ids"] or []) for one in choices)
        usage = {"prompt_tokens": len(ids) + self.extra_tokens, "completion_tokens": made, "total_tokens": 0}
        return Scripted({"id": "1", "object": "x", "created": 0, "model": "m", "choices": choices, "usage": usage})

    def _change_adapters(self, route: str, body: Any) -> Scripted:
        """Answers in plain text, as vLLM does."""
        name = body["lora_name"]
        self.tell(f"{route} {name} {body.get('lora_path', '')}")
        if (route == "load_lora_adapter") == (name in self.adapters) or self.fault == "refuse":
            return Scripted({"error": {"message": f"no {name} here, or twice", "code": 400}}, 400)
        if self.fault == "fail":
            return Scripted({"error": {"message": "EngineCore encountered an issue", "code": 500}}, 500)
        if route == "unload_lora_adapter":
            del self.adapters[name]
            return Scripted("Success: removed")
        source = PolicySource(str(self.folder), adapter=body["lora_path"])
        loaded = load_model(source, PolicyConfig(), "float32").eval()
        self.first = self.first or loaded
        served = {"": loaded, "ignore": self.model, "stale": self.first}[self.fault]
        self.adapters[name] = (body["lora_path"], served)
        return Scripted("Success: added")

    def _model(self, body: Any) -> Any:
        return self.adapters[body["model"]][1] if body["model"] in self.adapters else self.model

    def _ids(self, body: Any, mode: str) -> list[int]:
        if mode == "tokens":
            return list(body["prompt"])
        if mode == "text":
            return list(self.tokenizer(body["prompt"], add_special_tokens=False)["input_ids"])
        text = self.tokenizer.apply_chat_template(body["messages"], tokenize=False, add_generation_prompt=True)
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def _choice(self, body: Any, prompt: list[int], index: int, chat: bool) -> dict[str, Any]:
        generator = torch.Generator().manual_seed(body["seed"] + index)
        ends = set(body.get("stop_token_ids") or [self.tokenizer.eos_token_id])
        ids: list[int] = []
        while len(ids) < body["max_tokens"] and not ends & set(ids):
            with torch.no_grad():
                row = self._model(body)(input_ids=torch.tensor([prompt + ids])).logits[0, -1]
            if body["temperature"] == 0:
                ids.append(int(row.argmax()))
            else:
                chances = (row / body["temperature"]).softmax(-1)
                ids.append(int(torch.multinomial(chances, 1, generator=generator)))
        text = self.tokenizer.decode(ids, skip_special_tokens=True)
        if self.change is not None and body["temperature"] > 0:
            text = self.change(len(self.sampled), text)
        finish = "stop" if ends & set(ids) else "length"
        known = ids if self.owner == "vllm" and body.get("return_token_ids") else None
        own = {"message": {"role": "assistant", "content": text}} if chat else {"text": text}
        return {"index": index, "finish_reason": finish, "logprobs": None, "token_ids": known, **own}

    def _echo(self, body: Any, ids: list[int]) -> Scripted:
        values = None
        if self.owner == "vllm":
            with torch.no_grad():
                rows = self._model(body)(input_ids=torch.tensor([ids])).logits[0].log_softmax(-1)
            values = [None, *(float(rows[at - 1, ids[at]]) for at in range(1, len(ids))), 0.0]
        choice = {"index": 0, "text": "", "finish_reason": "length", "logprobs": {"token_logprobs": values}}
        return Scripted({"id": "1", "object": "x", "created": 0, "model": "m", "choices": [choice], "usage": None})


def vllm_server(
    arguments: Sequence[str], environment: Mapping[str, str], tell: Callable[[str], object]
) -> tuple[ModelServer, int]:
    """A stand-in for vLLM by its arguments, and its port. It tells its arguments first.

    ``FAULT`` in the environment is that of ``ModelServer``; with ``no-lora``, its model takes no adapters.
    """
    parser = argparse.ArgumentParser(allow_abbrev=False)
    for name in ("--model", "--port", "--max-lora-rank"):
        parser.add_argument(name)
    parser.add_argument("--lora-target-modules", nargs="+")
    parser.add_argument("--enable-lora", action="store_true")
    given = vars(parser.parse_known_args(arguments)[0])
    lora = given["enable_lora"]
    fault = environment.get("FAULT", "") if lora else ""
    assert not lora or environment["VLLM_ALLOW_RUNTIME_LORA_UPDATING"] == "True"
    if fault == "no-lora":
        raise ValueError("LlamaForCausalLM does not support LoRA yet.")
    tell(json.dumps(given))
    return ModelServer(Path(given["model"]), fault=fault, tell=tell), int(given["port"])


def main(arguments: list[str]) -> None:
    """Serve as vLLM does, by its arguments, until the end of the process."""
    import time

    from fake_server import fake_server

    served, port = vllm_server(arguments, os.environ, lambda line: print(line, flush=True))
    with fake_server(served, port, models=None):
        time.sleep(3600)
