"""The program `lightning-sae`: its commands, and how all of them end."""

import sys
from collections.abc import Callable, Sequence
from typing import Annotated, Any, NamedTuple

import typer
from typer.core import TyperGroup

from lightning_sae import __version__
from lightning_sae.errors import one_line_errors, sigterm_raises
from lightning_sae.program.audit import audit
from lightning_sae.program.compare import compare
from lightning_sae.program.convert import convert
from lightning_sae.program.correct import correct
from lightning_sae.program.explain import explain
from lightning_sae.program.fit_probe import fit_probe
from lightning_sae.program.monitor import fit, merge, watch
from lightning_sae.program.name import name
from lightning_sae.program.report import explore, report
from lightning_sae.program.store import capture, precision, verify
from lightning_sae.program.train import train

NAME = "lightning-sae"


class Command(NamedTuple):
    """A command of the program.

    Attributes:
        run: function of the command, whose parameters are the command's arguments.
        example: example of a call, without the program's name.
        panel: panel of the help that lists the command.
    """

    run: Callable[..., None]
    example: str
    panel: str = ""


ACTIVATIONS, RUNS, CLASSIFIERS, OTHERS = "Activations", "Finished runs", "Classifiers", "Other libraries"
COMMANDS = {
    "capture": Command(capture, "capture data=image_folder data.root=DIR clip=open_clip", ACTIVATIONS),
    "verify": Command(verify, "verify ~/.cache/lightning_sae", ACTIVATIONS),
    "precision": Command(precision, "precision clip=open_clip data.decode=fast", ACTIVATIONS),
    "report": Command(report, "report RUN", RUNS),
    "explore": Command(explore, "explore RUN", RUNS),
    "explain": Command(explain, 'explain RUN --image FILE --prompt "a photo of a star"', RUNS),
    "name": Command(name, "name RUN --words english", RUNS),
    "compare": Command(compare, "compare multirun/DATE/TIME --sort val/fvu", RUNS),
    "fit-probe": Command(fit_probe, "fit-probe RUN --out DIR", CLASSIFIERS),
    "audit": Command(audit, "audit RUN --fail-on high", CLASSIFIERS),
    "correct": Command(correct, "correct RUN --finding 1 --out DIR", CLASSIFIERS),
}
TRAIN = Command(train, "train sae.k=32 hydra.run.dir=DIR", "Training")
MONITOR = {
    "fit": Command(fit, "monitor fit RUN --out DIR"),
    "watch": Command(watch, "monitor watch DIR --images FOLDER"),
    "merge": Command(merge, "monitor merge DIR DIR --out DIR"),
}
CONVERT = Command(convert, "sae convert RUN/sae DIR --to saelens")


class OneEnd(TyperGroup):
    """A group of commands that all end in one way.

    An error that the user can mend ends in one message, Ctrl-C ends with status 130, and SIGTERM with 143;
    HYDRA_FULL_ERROR=1 shows where the error came from.
    """

    def invoke(self, ctx: Any) -> Any:
        """Run the command that was named."""
        with one_line_errors(ModuleNotFoundError), sigterm_raises():
            return super().invoke(ctx)


def _shown(*examples: str) -> str:
    title = "Example" if len(examples) == 1 else "Examples"
    return "\n".join([f"[bold]{title}[/bold]", *(f"  {NAME} {example}" for example in examples)])


def _group(help_text: str) -> typer.Typer:
    options = {"help_option_names": ["--help", "-h"]}
    return typer.Typer(cls=OneEnd, help=help_text, no_args_is_help=True, context_settings=options)


def _add(group: typer.Typer, called: str, command: Command, **how: Any) -> None:
    group.command(called, rich_help_panel=command.panel or None, epilog=_shown(command.example), **how)(
        command.run
    )


def _say_version(wanted: bool) -> None:
    if wanted:
        print(f"{NAME} {__version__}")
        raise typer.Exit


app = _group("Sparse autoencoders on CLIP: what each latent means, and how it drives the score.")
app.pretty_exceptions_enable = False


@app.callback(
    epilog=_shown(TRAIN.example, *(c.example for c in [*COMMANDS.values(), *MONITOR.values(), CONVERT]))
)
def program(
    version: Annotated[
        bool,
        typer.Option("--version", is_eager=True, callback=_say_version, help="Show the version and exit."),
    ] = False,
) -> None:
    """Take what stands before a command."""


_add(
    app,
    "train",
    TRAIN,
    add_help_option=False,  # Hydra's lists what can be set
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
)
for _name, _command in COMMANDS.items():
    _add(app, _name, _command)

monitor = _group("Watch a deployed classifier: is what it relies on still what it was?")
for _name, _command in MONITOR.items():
    _add(monitor, _name, _command)
app.add_typer(monitor, name="monitor", rich_help_panel=CLASSIFIERS)

sae = _group("Read and write autoencoders of other libraries.")
sae.callback()(lambda: None)  # `sae convert` stays two words where there is one command
_add(sae, "convert", CONVERT)
app.add_typer(sae, name="sae", rich_help_panel=OTHERS)

store = _group("The activation store without a training.")
for _name in ("capture", "verify", "precision"):
    _add(store, _name, COMMANDS[_name])
app.add_typer(store, name="data", hidden=True)  # for `python -m lightning_sae.data`


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the program.

    Args:
        arguments: words of the command; `None` takes those of the command line.

    Raises:
        SystemExit: the exit status is not 0.
    """
    try:
        app(sys.argv[1:] if arguments is None else [*arguments], prog_name=NAME)
    except SystemExit as stop:
        if stop.code:
            raise


def command(name: str) -> Callable[..., None]:
    """Return one command as a `main` of its own, for `python -m`."""

    def main_of_it(arguments: Sequence[str] | None = None) -> None:
        main([name, *(sys.argv[1:] if arguments is None else arguments)])

    return main_of_it
