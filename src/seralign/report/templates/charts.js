"use strict";
// Draws the charts with Vega, each when it comes near the screen. Colours are CSS variables: a theme redraws nothing.

(() => {
  const font = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', 'Liberation Sans', sans-serif";
  const look = {
    background: null,
    font,
    padding: { left: 0, right: 4, top: 4, bottom: 0 },
    view: { stroke: null },
    axis: {
      domain: false,
      ticks: false,
      labelPadding: 6,
      labelFontSize: 11,
      titleFontSize: 11,
      titleFontWeight: 400,
      labelColor: "var(--muted)",
      titleColor: "var(--muted)",
      gridColor: "var(--grid)",
      titlePadding: 8,
      tickCount: 5,
      labelFontWeight: 400,
    },
    axisX: { grid: false, domain: true, domainColor: "var(--axis)" },
    axisXQuantitative: { labelOverlap: "greedy", labelSeparation: 8 },
    axisXDiscrete: { labelFlush: false, labelAngle: 0 },
    text: { fontSize: 11, fill: "var(--ink)" },
    bar: { cornerRadiusEnd: 1 },
  };
  const specs = JSON.parse(document.getElementById("chart-specs").textContent);
  const tip = element("div", { class: "tip", hidden: "", "aria-hidden": "true" });
  document.body.append(tip);

  function tooltip(_, event, __, value) {
    tip.hidden = value === null || value === undefined || value === "";
    if (tip.hidden) return;
    tip.replaceChildren(
      ...Object.entries(value).map(([name, said]) =>
        element("div", {}, element("span", {}, name), element("span", {}, String(said))),
      ),
    );
    const { clientWidth: width, clientHeight: height } = document.documentElement;
    tip.style.left = `${Math.max(4, Math.min(event.clientX + 14, width - tip.offsetWidth - 8))}px`;
    tip.style.top = `${Math.max(4, Math.min(event.clientY + 14, height - tip.offsetHeight - 8))}px`;
  }

  const waiting = new Set(document.querySelectorAll("[data-chart]"));
  // Room for each chart from the start: what a link points to then stays where the browser has gone.
  for (const holder of waiting) holder.style.minHeight = `${specs[holder.dataset.chart].height}px`;
  function draw(holder) {
    if (!waiting.delete(holder)) return null;
    const compiled = vegaLite.compile({ ...specs[holder.dataset.chart], config: look }).spec;
    const view = new vega.View(vega.parse(compiled, null, { ast: true }), {
      expr: vega.expressionInterpreter,
      renderer: "svg",
      container: holder,
      hover: true,
      tooltip,
    });
    return view.runAsync().then(() => {
      holder.dataset.drawn = "";
      holder.firstElementChild.setAttribute("aria-hidden", "true");
    });
  }

  const near = new IntersectionObserver(
    (entries) => {
      for (const entry of entries) if (entry.isIntersecting) draw(entry.target);
    },
    { rootMargin: "600px" },
  );
  for (const holder of waiting) near.observe(holder);
  // Whoever prints or saves the page finds all of it.
  const idle = window.requestIdleCallback ?? ((work) => setTimeout(work, 60));
  const next = () => {
    for (const holder of waiting) {
      draw(holder);
      idle(next);
      return;
    }
  };
  window.addEventListener("load", () => idle(next));
  window.addEventListener("beforeprint", () => [...waiting].forEach(draw));
})();
