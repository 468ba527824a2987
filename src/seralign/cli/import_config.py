"""``seralign import-config``: turn a configuration of TRL, axolotl or LLaMA-Factory into one of seralign."""

from __future__ import annotations

import sys
from pathlib import Path

from seralign.config.flags import Parser, read_flags, unknown_argument
from seralign.errors import ConfigError, StoreError
from seralign.importing import TOOLS, Options, import_config, report, to_text
from seralign.runs.files import disk_errors, write_atomic


def main(arguments: list[str]) -> None:
    """``FILE [--from TOOL] [--out FILE.yaml] [--devices N] [--pairs N] [--key value ...]``"""
    parser = Parser(
        "seralign import-config",
        usage="seralign import-config FILE [options] [--key value ...]",
        description="Turn a configuration of TRL (DPO, CPO, ORPO, KTO), axolotl or LLaMA-Factory into one that "
        "seralign train reads, with comments. Standard error says which keys were left out and why, and which have "
        "another meaning (docs/importing.md).",
        epilog="Every key of seralign is a flag that sets it in place of the file, such as --policy.model MODEL.",
    )
    parser.add_argument("file", metavar="FILE", help="the YAML file of the other tool")
    parser.add_argument("--from", dest="tool", choices=list(TOOLS), help="the tool (default: recognised by its keys)")
    parser.add_argument(
        "--out", type=Path, metavar="FILE.yaml", help="the file to write (default: print to standard output)"
    )
    parser.add_argument("--devices", type=int, default=1, metavar="N", help="processes that the tool was started with")
    parser.add_argument(
        "--pairs",
        type=int,
        metavar="N",
        help="number of training pairs, to convert steps and epochs to each other",
    )
    given, rest = parser.parse_known_args(arguments)
    flags, unknown = read_flags(rest)
    if unknown:
        raise ConfigError(unknown_argument(unknown[0], parser))
    for name in ("devices", "pairs"):
        value = getattr(given, name)
        if value is not None and value < 1:
            raise ConfigError(f"--{name} must be at least 1, got {value}")
    if given.out is not None and given.out.exists():
        raise StoreError(f"{given.out} already exists; delete it, or give another name (--out)")
    imported = import_config(given.file, given.tool, Options(given.devices, given.pairs), dict(flags))
    text = to_text(imported, Path(given.file).name)
    for line in report(imported):
        print(line, file=sys.stderr)
    if given.out is None:
        print(text, end="")
    else:
        with disk_errors(given.out.parent):
            write_atomic(given.out, lambda part: part.write_text(text, encoding="utf-8"))
