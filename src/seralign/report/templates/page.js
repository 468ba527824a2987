"use strict";
// What all parts of the page share: making elements, and showing text that nobody may trust.

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

// The same list as in format.py.
const UNSEEN =
  /[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb]|[\u{e0000}-\u{e007f}]|\p{Surrogate}/gu;

function nameOf(character) {
  const code = character.codePointAt(0);
  if (code < 0x20) return String.fromCharCode(0x2400 + code);
  return `U+${code.toString(16).toUpperCase().padStart(4, "0")}`;
}

// Text as one string, for lists and labels.
function plain(text) {
  return text.replace(UNSEEN, (found) =>
    found >= "\ud800" && found <= "\udfff" && found.length === 1 ? "\ufffd" : `⟨${nameOf(found)}⟩`,
  );
}

// Text into an element, what is unseen as a small box with its name.
function appendText(parent, text) {
  let from = 0;
  for (const found of text.matchAll(UNSEEN)) {
    parent.append(text.slice(from, found.index), element("span", { class: "mark" }, nameOf(found[0])));
    from = found.index + found[0].length;
  }
  parent.append(text.slice(from));
}

// Unpacks a block of gzip in base64.
async function inflate(id) {
  const base64 = document.getElementById(id).textContent;
  let bytes;
  if (Uint8Array.fromBase64) {
    bytes = Uint8Array.fromBase64(base64);
  } else {
    const binary = atob(base64);
    bytes = new Uint8Array(binary.length);
    for (let at = 0; at < binary.length; at++) bytes[at] = binary.charCodeAt(at);
  }
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).arrayBuffer();
}

// Numbers with thousands separators and a true minus sign.
const FORMATS = [0, 1, 2].map(
  (digits) =>
    new Intl.NumberFormat("en", {
      minimumFractionDigits: digits,
      maximumFractionDigits: digits,
      signDisplay: "negative",
    }),
);
const figure = (value, digits = 2) => (Number.isNaN(value) ? "–" : FORMATS[digits].format(value).replace("-", "−"));
const signed = (value, digits = 2) => (value > 0 ? "+" : "") + figure(value, digits);

// What was cut off a text to keep the page small.
function lost(units) {
  if (!units) return [];
  return [element("span", { class: "lost" }, ` … ${units.toLocaleString("en")} more characters, in the run's tables`)];
}

// A prompt in a list, without what all prompts begin and end with: a template's. What is left may be all of it.
const question = (text, { start, end }) => plain(text.slice(start, text.length - end));

// Says what a list of prompts leaves out, or hides the element where that is nothing; `text` is one of the prompts.
function tellTemplate(holder, text, { start, end }) {
  const short = (part) => `“${plain(part.length > 300 ? `${part.slice(0, 300)} …` : part)}”`;
  const parts = [start && `begin with ${short(text.slice(0, start))}`, end && `end with ${short(text.slice(text.length - end))}`];
  const told = parts.filter(Boolean).join(" and ");
  holder.hidden = !told;
  holder.textContent = `All prompts ${told}, left out in the list.`;
}

// A link into the page keeps its target in view while parts above it grow, until the reader moves.
let moved = !location.hash;
for (const name of ["wheel", "touchstart", "pointerdown", "keydown"])
  window.addEventListener(name, () => (moved = true), { once: true, passive: true });
function keepTarget() {
  if (!moved) document.getElementById(location.hash.slice(1))?.scrollIntoView({ behavior: "instant" });
}
window.addEventListener("load", keepTarget);

// Tables that are wider than their place say so.
for (const holder of document.querySelectorAll(".scroll")) watchWidth(holder);
function watchWidth(holder) {
  const look = () => holder.classList.toggle("wider", holder.scrollWidth > holder.clientWidth + 1);
  new ResizeObserver(look).observe(holder);
  if (holder.firstElementChild) new ResizeObserver(look).observe(holder.firstElementChild);
}

(() => {
  const button = document.getElementById("theme");
  const themes = ["system", "light", "dark"];
  let at = 0;
  try {
    at = Math.max(0, themes.indexOf(localStorage.getItem("seralign-theme")));
  } catch {
    // A page from a file may have no storage; the choice then holds for this view.
  }
  const show = () => {
    document.documentElement.dataset.theme = themes[at];
    button.textContent = `Theme: ${themes[at]}`;
  };
  button.hidden = false;
  button.addEventListener("click", () => {
    at = (at + 1) % themes.length;
    show();
    try {
      localStorage.setItem("seralign-theme", themes[at]);
    } catch {
      // See above.
    }
  });
  show();
})();
