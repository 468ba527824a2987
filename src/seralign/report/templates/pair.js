"use strict";
// The pair that is looked at, and what the list shows of a pair: figures, a line of its margins, coloured tokens.

const originName = (origin) => (origin === "offline" ? "offline" : origin.replace("generated:", "round "));
const reasonName = (reason) => (reason === "kept" ? "trained on" : plain(reason));

// The margins of a pair, round by round, as a small line above or below zero.
function line(pairs, row) {
  const values = pairs.header.rounds.map((round) => pairs.columns[`margin_${round}`][row]);
  const known = values.filter((value) => !Number.isNaN(value));
  if (!known.length) return "–";
  const low = Math.min(0, ...known);
  const high = Math.max(0, ...known);
  const x = (place) => (values.length === 1 ? 34 : 3 + (62 * place) / (values.length - 1));
  const y = (value) => 17 - (14 * (value - low)) / (high - low || 1);
  const draw = (name, attributes) => {
    const made = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    return made;
  };
  const svg = draw("svg", {
    viewBox: "0 0 68 20",
    role: "img",
    "aria-label": `margins ${values.map((value) => figure(value)).join(", ")}`,
  });
  svg.append(
    draw("path", { d: `M0 ${y(0)}h68`, stroke: "var(--axis)", "stroke-width": 0.75, "stroke-dasharray": "2 2" }),
  );
  const points = values.flatMap((value, place) => (Number.isNaN(value) ? [] : [[x(place), y(value)]]));
  svg.append(draw("polyline", { points: points.join(" "), fill: "none", stroke: "currentColor", "stroke-width": 1.5 }));
  for (const [cx, cy] of points) svg.append(draw("circle", { cx, cy, r: 1.8, fill: "currentColor" }));
  return svg;
}

// Seven steps from much less to much more likely than under the reference.
function step(ratio) {
  const size = Math.abs(ratio);
  if (size < 0.25) return "";
  return (ratio > 0 ? "u" : "d") + (size < 0.75 ? 1 : size < 2 ? 2 : 3);
}

async function side(pairs, row, name) {
  const { columns } = pairs;
  const tokens = await pairs.tokens(row, name);
  const text = tokens ? tokens.text : pairs.string(columns[name][row]);
  const body = element("bdi", { class: "text", dir: "auto" });
  const figures = [`${columns[`${name}_length`][row]} tokens`];
  if (tokens) {
    let from = 0;
    let sum = 0;
    tokens.lengths.forEach((length, place) => {
      const ratio = tokens.ratios[place];
      const token = element("span", { class: `t ${step(ratio)}`, title: `${signed(ratio)} nats` });
      appendText(token, text.slice(from, from + length));
      token.append(element("sub", {}, signed(ratio, 1)));
      body.append(token);
      from += length;
      sum += ratio;
    });
    figures.push(`log-ratio ${signed(sum, 1)} nats in all`);
  } else {
    appendText(body, text);
    if (!text) body.append(element("span", { class: "lost" }, "(empty)"));
  }
  body.append(...lost(columns[`lost_${name}`][row]));
  const heading = element(
    "h4",
    {},
    name === "chosen" ? "Chosen " : "Rejected ",
    element("span", { class: "figures" }, `· ${figures.join(" · ")}`),
  );
  return element("div", { class: `side ${name}` }, heading, body);
}

function scale(pairs, row, holder) {
  const made = element("div", { class: "scale" });
  const round = pairs.columns.tokens_round[row];
  made.append(element("span", {}, `Log-ratio of each token, policy of round ${round} to reference:`));
  for (const [ratio, name] of [
    [-3, "below −2"],
    [-1, "−2 to −0.75"],
    [-0.5, "−0.75 to −0.25"],
    [0, "near 0"],
    [0.5, "0.25 to 0.75"],
    [1, "0.75 to 2"],
    [3, "above 2"],
  ]) {
    made.append(element("span", { class: `t ${step(ratio)}` }, name));
  }
  const box = element("input", { type: "checkbox", id: "with-figures" });
  box.checked = holder.classList.contains("with-figures");
  box.addEventListener("change", () => holder.classList.toggle("with-figures", box.checked));
  made.append(element("label", {}, box, " figures at the tokens"));
  return made;
}

function byRound(pairs, row) {
  const cells = (name, values) =>
    element("tr", {}, element("th", { scope: "row" }, name), ...values.map((value) => element("td", {}, value)));
  const { rounds } = pairs.header;
  const seen = rounds.filter((round) => !Number.isNaN(pairs.columns[`margin_${round}`][row]));
  const trained = pairs.ofRound(1).at[row] === 1 ? "Round 1 trained on it, as on all offline pairs. " : "";
  if (!seen.length) return [element("p", { class: "note" }, `${trained}No round has scored this pair.`)];
  const headings = element(
    "tr",
    {},
    element("td", {}),
    ...seen.map((round) => element("th", { scope: "col" }, `round ${round}`)),
  );
  return [
    element(
      "div",
      { class: "scroll", tabindex: "0", role: "region", "aria-label": "Margins by round" },
      element(
        "table",
        { class: "by-round" },
        element("thead", {}, headings),
        element(
          "tbody",
          {},
          cells(
            "margin (nats)",
            seen.map((round) => figure(pairs.columns[`margin_${round}`][row])),
          ),
          cells(
            "selection",
            seen.map((round) => reasonName(pairs.reason(row, round) ?? "–")),
          ),
        ),
      ),
    ),
  ];
}

// What the run brought from the source along with a pair.
function carriedList(pairs, row) {
  const list = element("dl", { class: "carried" });
  for (const { name, column } of pairs.header.carried) {
    const value = element("bdi", { dir: "auto" });
    appendText(value, pairs.carried(row, column) ?? "–");
    value.append(...lost(pairs.columns[`lost_${column}`][row]));
    list.append(element("div", {}, element("dt", {}, plain(name)), element("dd", {}, value)));
  }
  return list.children.length ? [list] : [];
}

let latest = 0;

// Leaves the place of a pair empty, also of one that is still being made.
function hidePair(holder) {
  latest++;
  holder.hidden = true;
  holder.replaceChildren();
}

// Shows a pair in its place; the last one asked for wins, whichever is ready first. Resolves to whether it is this one.
async function showPair(pairs, row, holder) {
  const turn = ++latest;
  const { columns, header } = pairs;
  const sides = [await side(pairs, row, "chosen"), await side(pairs, row, "rejected")];
  if (turn !== latest) return false;
  const prompt = element("bdi", { class: "text", dir: "auto" });
  appendText(prompt, pairs.string(columns.prompt[row]));
  prompt.append(...lost(columns.lost_prompt[row]));
  const origin = header.origins[columns.origin[row]];
  const facts = [
    origin === "offline" ? "offline" : `generated in ${originName(origin)}`,
    `label p ${figure(columns.p[row])}`,
    `disagreement ${figure(columns.disagreement[row])}, last round`,
  ];
  holder.replaceChildren(
    element(
      "header",
      {},
      element("h3", { id: "pair-title" }, plain(pairs.string(columns.id[row]))),
      ...facts.map((fact) => element("span", {}, fact)),
    ),
    ...carriedList(pairs, row),
    ...byRound(pairs, row),
    element("div", { class: "prompt" }, element("h4", {}, "Prompt"), prompt),
    ...(columns.tokens_round[row] ? [scale(pairs, row, holder)] : []),
    element("div", { class: "sides" }, ...sides),
  );
  for (const wide of holder.querySelectorAll(".scroll")) watchWidth(wide);
  holder.hidden = false;
  return true;
}
