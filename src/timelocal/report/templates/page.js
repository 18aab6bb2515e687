"use strict";
{
  const charts = [...document.querySelectorAll(".chart")];
  const touch = matchMedia("(pointer: coarse)").matches;

  // The colours are the stylesheet's.
  const theme = (chart) => {
    const style = getComputedStyle(chart);
    const colour = (name) => style.getPropertyValue(name).trim();
    return {
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      modebar: { bgcolor: "rgba(0,0,0,0)", color: colour("--muted"), activecolor: colour("--ink") },
      font: { family: colour("--sans"), size: 13, color: colour("--ink") },
      axis: { gridcolor: colour("--line"), linecolor: colour("--muted"), automargin: true },
    };
  };
  const layoutOf = (chart, spec) => {
    const { axis, ...rest } = theme(chart);
    const axes = Object.entries(spec.layout)
      .filter(([name]) => /^[xy]axis/.test(name))
      .map(([name, own]) => [name, { ...own, ...axis }]);
    return {
      ...spec.layout,
      ...rest,
      ...Object.fromEntries(axes),
      dragmode: touch ? false : "zoom", // a finger on a chart scrolls the page
    };
  };

  const draw = (chart) => {
    if (chart.dataset.drawn) return;
    chart.dataset.drawn = "yes";
    const spec = JSON.parse(chart.nextElementSibling.textContent);
    const options = {
      responsive: true,
      displaylogo: false,
      displayModeBar: matchMedia("(hover: hover)").matches ? "hover" : false, // else it would always cover the data
      modeBarButtons: [["toImage"]],
    };
    Plotly.newPlot(chart, spec.data, layoutOf(chart, spec), options);
    // A point leads to the runs behind it, where the page has them.
    chart.on("plotly_click", ({ points: [{ data }] }) => {
      if (document.getElementById(data.meta)) location.hash = data.meta;
    });
  };

  // What is folded has no size yet: it is drawn when it is opened.
  for (const chart of charts) {
    const fold = chart.closest("details");
    if (fold && !fold.open) fold.addEventListener("toggle", () => draw(chart));
    else draw(chart);
  }

  for (const button of document.querySelectorAll(".legend button")) {
    button.addEventListener("click", () => {
      const shown = button.getAttribute("aria-pressed") === "false";
      button.setAttribute("aria-pressed", String(shown));
      const key = button.dataset.key;
      for (const chart of button.closest("section, .panel").querySelectorAll(".chart")) {
        const named = ({ meta, legendgroup }) => meta === key || legendgroup === key;
        const traces = chart.data.flatMap((trace, index) => (named(trace) ? [index] : []));
        if (traces.length) Plotly.restyle(chart, { visible: shown }, traces);
        const drawn = (item) => (item.name === key ? { ...item, visible: shown } : item);
        const { shapes = [], annotations = [] } = chart.layout;
        Plotly.relayout(chart, { shapes: shapes.map(drawn), annotations: annotations.map(drawn) });
      }
    });
  }
}
