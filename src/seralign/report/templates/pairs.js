"use strict";
// The pairs of a run, from the blocks that explorer.py packs: unpacking, searching, filtering, ordering. No elements here.

const TYPES = { u1: Uint8Array, u2: Uint16Array, u4: Uint32Array, i2: Int16Array, f4: Float32Array };

// Where a pair has no text, in a column that the run brought from the source.
const NO_TEXT = 2 ** 32 - 1;

// Whether a round trained on the pair, or, not trained yet, selected it.
const isTaken = (reason) => reason === "kept" || reason === "selected";

function arrays(layout, buffer) {
  const found = {};
  let at = 0;
  for (const [name, type, length] of layout) {
    found[name] = new TYPES[type](buffer, at, length);
    at += found[name].byteLength;
  }
  return found;
}

async function unpack(run) {
  const header = JSON.parse(document.getElementById(`pairs-${run}`).textContent);
  const [numbers, text] = await Promise.all([inflate(`numbers-${run}`), inflate(`text-${run}`)]);
  const columns = arrays(header.numbers, numbers);
  // A byte order mark at the start would be swallowed without ignoreBOM, and shift all that follows.
  const whole = new TextDecoder("utf-8", { ignoreBOM: true }).decode(text);
  const starts = new Uint32Array(columns.units.length + 1);
  columns.units.forEach((units, at) => (starts[at + 1] = starts[at] + units));
  let lower = null;
  let tokens = null;

  // Which strings hold the text, whatever its case: one pass over all of them together.
  function holding(query) {
    // The only character whose lower case is longer than itself.
    lower ??= whole.replaceAll("İ", "i").toLowerCase();
    const wanted = query.replaceAll("İ", "i").toLowerCase();
    const hits = new Uint8Array(columns.units.length);
    let string = 0;
    for (let at = lower.indexOf(wanted); at >= 0;) {
      while (starts[string + 1] <= at) string++;
      const inside = at + wanted.length <= starts[string + 1];
      if (inside) hits[string] = 1;
      at = lower.indexOf(wanted, inside ? starts[string + 1] : at + 1);
    }
    return hits;
  }

  // Where a margin is in each row: of a round, or of the last one that scored the pair; and that of the round before.
  function margins(round) {
    const now = new Float32Array(header.pairs).fill(NaN);
    const before = new Float32Array(header.pairs).fill(NaN);
    const at = new Uint8Array(header.pairs);
    for (const index of header.rounds) {
      if (round !== 0 && index > round) break;
      const margin = columns[`margin_${index}`];
      for (let row = 0; row < header.pairs; row++) {
        if (round !== 0 && index < round) before[row] = margin[row];
        else if (!Number.isNaN(margin[row])) {
          if (round === 0) before[row] = now[row];
          now[row] = margin[row];
          at[row] = index;
        }
      }
    }
    // Round 1 scores nothing and trains on all offline pairs.
    if (header.first_all && round < 2)
      for (let row = 0; row < header.pairs; row++)
        if (at[row] === 0 && header.origins[columns.origin[row]] === "offline") at[row] = 1;
    const change = now.map((value, row) => value - before[row]);
    return { margin: now, change, at };
  }

  const string = (at) => whole.slice(starts[at], starts[at + 1]);
  const views = new Map();
  return {
    header,
    columns,
    string,
    // What a pair has of a column that was brought from the source, or null.
    carried: (row, column) => (columns[column][row] === NO_TEXT ? null : string(columns[column][row])),
    ofRound(round) {
      if (!views.has(round)) views.set(round, margins(round));
      return views.get(round);
    },
    reason(row, round) {
      if (round === 1 && !columns.kept_1) return "kept";
      // What no round had, a review before them took out: every round says so.
      const code = columns[`kept_${round || header.rounds[0]}`]?.[row] ?? 255;
      return code === 255 ? null : header.reasons[code];
    },
    // Tokens of a response and their log-ratios, or null.
    async tokens(row, side) {
      if (columns.tokens_round[row] === 0) return null;
      tokens ??= inflate(`tokens-${run}`).then((buffer) => {
        const found = arrays(header.tokens, buffer);
        const first = new Uint32Array(found.counts.length + 1);
        found.counts.forEach((count, at) => (first[at + 1] = first[at] + count));
        const place = new Map();
        columns.tokens_round.forEach((round, at) => round && place.set(at, 2 * place.size));
        return { ...found, first, place };
      });
      const { first, place, said, lengths, ratios } = await tokens;
      const which = place.get(row) + (side === "chosen" ? 0 : 1);
      return {
        text: this.string(said[which]),
        lengths: lengths.subarray(first[which], first[which + 1]),
        ratios: Array.from(ratios.subarray(first[which], first[which + 1]), (ratio) => ratio * header.ratio_step),
      };
    },
    // The rows that all filters let through, in order.
    select({ search, origin, round, kept, low, high, coloured, carried, sort, descending }) {
      const { margin, change, at } = this.ofRound(round);
      const hits = search ? holding(search) : null;
      const searched = ["prompt", "chosen", "rejected", "id", ...header.carried.map(({ column }) => column)];
      const wanted = Object.entries(carried);
      const rows = new Uint32Array(header.pairs);
      let count = 0;
      for (let row = 0; row < header.pairs; row++) {
        if (origin >= 0 && columns.origin[row] !== origin) continue;
        if (round !== 0 && at[row] === 0) continue;
        if (!(columns.p[row] >= low - 1e-6 && columns.p[row] <= high + 1e-6)) continue;
        if (coloured && columns.tokens_round[row] === 0) continue;
        if (wanted.some(([column, place]) => columns[column][row] !== place)) continue;
        if (kept !== "all") {
          const reason = this.reason(row, at[row]);
          if (reason === null || (kept === "dropped" ? isTaken(reason) : reason !== kept)) continue;
        }
        if (hits && !searched.some((column) => hits[columns[column][row]])) continue;
        rows[count++] = row;
      }
      const found = rows.subarray(0, count);
      if (sort === "run") return descending ? found.reverse() : found;
      const longer = (row) => columns.chosen_length[row] - columns.rejected_length[row];
      const by = { margin, change, p: columns.p, disagreement: columns.disagreement };
      const keys = by[sort] ?? Float32Array.from({ length: header.pairs }, (_, row) => longer(row));
      // What has no value comes last, whichever way the order goes.
      const last = descending ? -Infinity : Infinity;
      const value = (row) => (Number.isNaN(keys[row]) ? last : keys[row]);
      const way = descending ? -1 : 1;
      return found.sort((a, b) => (value(a) < value(b) ? -way : value(a) > value(b) ? way : a - b));
    },
  };
}
