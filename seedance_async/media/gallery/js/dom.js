// Elements are made here and nowhere else, and text only ever becomes text nodes and attributes.

const SVG = "http://www.w3.org/2000/svg";
const byId = (id) => document.getElementById(id);

function h(name, given = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(given)) {
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else if (value === true) node.setAttribute(key, "");
    else if (value !== null && value !== undefined && value !== false) node.setAttribute(key, value);
  }
  node.append(...children.flat(Infinity).filter((child) => child || child === 0));
  return node;
}

function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  const use = document.createElementNS(SVG, "use");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  use.setAttribute("href", `#i-${name}`);
  svg.append(use);
  return svg;
}

function button(label, act, { symbol = null, shown = label, ...given } = {}) {
  const name = shown === label ? {} : { "aria-label": label, title: label };
  const content = [symbol && icon(symbol), shown && h("span", {}, shown)];
  return h("button", { type: "button", class: "button", ...name, ...given, onclick: act }, content);
}

function select(label, choices, chosen, change) {
  const options = choices.map(([value, text]) => {
    return h("option", { value, selected: value === chosen }, text);
  });
  const box = h("select", { onchange: () => change(box.value) }, options);
  return h("label", { class: "field" }, h("span", {}, label), box);
}

function counted(number, noun) {
  return `${number.toLocaleString("en")} ${noun}${number === 1 ? "" : "s"}`;
}

function clock(seconds) {
  const whole = Math.max(0, Math.round(seconds));
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}`;
}

// A word for the screen reader, and for everybody for two seconds.
function say(text) {
  const old = document.querySelector(".toast");
  if (old) old.remove();
  const open = document.querySelector("dialog[open]");
  const toast = h("p", { class: "toast", role: "status" }, text);
  (open || document.body).append(toast);
  setTimeout(() => toast.remove(), 2000);
}
