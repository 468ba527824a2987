"use strict";
// The list of pairs: filters, order, keys. Only the rows that can be seen are elements.

(() => {
  const list = document.getElementById("list");
  if (!list) return;
  const at = (id) => document.getElementById(id);
  const HEIGHT = 34;
  const SPARE = 8;
  const COLUMNS = [
    { key: "run", title: "Prompt", classes: "left" },
    { key: "origin", title: "Origin", classes: "left wide w-origin", plain: true },
    { key: "p", title: "p", classes: "wide w-p" },
    { key: "longer", title: "Longer by", classes: "wide w-num" },
    { key: "margin", title: "Margin", classes: "scored w-num" },
    { key: "change", title: "Change", classes: "scored wide w-num" },
    { key: "disagreement", title: "Disagreement", classes: "scored wide w-wide" },
    { key: "line", title: "By round", classes: "scored w-line", plain: true },
    { key: "kept", title: "Selection", classes: "picked left wide w-kept", plain: true },
  ];
  const ORDERS = {
    run: "order in the run",
    margin: "margin",
    change: "change of margin",
    disagreement: "disagreement",
    p: "label p",
    longer: "chosen longer by",
  };

  let pairs = null;
  let rows = new Uint32Array();
  let active = -1;
  let shown = [0, 0];
  const runs = new Map();
  const order = { sort: "run", descending: false };

  const option = (value, text) => element("option", { value }, text);
  function fill() {
    const { origins, rounds, reasons, first_all } = pairs.header;
    const taken = first_all || reasons.includes("kept") ? [option("kept", reasonName("kept"))] : [];
    if (reasons.includes("selected")) taken.push(option("selected", "selected"));
    at("f-origin").replaceChildren(
      option(-1, "all"),
      ...origins.map((origin, code) =>
        option(code, origin === "offline" ? "offline" : `generated in ${originName(origin)}`),
      ),
    );
    at("f-round").replaceChildren(
      option(0, "last that had it"),
      ...(first_all ? [1, ...rounds] : rounds).map((round) => option(round, `round ${round}`)),
    );
    at("f-kept").replaceChildren(
      option("all", "all"),
      ...taken,
      option("dropped", "dropped"),
      ...reasons.filter((reason) => !isTaken(reason)).map((reason) => option(reason, reasonName(reason))),
    );
    at("f-carried").replaceChildren(...pairs.header.carried.filter(({ values }) => values.length).map(carriedFilter));
  }

  function carriedFilter({ name, column, values }) {
    const select = element("select", { "data-column": column });
    const none = pairs.columns[column].includes(NO_TEXT) ? [option(NO_TEXT, "no value")] : [];
    select.append(option("", "all"), ...values.map((place) => option(place, plain(pairs.string(place)))), ...none);
    return element("label", {}, plain(name), select);
  }

  // The value that is wanted of each column of the source, where one is.
  function carriedWanted() {
    const chosen = [...at("f-carried").querySelectorAll("select")].filter((select) => select.value !== "");
    return Object.fromEntries(chosen.map((select) => [select.dataset.column, Number(select.value)]));
  }

  function head() {
    at("f-sort").replaceChildren(...Object.entries(ORDERS).map(([key, name]) => option(key, name)));
    at("grid-head").replaceChildren(
      ...COLUMNS.map(({ key, title, classes, plain: fixed }) => {
        const cell = element("th", { scope: "col", class: classes });
        if (fixed) cell.append(element("button", { type: "button", tabindex: "-1", disabled: "" }, title));
        else {
          const button = element("button", { type: "button" }, title);
          button.addEventListener("click", () => sortBy(key, order.sort === key ? !order.descending : key !== "run"));
          cell.append(button);
          cell.dataset.sort = key;
        }
        return cell;
      }),
    );
  }

  function sortBy(key, descending) {
    order.sort = key;
    order.descending = descending;
    update();
  }

  function update() {
    if (pairs.header.pairs)
      tellTemplate(at("start"), pairs.string(pairs.columns.prompt[0]), pairs.header.template);
    // The disagreement is of the last round with two policies, whichever round the other columns are of.
    const apart = `Disagreement${Number(at("f-round").value) === 0 ? "" : ", last round"}`;
    at("grid-head").querySelector("[data-sort=disagreement] button").textContent = apart;
    at("f-sort").value = order.sort;
    at("f-direction").textContent = order.descending ? "↓" : "↑";
    at("f-direction").setAttribute(
      "aria-label",
      order.descending ? "Largest first; turn round" : "Smallest first; turn round",
    );
    for (const cell of at("grid-head").children) {
      if (cell.dataset.sort === order.sort)
        cell.setAttribute("aria-sort", order.descending ? "descending" : "ascending");
      else cell.removeAttribute("aria-sort");
    }
    const numeric = (id, otherwise) => (at(id).value === "" ? otherwise : at(id).valueAsNumber);
    rows = pairs.select({
      search: at("f-search").value,
      origin: Number(at("f-origin").value),
      round: Number(at("f-round").value),
      kept: at("f-kept").value,
      low: numeric("f-low", 0),
      high: numeric("f-high", 1),
      coloured: at("f-coloured").checked,
      carried: carriedWanted(),
      ...order,
    });
    active = -1;
    // A run of one round scores no pair, and supervised training selects none either.
    const { rounds, first_all: allTaken } = pairs.header;
    at("grid").classList.toggle("unscored", !rounds.length);
    at("grid").classList.toggle("unpicked", !rounds.length && !allTaken);
    at("grid").setAttribute("aria-rowcount", rows.length + 1);
    at("grid").removeAttribute("aria-activedescendant");
    at("count").textContent = `${rows.length.toLocaleString("en")} of ${pairs.header.pairs.toLocaleString("en")} pairs`;
    list.scrollTop = 0;
    // What was looked at is no answer to what is asked for now: the pair below is the first of the list, or none.
    if (rows.length) return choose(0);
    hidePair(at("pair"));
    draw();
    return null;
  }

  function makeRow(place) {
    const row = rows[place];
    const { columns, header } = pairs;
    const { margin, change, at: round } = pairs.ofRound(Number(at("f-round").value));
    const reason = pairs.reason(row, round[row]);
    const cells = [
      question(pairs.string(columns.prompt[row]), header.template).slice(0, 200),
      originName(header.origins[columns.origin[row]]),
      figure(columns.p[row]),
      signed(columns.chosen_length[row] - columns.rejected_length[row], 0),
      figure(margin[row]),
      signed(change[row]),
      figure(columns.disagreement[row]),
      line(pairs, row),
      reason === null ? "–" : reasonName(reason),
    ];
    const made = element("tr", { id: `row-${place}`, "aria-rowindex": place + 2, "aria-selected": place === active });
    cells.forEach((cell, column) => {
      const content = column === 0 ? element("bdi", {}, cell) : cell;
      made.append(element("td", { class: COLUMNS[column].classes }, content));
    });
    made.addEventListener("click", async () => {
      // On a phone the pair is below the screen.
      if ((await choose(place)) && matchMedia("(max-width: 44rem)").matches) at("pair").scrollIntoView();
    });
    return made;
  }

  function draw() {
    const first = Math.max(0, Math.floor(list.scrollTop / HEIGHT) - SPARE);
    const last = Math.min(rows.length, Math.ceil((list.scrollTop + list.clientHeight) / HEIGHT) + SPARE);
    shown = [first, last];
    const space = (count) => {
      const cell = element("td");
      cell.style.height = `${count * HEIGHT}px`;
      return element("tr", { class: "space", "aria-hidden": "true" }, cell);
    };
    const body = [];
    for (let place = first; place < last; place++) body.push(makeRow(place));
    if (!rows.length) {
      const none = element("td", { class: "left none", colspan: COLUMNS.length }, "No pair matches");
      body.push(element("tr", { class: "space" }, none));
    }
    at("grid-body").replaceChildren(space(first), ...body, space(rows.length - last));
  }

  function choose(place) {
    if (place < 0 || place >= rows.length) return null;
    active = place;
    const top = place * HEIGHT;
    const heading = at("grid-head").offsetHeight;
    if (top < list.scrollTop) list.scrollTop = top;
    if (top + HEIGHT + heading > list.scrollTop + list.clientHeight)
      list.scrollTop = top + HEIGHT + heading - list.clientHeight;
    draw();
    at("grid").setAttribute("aria-activedescendant", `row-${place}`);
    return showPair(pairs, rows[place], at("pair"));
  }

  function keys(event) {
    const page = Math.max(1, Math.floor(list.clientHeight / HEIGHT) - 2);
    const moves = {
      ArrowDown: active + 1,
      ArrowUp: active - 1,
      PageDown: active + page,
      PageUp: active - page,
      Home: 0,
      End: rows.length - 1,
    };
    if (!(event.key in moves) || event.target !== at("grid")) return;
    event.preventDefault();
    choose(Math.max(0, Math.min(rows.length - 1, moves[event.key])));
  }

  let opened = 0;

  // Shows a run's pairs; the last run asked for wins, whichever is unpacked first.
  async function open(run) {
    const turn = ++opened;
    at("count").textContent = "The pairs are being unpacked.";
    try {
      if (!runs.has(run)) runs.set(run, await unpack(run));
      if (turn !== opened) return;
    } catch (error) {
      if (turn !== opened) return;
      at("count").textContent =
        `The pairs cannot be unpacked by this browser (${error.message}). They are in the run's tables.`;
      return;
    }
    pairs = runs.get(run);
    for (const about of document.querySelectorAll(".about")) about.hidden = Number(about.dataset.run) !== run;
    fill();
    await update();
    list.dataset.ready = "";
    keepTarget();
  }

  at("count").textContent = "The pairs are unpacked when they come near the screen.";
  for (const id of ["filters", "list"]) at(id).hidden = false;
  head();
  let wait = 0;
  const later = () => {
    clearTimeout(wait);
    wait = setTimeout(() => pairs && update(), 150);
  };
  at("f-search").addEventListener("input", later);
  for (const id of ["f-origin", "f-round", "f-kept", "f-carried", "f-coloured"])
    at(id).addEventListener("change", () => pairs && update());
  for (const id of ["f-low", "f-high"]) at(id).addEventListener("input", later);
  at("f-sort").addEventListener("change", () => pairs && sortBy(at("f-sort").value, at("f-sort").value !== "run"));
  at("f-direction").addEventListener("click", () => pairs && sortBy(order.sort, !order.descending));
  at("filters").addEventListener("submit", (event) => event.preventDefault());
  at("filters").addEventListener("reset", () => setTimeout(() => pairs && sortBy("run", false)));
  at("f-run")?.addEventListener("change", () => open(Number(at("f-run").value)));
  at("grid").addEventListener("keydown", keys);
  let framed = false;
  list.addEventListener("scroll", () => {
    if (framed) return;
    framed = true;
    requestAnimationFrame(() => {
      framed = false;
      const first = Math.floor(list.scrollTop / HEIGHT);
      if (first < shown[0] || first + list.clientHeight / HEIGHT > shown[1]) draw();
    });
  });
  new ResizeObserver(() => pairs && draw()).observe(list);
  // Unpacking can take a second: it waits until the page stands, or until somebody comes near.
  const near = new IntersectionObserver(
    (entries) => {
      if (!entries.some((entry) => entry.isIntersecting)) return;
      near.disconnect();
      open(0);
    },
    { rootMargin: "1200px" },
  );
  window.addEventListener("load", () => near.observe(list));
})();
