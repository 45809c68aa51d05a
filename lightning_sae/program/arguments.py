"""Arguments that several commands take."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from lightning_sae.files import user_path

Output = Annotated[
    Literal["cosine", "logit", "margin", "probability"],
    typer.Option(metavar="SCORE", help="the score: cosine, logit, margin or probability"),
]

Run = Annotated[Path, typer.Argument(metavar="RUN", parser=user_path, help="folder of a finished run")]
Moved = Annotated[
    list[str] | None,
    typer.Argument(metavar="KEY=VALUE", help="what has moved since: data.store_dir=DIR data.root=DIR"),
]
Settings = Annotated[
    list[str] | None,
    typer.Argument(metavar="KEY=VALUE", help="as for train: data=image_folder data.root=DIR hook_point=..."),
]
Device = Annotated[
    str,
    typer.Option(
        metavar="DEVICE",
        help="where models run: auto, cpu or cuda:N; auto is the GPU where there is one, else the CPU",
    ),
]
Trust = Annotated[
    list[str] | None,
    typer.Option(
        metavar="PACKAGE",
        help="your own package, or PACKAGE.NAME, that the run's configuration may name; again for others",
    ),
]
ConfigDir = Annotated[
    Path | None, typer.Option(metavar="DIR", parser=user_path, help="folder of YAML of your own")
]
