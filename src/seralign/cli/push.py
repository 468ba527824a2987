"""``seralign push``: upload the policy of a run to the Hugging Face hub."""

from __future__ import annotations

import tempfile
from pathlib import Path

from seralign.checks import require
from seralign.cli.console import tell
from seralign.cli.merge import tell_merge
from seralign.cli.policies import add_which, which_policy
from seralign.config.flags import Parser
from seralign.errors import ConfigError
from seralign.runs import read_run


def main(arguments: list[str]) -> None:
    """``RUN --repo OWNER/NAME [--round N | --start] [--merged] [--private] [--dry-run] [--out FOLDER]``"""
    parser = Parser(
        "seralign push",
        description="Upload the result of a run to the Hugging Face hub, with tokenizer, chat template and model card. "
        "The token is taken from the environment (HF_TOKEN) or from `hf auth login`.",
    )
    parser.add_argument("run", metavar="RUN", help="the folder of the run")
    parser.add_argument(
        "--repo", required=True, metavar="OWNER/NAME", help="the repository; created if it does not exist"
    )
    add_which(parser)
    parser.add_argument("--merged", action="store_true", help="merge the adapter into its base model first")
    parser.add_argument("--private", action="store_true", help="create a private repository")
    parser.add_argument(
        "--base_model",
        metavar="OWNER/NAME",
        help="the name on the hub of the base model, if the run used a local folder",
    )
    parser.add_argument("--dry-run", action="store_true", help="upload nothing; list what would be uploaded")
    parser.add_argument(
        "--out", type=Path, metavar="FOLDER", help="with --dry-run: write what would be uploaded to this folder"
    )
    given = parser.parse_args(arguments)

    from seralign.pipeline.publishing import REPO, publishable, upload
    from seralign.policy.saved import run_policy

    for flag, name in (("--repo", given.repo), ("--base_model", given.base_model)):
        require(name is None or REPO.fullmatch(name) is not None, flag, "of the form OWNER/NAME", name)
    if given.out is not None and not given.dry_run:
        raise ConfigError("--out needs --dry-run")
    policy = run_policy(read_run(given.run), which_policy(given))
    with tempfile.TemporaryDirectory() as scratch:
        folder = given.out or Path(scratch) / "model"
        merged = publishable(policy, folder, merged=given.merged, base_model=given.base_model)
        if merged is not None:
            tell_merge(merged, policy.name)
        for file in sorted(path for path in folder.rglob("*") if path.is_file()):
            tell(f"  {file.relative_to(folder)}  {file.stat().st_size:,} bytes")
        if given.dry_run:
            tell(f"{policy.name}: nothing was uploaded; these files would go to {given.repo}")
        else:
            tell(upload(folder, given.repo, private=given.private, message=f"{policy.name.split(' of ')[0]}, seralign"))
