"""The text of a prompt, as a judge reads it."""

from __future__ import annotations

import json
from typing import Any

from seralign.records import Prompt


def conversation(prompt: Prompt) -> str:
    """The text of a prompt without the marks of the chat template.

    A single message is its content. Of several, each begins with its role. Other inputs of the template, such as
    tools, come before them as JSON.
    """
    if prompt.messages is None:
        return prompt.text
    messages = json.loads(prompt.messages)
    parts = [] if prompt.template_inputs is None else [f"template inputs: {prompt.template_inputs}"]
    if len(messages) == 1 and not parts:
        return _content(messages[0])
    return "\n\n".join([*parts, *(f"{message.get('role')}: {_content(message)}" for message in messages)])


def _content(message: dict[str, Any]) -> str:
    content = message.get("content")
    others = {key: value for key, value in message.items() if key not in ("role", "content") and value is not None}
    if isinstance(content, list):
        content = "".join(part["text"] if isinstance(part.get("text"), str) else json.dumps(part) for part in content)
    text = "" if content is None else str(content)
    # Such as calls of tools.
    return f"{text}\n{json.dumps(others, ensure_ascii=False)}".strip() if others else text
