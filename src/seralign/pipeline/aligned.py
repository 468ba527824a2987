"""Prompts with and without the principle of Linear Alignment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import cast

from seralign.config import LOCAL, SamplingConfig
from seralign.config.linear_alignment import LinearAlignmentConfig
from seralign.data.content import Chat, Content, Message, Unencoded, is_chat
from seralign.data.tokens import Encoded, Encoder
from seralign.errors import ConfigError, DataError
from seralign.records import content_id
from seralign.sampling import SampledPolicy, Sampler
from seralign.sampling.linear_alignment import AlignedSampler


@dataclass(frozen=True)
class Aligned:
    """Linear Alignment of the answers to some prompts.

    Args:
        config: Principle and step.
        key: Its configuration key, for messages.
        without: The token ids of each prompt that was read, without the principle, by the id of the prompt with it.
    """

    config: LinearAlignmentConfig
    key: str
    without: dict[str, tuple[int, ...]] = field(default_factory=dict)

    def encode(self, encoder: Encoder, examples: Sequence[Unencoded]) -> list[Encoded | str]:
        """Encode prompts with the principle, and keep their ids without it.

        Raises:
            DataError: a prompt is token ids, or its system message is no text; or see ``Encoder.encode``.
        """
        principled = encoder.encode([self._with(one, encoder.data.system) for one in examples])
        found: list[Encoded | str] = []
        for own, bare in zip(principled, encoder.encode(examples), strict=True):
            if isinstance(own, Encoded) and isinstance(bare, Encoded):
                self.without[content_id(own.prompt_ids)] = bare.prompt_ids
                found.append(own)
            else:
                found.append(bare if isinstance(bare, str) else own)
        return found

    def sampler(self, policy: SampledPolicy, settings: SamplingConfig, key: str) -> Sampler:
        """The engine.

        Raises:
            ConfigError: the section has another engine than ``local``.
        """
        if settings.engine != LOCAL:
            raise ConfigError(
                f"{self.key}: it needs both distributions of the policy at every token, which only the engine local "
                f"has; {key}.engine is {settings.engine}"
            )
        return AlignedSampler(policy, self.config, self.without, settings.batch_size, self.key)

    def _with(self, example: Unencoded, system: str | None) -> Unencoded:
        return replace(example, prompt=self._prompt(example.prompt, system, example.where))

    def _prompt(self, prompt: Content, system: str | None, where: str) -> Content:
        principle = self.config.principle
        if isinstance(prompt, str):
            return f"{principle}\n\n{prompt}"
        if not is_chat(prompt):
            raise DataError(f"{where}: {self.key} adds a text to the prompt, and this one is token ids; give text")
        chat = cast(Chat, prompt)
        place = next((at for at, one in enumerate(chat) if one["role"] in ("system", "developer")), None)
        if place is None:
            text = principle if system is None else f"{system}\n\n{principle}"
            return ({"role": "system", "content": text}, *chat)
        own: Message = chat[place]
        if not isinstance(own["content"], str):
            raise DataError(f"{where}: {self.key} is added to the system message, which must be text")
        message = {**own, "content": f"{own['content']}\n\n{principle}"}
        return (*chat[:place], message, *chat[place + 1 :])
