// The keyboard: one table, which the help shows and the handler reads.

const help = byId("help");
const current = () => (compare.open ? document.activeElement.closest(".pane")?.shot : view.current);
const video = () => viewer.querySelector("video");

const KEYS = [
  [["j", "ArrowRight"], "j or →", "next", () => travel(1)],
  [["k", "ArrowLeft"], "k or ←", "previous", () => travel(-1)],
  [["ArrowDown"], "↓", "a row down", () => viewer.open || travel(cardsPerRow())],
  [["ArrowUp"], "↑", "a row up", () => viewer.open || travel(-cardsPerRow())],
  [["Home", "g"], "g or Home", "first", () => travel(-Infinity)],
  [["End", "G"], "G or End", "last", () => travel(Infinity)],
  [[" "], "space", "play or pause", playOrPause],
  [["m"], "m", "sound on or off", toggleSound],
  [["Enter", "o"], "Enter", "open large", () => view.current && openViewer(view.current)],
  [["1", "2", "3", "4", "5"], "1 to 5", "rate; the same again takes it back", (key) => current() && rate(current(), Number(key))],
  [["0"], "0", "take the rating back", () => current() && mark(current(), { rating: 0 })],
  [["p"], "p", "pick", () => current() && togglePick(current())],
  [["c"], "c", "choose for comparing", () => view.current && toggleChosen(view.current)],
  [["v"], "v", "compare the chosen, two to four", () => compare.open || openCompare()],
  [[",", "."], ", and .", "one frame back or on", stepFrame],
  [["/"], "/", "search", () => byId("search").focus()],
  [["f"], "f", "filters", () => toggleFilters()],
  [["e"], "e", "export the next batch", openExport],
  [["+", "=", "-"], "+ and −", "larger or smaller cards", resizeCards],
  [["?"], "?", "this list", openHelp],
  [["Escape"], "Esc", "close; clear the search and the filters", clearView],
];
const IN_VIEWER = new Set([..."jk m123450pc,.", "ArrowRight", "ArrowLeft"]);
const IN_COMPARE = new Set([..." m123450p,.", "ArrowRight", "ArrowLeft"]);

function travel(places) {
  if (compare.open) stepTogether(places);
  else if (viewer.open) step(places);
  else moveTo(neighbour(places));
}

function playOrPause() {
  if (compare.open) return toggleTogether();
  const large = video();
  if (large) return large.paused ? resume(large) : large.pause();
  const card = currentCard();
  return card && togglePreview(card, shots.get(view.current));
}

function stepFrame(key) {
  const frames = key === "," ? -1 : 1;
  if (compare.open) return stepTogether(frames);
  const large = video() || preview.video;
  if (!large) return undefined;
  large.pause();
  large.currentTime += frames * FRAME;
  return undefined;
}

const SIZES = [160, 220, 280, 360, 480];
function resizeCards(key) {
  const now = SIZES.indexOf(parseInt(getComputedStyle(grid).getPropertyValue("--card"), 10));
  const next = SIZES[Math.min(SIZES.length - 1, Math.max(0, now + (key === "-" ? -1 : 1)))];
  grid.style.setProperty("--card", `${next}px`);
  currentCard()?.scrollIntoView({ block: "nearest" });
}

function openHelp() {
  help.replaceChildren(
    h("h2", { id: "help-title" }, "Keyboard"),
    h("dl", { class: "keys" }, KEYS.map(([, keys, text]) => [h("dt", {}, keys.split(/ (or|to|and) /).map((part, n) => (n % 2 ? ` ${part} ` : h("kbd", {}, part)))), h("dd", {}, text)])),
    h("p", { class: "quiet" }, "Ratings and picks stay in this browser. Export them as the file of the next batch."),
    h("div", { class: "acts" }, button("Close", () => help.close(), { class: "button strong" })));
  help.showModal();
}

// A key that the focused element has a use for of its own is left to it.
function isTaken(event) {
  const { target, key } = event;
  if (event.ctrlKey || event.metaKey || event.altKey) return true;
  if (target.closest("select, textarea, input:not([type=range])")) return true;
  if (target.closest("input[type=range]") && key.startsWith("Arrow")) return true;
  return Boolean(target.closest("button, a")) && (key === " " || key === "Enter");
}

function isAllowed(key) {
  if (viewer.open) return IN_VIEWER.has(key);
  if (compare.open) return IN_COMPARE.has(key);
  return !document.querySelector("dialog[open]");
}

document.addEventListener("keydown", (event) => {
  if (isTaken(event) || !isAllowed(event.key)) return;
  const found = KEYS.find(([keys]) => keys.includes(event.key));
  if (!found) return;
  event.preventDefault();
  found[3](event.key);
}, true);

byId("search").addEventListener("keydown", (event) => {
  if (event.key === "Escape") clearView();
  if (event.key !== "Escape" && event.key !== "Enter") return;
  event.preventDefault();
  event.stopPropagation();
  moveTo(shots.get(view.current));
});
