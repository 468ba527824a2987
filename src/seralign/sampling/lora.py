"""A LoRA adapter on a vLLM server of its base: whether vLLM can load it, and the requests that load it."""

from __future__ import annotations

import http.client
import json
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from seralign.config.server import ServerConfig
from seralign.errors import ConfigError, brief
from seralign.policy.adapters import EMBEDDINGS, WEIGHTS
from seralign.policy.identity import ADAPTER_SETTINGS, open_tensors, read_json
from seralign.sampling.connecting import listed_models
from seralign.servers.client import Client

# ``--max-lora-rank`` takes these in every version of vLLM.
_RANKS = (8, 16, 32, 64, 128, 256, 512)
# Settings of PEFT that vLLM follows, or that change nothing once an adapter is trained.
_FOLLOWED = {
    "r", "lora_alpha", "use_rslora", "target_modules", "exclude_modules", "layers_to_transform", "layers_pattern",
    "lora_dropout", "init_lora_weights", "task_type", "peft_type", "peft_version", "base_model_name_or_path",
    "revision", "auto_mapping", "inference_mode", "eva_config", "megatron_core", "qalora_group_size",
}  # fmt: skip
_OFF = (None, False, "none", [], {})
# Others change the weights of the base when PEFT loads the adapter.
_STARTS = (True, False, "gaussian", "eva", "orthogonal")
_MATRICES = (".lora_A.weight", ".lora_B.weight")
_PREFIX = "adapter-"


class AdapterRefused(Exception):
    """vLLM cannot load an adapter onto its base, and why. All weights can be served in its place."""


def adapter_name(digest: str) -> str:
    """The name of a policy's adapter on a server. It has the policy's digest, so no other policy has it."""
    return f"{_PREFIX}{digest}"


def server_arguments(adapter: Path) -> tuple[str, ...]:
    """The arguments of a server that can load an adapter: its rank, and the names of its modules.

    Raises:
        AdapterRefused: vLLM does not load it, or would compute something else than PEFT does.
    """
    settings = read_json(adapter / ADAPTER_SETTINGS)
    _check_settings(settings)
    # The output embedding must not be among the modules: on a processor, vLLM then fails to give the log-probabilities
    # of a prompt.
    modules = _modules(adapter / WEIGHTS)
    return ("--enable-lora", "--max-lora-rank", str(_rank(settings)), "--lora-target-modules", *modules)


def _check_settings(settings: dict[str, Any]) -> None:
    if settings.get("peft_type") != "LORA":
        raise AdapterRefused(f"its kind is {settings.get('peft_type')}, not LORA")
    for name, value in sorted(settings.items()):
        if name not in _FOLLOWED and value not in _OFF:
            raise AdapterRefused(f"it has {name}")
    if settings.get("init_lora_weights", True) not in _STARTS:
        raise AdapterRefused(f"it has init_lora_weights {settings['init_lora_weights']}")


def _rank(settings: dict[str, Any]) -> int:
    """The smallest ``--max-lora-rank`` that is enough."""
    needed = settings.get("r", 8)  # PEFT's default
    rank = next((size for size in _RANKS if size >= needed), None)
    if rank is None:
        raise AdapterRefused(f"its rank is {needed}, over {_RANKS[-1]}")
    return rank


def _modules(weights: Path) -> list[str]:
    """The last parts of the names of the modules that an adapter changes."""
    found = set[str]()
    with open_tensors(weights) as tensors:
        for name in sorted(tensors.keys()):
            module = next((name.removesuffix(end) for end in _MATRICES if name.endswith(end)), None)
            if module is None:
                raise AdapterRefused(f"it has {name}, which is no low-rank matrix")
            found.add(module.rpartition(".")[2])
    if embeddings := sorted(found.intersection(EMBEDDINGS)):
        raise AdapterRefused(f"it changes the embedding {embeddings[0]}")
    return sorted(found)


def load_adapter(client: Client, adapter: Path, key: str) -> None:
    """Load an adapter under the name of the client's model, unless it is loaded; unload all others before.

    Args:
        client: The server, with the name of the adapter.
        adapter: The adapter's folder.
        key: The configuration key, for messages.

    Raises:
        AdapterRefused: the server answers with an error.
        ConfigError: it does not answer, or has failed itself.
    """
    settings = client.settings
    loaded = [name for name in listed_models(client, key) if name.startswith(_PREFIX)]
    for name in loaded:
        if name != settings.model:
            _post(settings, "unload_lora_adapter", {"lora_name": name}, key)
    if settings.model not in loaded:
        _post(settings, "load_lora_adapter", {"lora_name": settings.model, "lora_path": str(adapter.absolute())}, key)


def _post(server: ServerConfig, route: str, body: dict[str, Any], key: str) -> None:
    """A request of vLLM's own, whose answer is plain text. Proxies are not used, and it is not sent again."""
    parts = urlsplit(f"{server.url}/{route}")
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=server.timeout)
    try:
        connection.request("POST", parts.path, json.dumps(body), {"content-type": "application/json"})
        answer = connection.getresponse()
        says = answer.read().decode("utf-8", "replace")
    except (OSError, http.client.HTTPException) as error:
        raise ConfigError(
            f"{key}: {server.url} does not answer {route}: {brief(error)}; give the same command again"
        ) from None
    finally:
        connection.close()
    if answer.status == 200:
        return
    why = f"{route} answers with status {answer.status}: {brief(ValueError(says))}"
    if answer.status >= 500:  # the server has failed, which says nothing about the adapter
        raise ConfigError(f"{key}: {server.url}: {why}; give the same command again")
    raise AdapterRefused(why)
