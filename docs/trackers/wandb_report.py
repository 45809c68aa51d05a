"""A W&B report on a sweep: parallel coordinates of its settings against what came of them.

pip install wandb-workspaces
python docs/trackers/wandb_report.py ENTITY PROJECT
"""

import sys

import wandb_workspaces.reports.v2 as wr

SETTINGS = ("sae.d_sae", "sae.k", "module.lr")
LOGARITHMIC = ("module.lr",)
FOUND = ("val/fvu.last", "alignment/named.last")


def report(entity: str, project: str) -> wr.Report:
    """Return the report, which is not saved yet."""
    settings = [
        wr.ParallelCoordinatesPlotColumn(metric=wr.Config(key), log=key in LOGARITHMIC) for key in SETTINGS
    ]
    found = [wr.ParallelCoordinatesPlotColumn(metric=wr.SummaryMetric(key)) for key in FOUND]
    panels = [
        wr.ParallelCoordinatesPlot(title="Settings against what came of them", columns=[*settings, *found]),
        wr.ScatterPlot(
            title="Reconstruction against meaning",
            x=wr.SummaryMetric("val/fvu.last"),
            y=wr.SummaryMetric("alignment/named.last"),
        ),
    ]
    runs = wr.Runset(entity=entity, project=project)
    grid = wr.PanelGrid(runsets=[runs], panels=panels)
    return wr.Report(project=project, entity=entity, title="A sweep of autoencoders", blocks=[grid])


if __name__ == "__main__":
    made = report(*sys.argv[1:])
    made.save(draft=True)
    print(made.url)
