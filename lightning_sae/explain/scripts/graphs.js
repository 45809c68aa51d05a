// Each graph into its section.

data.graphs.forEach((graph, i) => {
  document.getElementById(`graph-${i}`).replaceChildren(graphView(graph), graphPaths(graph));
});
document.body.dataset.ready = "true";
