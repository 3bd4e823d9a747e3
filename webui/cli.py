"""The command ``lookalike``: a lazy root over the commands of the rooms."""

from __future__ import annotations

import importlib
import json
import os
import sys
from typing import Any, Final

import click

from retrieval.errors import LookalikeError

COMMANDS: Final[dict[str, tuple[str, str]]] = {
    "demo": ("webui.demo:demo", "Draw or take photos, index them and open the page."),
    "index": ("indexer.cli:index", "Add images to a catalogue."),
    "search": ("indexer.cli:search", "Find the lookalikes of pictures."),
    "train": ("indexer.training_cli:train", "Train an embedder on labelled images."),
    "advise": ("indexer.training_cli:advise", "Say whether training is likely to pay."),
    "evaluate": ("indexer.evaluation_cli:evaluate", "Measure Recall@K and more, of a catalogue or by a benchmark."),
    "compare": ("indexer.evaluation_cli:compare", "Compare evaluations query by query."),
    "label": ("indexer.labelling_cli:label", "Say what pictures are, and how sure that is."),
    "calibrate": ("indexer.labelling_cli:calibrate", "Fit how sure labels are on held-out pictures."),
    "audit": ("indexer.auditing_cli:audit", "List the items whose label is probably wrong."),
    "duplicates": ("indexer.duplicates_cli:duplicates", "Find copies, edited ones too, and be rid of them."),
    "info": ("indexer.cli:info", "Say what a catalogue holds."),
    "verify": ("indexer.cli:verify", "Check that a catalogue is as it was written."),
    "rejected": ("indexer.cli:rejected", "List the inputs that are no items, with the reasons."),
    "serve": ("webui.serve:serve", "Open a catalogue as a web page and JSON API."),
    "runtimes": ("indexer.tuning:runtimes", "Try what can run the network here, and remember the fastest."),
    "doctor": ("webui.doctor:doctor", "Say what is installed and usable, and what is missing."),
}
"""Name → where the command is, and its help in one line; importing this costs click and nothing else."""


class LazyGroup(click.Group):
    """A group whose commands are imported when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Name the commands in the order of ``COMMANDS``."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command."""
        if cmd_name not in COMMANDS:
            return None
        module, name = COMMANDS[cmd_name][0].split(":")
        command: click.Command = getattr(importlib.import_module(module), name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, help) for name, (_, help) in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="lookalike", prog_name="lookalike")
def root() -> None:
    """Find lookalikes, and tell them apart: fine-grained visual search.

    Every command takes --json and then prints one JSON object on standard output; progress goes to standard error.
    """


def main(arguments: list[str] | None = None) -> None:
    """Run the command; errors are one sentence on standard error and an exit code of their class."""
    given = sys.argv[1:] if arguments is None else arguments
    # A worker thread of FAISS or torch that spins while another process has its core slows both many times over. In
    # training, thousands of short parallel parts follow each other, and a thread that sleeps between them costs a
    # quarter of the speed: there it spins, but for some tens of microseconds only.
    settings = {"GOMP_SPINCOUNT": "20000"} if given[:1] == ["train"] else {"OMP_WAIT_POLICY": "PASSIVE"}
    for name, value in settings.items():
        os.environ.setdefault(name, value)
    wants_json = "--json" in given
    try:
        code = root.main(args=given, prog_name="lookalike", standalone_mode=False)
    except LookalikeError as error:
        _complain(type(error).__name__, str(error), wants_json=wants_json)
        sys.exit(error.exit_code)
    except click.ClickException as error:
        if wants_json:
            _print_json({"error": {"kind": "UsageError", "message": error.format_message()}})
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt) as error:
        usual = "interrupted; what was finished is kept, and the same command goes on from there"
        _complain("Interrupted", str(error.__cause__ or error) or usual, wants_json=wants_json)
        sys.exit(130)
    except (UnicodeEncodeError, OSError) as error:
        if isinstance(error, BrokenPipeError):
            # The reader of our output has gone (a pager, head): nothing to say, and nobody to say it to.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(141)
        _complain(type(error).__name__, _system_error(error), wants_json=wants_json)
        sys.exit(1)
    sys.exit(code if isinstance(code, int) else 0)


def _complain(kind: str, message: str, *, wants_json: bool) -> None:
    if wants_json:
        _print_json({"error": {"kind": kind, "message": message}})
    click.echo(f"lookalike: {message}", err=True)


def _system_error(error: UnicodeEncodeError | OSError) -> str:
    if isinstance(error, UnicodeEncodeError):
        return f"the name {os.fsencode(str(error.object))!r} is not valid UTF-8; rename it first"
    where = f"{str(error.filename)[:200]}: " if error.filename else ""
    return f"{where}{error.strerror or error}"


def _print_json(value: dict[str, Any]) -> None:
    click.echo(json.dumps(value, ensure_ascii=False))


if __name__ == "__main__":
    main()
