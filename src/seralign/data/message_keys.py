"""Keys of messages: those that are used, those that are reported as unused, and those that cannot be ignored."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from seralign.data.content import Message
from seralign.data.place import Place

NOT_LEARNED = "answer marked as not to be learned"

# ``name`` is the name of the tool in a tool result.
_READ = {"role", "content", "tool_calls", "function_call", "tool_call_id", "id", "type", "reasoning_content",
         "thinking", "reasoning", "refusal"}  # fmt: skip
_OF_TOOLS = {"tool", "function", "ipython"}
_MEDIA = {"image", "images", "image_url", "input_image", "video", "videos", "video_url", "audio", "audios",
          "input_audio", "file", "files", "attachment", "attachments"}  # fmt: skip
_LEARNED = ("weight", "train", "loss")
_PART = {"type", "text"}


def check(message: Message, what: str, name: str, place: Place) -> None:
    """Note the unused keys of a message in the column ``name``; empty values are ignored.

    Raises:
        DataError: The message has images, audio, video or files.
    """
    _refuse_media(message, what, place)
    read = _READ | {"name"} if str(message.get("role")).lower() in _OF_TOOLS else _READ
    place.unread.extend(f"{name}[].{key}" for key in _given(message) if key not in read)


def check_part(part: Mapping[str, Any], what: str, name: str, place: Place) -> None:
    """Note the unused keys of a part of a message's content.

    Raises:
        DataError: The part has images, audio, video or files.
    """
    _refuse_media(part, what, place)
    place.unread.extend(f"{name}[].content[].{key}" for key in _given(part) if key not in _PART)


def is_not_learned(message: Message) -> bool:
    """Whether a message is marked as not to be learned: a weight of 0, or ``train`` or ``loss`` set to false."""
    return any(key in message and str(message[key]).strip().lower() in ("false", "0", "0.0") for key in _LEARNED)


def _refuse_media(values: Mapping[str, Any], what: str, place: Place) -> None:
    found = [key for key in values if key in _MEDIA and values[key]]
    if found:
        raise place.error(f"{what} has {found[0]}, but only text is supported; leave out the row or the key")


def _given(values: Mapping[str, Any]) -> Iterable[str]:
    """The keys that carry information; false and 0 do."""
    return (key for key, value in values.items() if value not in (None, "", [], {}))
