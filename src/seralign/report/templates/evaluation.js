"use strict";
// The answers of all policies to one prompt with the verdicts on them, from the block that evaluation_page.py packs.

(() => {
  const at = (id) => document.getElementById(id);
  const LONGEST_NAME = 90;
  const ORDERS = { given: "order of the file", best: "clearest wins", worst: "clearest losses", longer: "longer by most" };
  const VERDICTS = {
    all: "all",
    win: "wins",
    loss: "losses",
    tie: "ties",
    split: "orders disagree",
    none: "no verdict",
  };
  const header = JSON.parse(at("e-header").textContent);
  const percent = (value) => `${figure(100 * value, 1)}%`;

  let prompts = []; // [text, missing], outputs, verdicts
  let lower = [];
  let rows = []; // the prompts that the filters let through, in order
  let active = -1;

  // The verdict of the chosen pair on a prompt.
  const pair = () => Number(at("e-pair").value);
  const verdictOf = (row) => prompts[row][2].find(([number]) => number === pair());
  const winner = (value) => Math.sign(Math.round((value - 0.5) * 1e9));

  function isShown(row) {
    const kind = at("e-verdict").value;
    const found = verdictOf(row);
    if (kind === "all") return true;
    if (!found) return false;
    const [, better, orders] = found;
    if (kind === "none") return better === null;
    if (better === null) return false;
    if (kind === "split") return orders !== null && winner(orders[0]) !== winner(orders[1]);
    return winner(better) === { win: 1, loss: -1, tie: 0 }[kind];
  }

  // What rows are ordered by, the largest first; a prompt without it comes last.
  function rank(row, order) {
    const better = verdictOf(row)?.[1] ?? null;
    if (order === "best" || order === "worst") return better === null ? -Infinity : order === "best" ? better : -better;
    const [own, other] = header.pairs[pair()].map((place) => prompts[row][1][place]);
    return own && other ? own[2] - other[2] : -Infinity;
  }

  function update() {
    const query = at("e-search").value.toLowerCase();
    rows = prompts.map((_, row) => row).filter((row) => isShown(row) && lower[row].some((text) => text.includes(query)));
    const order = at("e-order").value;
    if (order !== "given") rows.sort((a, b) => rank(b, order) - rank(a, order) || a - b);
    at("e-prompt").replaceChildren(
      ...rows.map((row, place) => {
        const text = plain(prompts[row][0][0]).replace(/\s+/g, " ").trim();
        const name = text.length > LONGEST_NAME ? `${text.slice(0, LONGEST_NAME)} …` : text;
        return element("option", { value: place }, `${row + 1}. ${name}`);
      }),
    );
    at("e-prompt").disabled = !rows.length;
    show(rows.length ? 0 : -1);
  }

  function card(place, output, isBetter) {
    const body = element("bdi", { class: "text", dir: "auto" });
    const said = element("p", { class: "figures" });
    if (output) {
      const [text, missing, characters, finished, tokens] = output;
      said.append(`${characters.toLocaleString("en")} ${characters === 1 ? "character" : "characters"}`);
      if (tokens !== null) said.append(` · ${tokens.toLocaleString("en")} ${tokens === 1 ? "token" : "tokens"}`);
      if (finished === false) said.append(" · ", element("span", { class: "cut" }, "cut off at the limit"));
      appendText(body, text);
      if (!text) body.append(element("span", { class: "lost" }, "(empty)"));
      body.append(...lost(missing));
    } else body.append(element("span", { class: "lost" }, "This policy has no output for this prompt."));
    const heading = element("h3", {}, plain(header.policies[place]));
    if (isBetter) heading.append(element("span", { class: "badge" }, "better"));
    return element("div", { class: isBetter ? "answer result" : "answer" }, heading, said, body);
  }

  function sentence([number, better, orders, scores, text, equal]) {
    const [own, other] = header.pairs[number].map((place) => plain(header.policies[place]));
    const parts = [element("strong", {}, `${own} against ${other}: ${better === null ? "no verdict" : percent(better)}`)];
    if (equal) parts.push(" · both texts are the same");
    if (orders) parts.push(` · ${own} shown first ${percent(orders[0])}, shown second ${percent(orders[1])}`);
    if (scores) parts.push(` · scores ${figure(scores[0])} and ${figure(scores[1])}`);
    const holder = element("div", { class: "judged" }, element("p", { class: "figures" }, ...parts));
    if (text) {
      const why = element("bdi", { class: "text", dir: "auto" });
      appendText(why, text);
      holder.append(element("details", {}, element("summary", {}, "The judge’s words"), why));
    }
    return holder;
  }

  function show(place) {
    active = place;
    const holder = at("e-shown");
    holder.hidden = place < 0;
    at("e-previous").disabled = place <= 0;
    at("e-next").disabled = place >= rows.length - 1;
    if (place < 0) {
      holder.replaceChildren();
      at("e-count").textContent = "No prompt matches";
      return;
    }
    at("e-prompt").value = String(place);
    at("e-count").textContent = `${(place + 1).toLocaleString("en")} of ${rows.length.toLocaleString("en")} prompts`;
    const row = rows[place];
    const [[text, missing], outputs, verdicts] = prompts[row];
    const prompt = element("bdi", { class: "text", dir: "auto" });
    appendText(prompt, text);
    prompt.append(...lost(missing));
    const chosen = verdictOf(row);
    const [own, other] = header.pairs[pair()];
    const better = chosen && chosen[1] !== null ? winner(chosen[1]) : 0;
    const rest = outputs.map((_, number) => number).filter((number) => number !== own && number !== other);
    const others = verdicts.filter((one) => one !== chosen);
    holder.replaceChildren(
      element("div", { class: "prompt" }, element("h3", {}, "Prompt"), prompt),
      ...(chosen ? [sentence(chosen)] : []),
      element("div", { class: "cards" }, card(own, outputs[own], better > 0), card(other, outputs[other], better < 0)),
    );
    if (rest.length)
      holder.append(
        element(
          "details",
          { class: "others" },
          element("summary", {}, "Other policies and verdicts"),
          ...others.map(sentence),
          element("div", { class: "cards" }, ...rest.map((number) => card(number, outputs[number], false))),
        ),
      );
  }

  async function open() {
    at("e-count").textContent = "The answers are being unpacked.";
    try {
      prompts = JSON.parse(new TextDecoder().decode(await inflate("e-block")));
    } catch (error) {
      at("e-count").textContent =
        `The answers cannot be unpacked by this browser (${error.message}). They are in outputs.parquet.`;
      return;
    }
    lower = prompts.map(([prompt, outputs]) => [prompt, ...outputs.filter(Boolean)].map(([text]) => text.toLowerCase()));
    update();
    at("e-shown").dataset.ready = "";
    keepTarget();
  }

  const options = (names) => Object.entries(names).map(([key, name]) => element("option", { value: key }, name));
  at("e-pair").replaceChildren(
    ...header.pairs.map((places, number) => {
      const [own, other] = places.map((place) => plain(header.policies[place]));
      return element("option", { value: number }, `${own} against ${other}`);
    }),
  );
  at("e-verdict").replaceChildren(...options(VERDICTS));
  at("e-order").replaceChildren(...options(ORDERS));
  at("e-filters").hidden = false;
  let wait = 0;
  at("e-search").addEventListener("input", () => {
    clearTimeout(wait);
    wait = setTimeout(update, 150);
  });
  for (const id of ["e-pair", "e-verdict", "e-order"]) at(id).addEventListener("change", update);
  at("e-prompt").addEventListener("change", () => show(Number(at("e-prompt").value)));
  at("e-previous").addEventListener("click", () => show(active - 1));
  at("e-next").addEventListener("click", () => show(active + 1));
  at("e-filters").addEventListener("submit", (event) => event.preventDefault());
  window.addEventListener("load", open);
})();
