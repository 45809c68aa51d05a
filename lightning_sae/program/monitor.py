"""`lightning-sae monitor fit`, `watch` and `merge`."""

from pathlib import Path
from typing import Annotated

import typer

from lightning_sae.files import user_path
from lightning_sae.program.arguments import Device, Moved, Run, Trust
from lightning_sae.program.opening import open_named

ALARM = 3  # exit status where an alarm stands; 1 is an error, 2 a wrong argument

Folder = Annotated[Path, typer.Argument(metavar="DIR", parser=user_path, help="folder of a monitor")]
Out = Annotated[Path, typer.Option(metavar="DIR", parser=user_path, help="folder of the new monitor")]


def fit(
    run: Run,
    out: Out,
    moved: Moved = None,
    images: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER|LIST",
            parser=user_path,
            help="images that nothing is wrong with, as it will see them (those of val)",
        ),
    ] = None,
    classifier: Annotated[
        str | None,
        typer.Option(
            metavar="prompts|probe|DIR",
            help="the classifier in use (the audited one; without an audit, prompts)",
        ),
    ] = None,
    prompts: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="JSON or YAML, {class: \\[prompt, ...]}, of any classes"),
    ] = None,
    alpha: Annotated[
        float, typer.Option(metavar="X", help="chance of any alarm, ever, where nothing has changed")
    ] = 0.05,
    attribute_every: Annotated[
        int | None,
        typer.Option(
            metavar="N", min=1, help="attribute each N-th image (all behind the last layer, else each 20th)"
        ),
    ] = None,
    device: Device = "auto",
    trust: Trust = None,
) -> None:
    """Note what is usual: how often each latent fires, how much it drives predictions, what is unexplained.

    RUN is the folder of a finished run; with an audit.json its culprits are watched as well.
    """
    from rich.console import Console

    from lightning_sae.audit.evidence.evidence_pass import ready
    from lightning_sae.monitoring.fit import check_new, fit_monitor, fit_reference
    from lightning_sae.monitoring.stream import NamedFiles, listed_files
    from lightning_sae.monitoring.terminal import print_reference
    from lightning_sae.runs.classifier import check_choice, chosen_classifier

    check_new(out)
    if classifier or prompts:
        check_choice(classifier or "prompts", prompts)
    files = None if images is None else listed_files(images)
    opened = open_named(run, moved, device, trust)
    chosen = None
    if classifier or prompts:
        ready(opened)
        chosen = chosen_classifier(opened, classifier or "prompts", prompts)
    shown = None if files is None else NamedFiles(files, opened.data.background, str(images))
    reference = fit_reference(opened, shown, chosen, alpha, attribute_every)
    fit_monitor(reference, out)
    print_reference(Console(), reference, out)


def watch(
    folder: Folder,
    images: Annotated[
        str,
        typer.Option(
            metavar="FOLDER|LIST|-", help="images, a text file with a path a line, or paths from stdin"
        ),
    ],
    moved: Moved = None,
    run: Annotated[
        Path | None, typer.Option(metavar="RUN", parser=user_path, help="where its run lies now")
    ] = None,
    thumbnails: Annotated[
        bool,
        typer.Option("--thumbnails", help="keep small pictures of the latest images; else numbers alone"),
    ] = False,
    device: Device = "auto",
    trust: Trust = None,
) -> None:
    """Watch images: is what the classifier relies on still what it was?

    Writes `monitor.json`, `monitor.html`, `metrics.prom` and its state; exit status 3 where an alarm stands.
    """
    from functools import partial

    from rich.console import Console

    from lightning_sae.monitoring.monitor import Monitor
    from lightning_sae.monitoring.output import write_all
    from lightning_sae.monitoring.reference import load_reference
    from lightning_sae.monitoring.terminal import print_record
    from lightning_sae.monitoring.watch import watch as watch_images
    from lightning_sae.trust.control_characters import visible

    place = run or Path(load_reference(folder).facts.run)
    opened = open_named(place, moved, device, trust)
    monitor = Monitor.open(folder, opened, thumbnails)
    write = partial(write_all, monitor.reference, monitor.state, folder, opened)
    source = images if images == "-" else str(user_path(images))
    watch_images(monitor, source, write, lambda text: print(visible(text)), opened.data.background)
    record = monitor.record()
    print_record(Console(), record, folder)
    if record.standing:
        raise typer.Exit(ALARM)


def merge(
    folders: Annotated[
        list[Path], typer.Argument(metavar="DIR...", parser=user_path, help="folders of single machines")
    ],
    out: Out,
) -> None:
    """Put together what several machines have watched, none of them the same image.

    Their monitors begin as copies of one `monitor fit`. Exit status 3 where an alarm stands.
    """
    from rich.console import Console

    from lightning_sae.monitoring.fit import check_new, fit_monitor
    from lightning_sae.monitoring.output import write_all
    from lightning_sae.monitoring.reference import load_reference
    from lightning_sae.monitoring.state import load_state, merge_states
    from lightning_sae.monitoring.terminal import print_record

    check_new(out)
    merged = merge_states([load_state(folder) for folder in folders])
    reference = load_reference(folders[0])
    fit_monitor(reference, out)
    record = write_all(reference, merged, out)
    print_record(Console(), record, out)
    if record.standing:
        raise typer.Exit(ALARM)
