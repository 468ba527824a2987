"use strict";
// The answers of all policies to one prompt, from the block that answers.py packs.

(() => {
  const at = (id) => document.getElementById(id);
  if (!at("a-shown")) return;
  const ORDERS = { run: "order in the run", up: "largest gain in score", down: "largest fall in score" };
  const LONGEST_NAME = 90;

  const runs = new Map();
  let shown = null; // the run: header, prompts, answers
  let rows = []; // the prompts that the search lets through, in order
  let active = -1; // which of them is shown

  async function load(run) {
    const header = JSON.parse(at(`answers-${run}`).textContent);
    const content = JSON.parse(new TextDecoder().decode(await inflate(`answers-block-${run}`)));
    const lower = content.answers.map((answers, row) =>
      [content.prompts[row], ...answers.filter(Boolean)].map(([text]) => text.toLowerCase()),
    );
    return { header, ...content, lower };
  }

  // How much higher the result's score is than the starting policy's; of a run without a result, the last policy's.
  function gain(row) {
    const answers = shown.answers[row];
    const last = answers[shown.header.result ?? answers.length - 1];
    return answers[0] && last && last[4] !== null && answers[0][4] !== null ? last[4] - answers[0][4] : NaN;
  }

  function update() {
    const query = at("a-search").value.toLowerCase();
    rows = shown.prompts.map((_, row) => row).filter((row) => shown.lower[row].some((text) => text.includes(query)));
    const order = at("a-order").value;
    if (order !== "run") {
      const way = order === "up" ? -1 : 1;
      const key = (row) => (Number.isNaN(gain(row)) ? Infinity : way * gain(row));
      rows.sort((a, b) => key(a) - key(b) || a - b);
    }
    at("a-prompt").replaceChildren(
      ...rows.map((row, place) => {
        const text = question(shown.prompts[row][0], shown.header.template).replace(/\s+/g, " ").trim();
        const name = text.length > LONGEST_NAME ? `${text.slice(0, LONGEST_NAME)} …` : text;
        return element("option", { value: place }, `${row + 1}. ${name}`);
      }),
    );
    at("a-prompt").disabled = !rows.length;
    show(rows.length ? 0 : -1);
  }

  // A verdict on an answer: the probability that it is better than the rival's.
  function sentence([rival, better, orders, text]) {
    const percent = (value) => `${figure(100 * value, 1)}%`;
    const against = plain(shown.header.policies[rival]);
    const said = element("p", { class: "figures" }, `against ${against}: ${better === null ? "no verdict" : percent(better)}`);
    if (orders) said.append(` (shown first ${percent(orders[0])}, second ${percent(orders[1])})`);
    if (!text) return said;
    const why = element("bdi", { class: "text", dir: "auto" });
    appendText(why, text);
    return element("div", { class: "judged" }, said, element("details", {}, element("summary", {}, "The judge’s words"), why));
  }

  function card(name, place, answer, first) {
    const figures = [];
    const judged = [];
    const body = element("bdi", { class: "text", dir: "auto" });
    if (answer) {
      const [text, missing, length, finished, score, verdicts] = answer;
      judged.push(...verdicts.map(sentence));
      if (score !== null) {
        const change = first && place && first[4] !== null ? ` (${signed(score - first[4])})` : "";
        figures.push(element("strong", {}, `score ${figure(score)}${change}`));
      }
      figures.push(`${length.toLocaleString("en")} ${length === 1 ? "token" : "tokens"}`);
      if (!finished) figures.push(element("span", { class: "cut" }, "cut off at the limit"));
      appendText(body, text);
      if (!text) body.append(element("span", { class: "lost" }, "(empty)"));
      body.append(...lost(missing));
    } else body.append(element("span", { class: "lost" }, "This policy was not asked."));
    const isResult = place === shown.header.result;
    const heading = element("h3", {}, plain(name));
    if (isResult) heading.append(element("span", { class: "badge" }, "result"));
    const said = element("p", { class: "figures" });
    figures.forEach((one, index) => said.append(index ? " · " : "", one));
    return element("div", { class: isResult ? "answer result" : "answer" }, heading, said, ...judged, body);
  }

  function show(place) {
    active = place;
    const holder = at("a-shown");
    holder.hidden = place < 0;
    at("a-previous").disabled = place <= 0;
    at("a-next").disabled = place >= rows.length - 1;
    if (place < 0) {
      holder.replaceChildren();
      at("a-count").textContent = "No prompt matches";
      return;
    }
    at("a-prompt").value = String(place);
    at("a-count").textContent = `${(place + 1).toLocaleString("en")} of ${rows.length.toLocaleString("en")} prompts`;
    const row = rows[place];
    const [text, missing] = shown.prompts[row];
    const prompt = element("bdi", { class: "text", dir: "auto" });
    appendText(prompt, text);
    prompt.append(...lost(missing));
    const answers = shown.answers[row];
    holder.replaceChildren(
      element("div", { class: "prompt" }, element("h3", {}, "Prompt"), prompt),
      element(
        "div",
        { class: "cards" },
        ...answers.map((answer, index) => card(shown.header.policies[index], index, answer, answers[0])),
      ),
    );
  }

  let opened = 0;
  async function open(run) {
    const turn = ++opened;
    at("a-count").textContent = "The answers are being unpacked.";
    try {
      if (!runs.has(run)) runs.set(run, await load(run));
    } catch (error) {
      if (turn === opened)
        at("a-count").textContent =
          `The answers cannot be unpacked by this browser (${error.message}). They are in samples.parquet of each evaluation.`;
      return;
    }
    if (turn !== opened) return;
    shown = runs.get(run);
    for (const about of document.querySelectorAll(".about-answers")) about.hidden = Number(about.dataset.run) !== run;
    if (shown.prompts.length) tellTemplate(at("a-start"), shown.prompts[0][0], shown.header.template);
    at("a-order-label").hidden = !shown.header.scored;
    if (!shown.header.scored) at("a-order").value = "run";
    update();
    at("a-shown").dataset.ready = "";
    keepTarget();
  }

  at("a-order").replaceChildren(...Object.entries(ORDERS).map(([key, name]) => element("option", { value: key }, name)));
  at("a-filters").hidden = false;
  let wait = 0;
  at("a-search").addEventListener("input", () => {
    clearTimeout(wait);
    wait = setTimeout(() => shown && update(), 150);
  });
  at("a-order").addEventListener("change", () => shown && update());
  at("a-prompt").addEventListener("change", () => show(Number(at("a-prompt").value)));
  at("a-previous").addEventListener("click", () => show(active - 1));
  at("a-next").addEventListener("click", () => show(active + 1));
  at("a-filters").addEventListener("submit", (event) => event.preventDefault());
  at("a-run")?.addEventListener("change", () => open(Number(at("a-run").value)));
  const first = Number(document.querySelector(".about-answers").dataset.run);
  window.addEventListener("load", () => open(first));
})();
