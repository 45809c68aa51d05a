"""`lightning-sae capture`, `verify` and `precision`: the activation store without a training."""

from pathlib import Path
from typing import Annotated

import typer

from lightning_sae.errors import one_line_errors
from lightning_sae.home import home, make_importable
from lightning_sae.program.arguments import ConfigDir, Device, Settings


def capture(
    settings: Settings = None,
    engine: Annotated[
        str, typer.Option(metavar="NAME", help="who does it: in_process, devices, slurm or ray")
    ] = "in_process",
    config_dir: ConfigDir = None,
    device: Device = "auto",
) -> None:
    """Fill the activation store without a training.

    A killed capture goes on where it stopped.
    """
    with one_line_errors(RuntimeError):
        from lightning_sae.data import commands

        make_importable(home(), Path.cwd())
        here = commands.capturing_device(engine, device)
        commands.capture(commands.composed([f"+engine={engine}", *(settings or ())], config_dir), here)


def precision(settings: Settings = None, config_dir: ConfigDir = None, device: Device = "auto") -> None:
    """Measure what bf16 weights of CLIP and data.decode=fast change and gain.

    Compares the activations of a batch, and the time that it takes here.
    """
    with one_line_errors(RuntimeError):
        from lightning_sae.data import commands
        from lightning_sae.devices.device import use_device

        make_importable(home(), Path.cwd())
        commands.precision(commands.composed(settings or (), config_dir), use_device(device))


def verify(
    store: Annotated[
        str,
        typer.Argument(metavar="STORE", help="the root of all stores, one store, or one of its sub-folders"),
    ],
) -> None:
    """Check every shard of a store against its checksum.

    Sets damaged ones aside for the next capture; the exit status says whether anything is damaged.
    """
    with one_line_errors(RuntimeError):
        from lightning_sae.data.store.verify import verify_store
        from lightning_sae.trust.control_characters import visible

        if faults := verify_store(store):
            lines = [visible(str(fault)) for fault in faults]
            raise SystemExit("\n".join([*lines, "The next capture makes these anew, and no others."]))
        print(visible(f"{store}: every shard is as it was written"))
