// The grid. Every shot has a shell of the right size; what is in it is made when it comes near the
// screen and dropped when it is far away, so that thousands cost little.

const grid = byId("grid");
const shells = new Map();
const near = new IntersectionObserver(
  (entries) => entries.forEach((entry) => (entry.isIntersecting ? fill(entry.target) : drop(entry.target))),
  { rootMargin: "700px 0px" },
);

function shellOf(shot) {
  let shell = shells.get(shot.id);
  if (!shell) {
    shell = h("li", { class: "shell" });
    shell.shot = shot.id;
    shells.set(shot.id, shell);
    near.observe(shell);
  }
  return shell;
}

function showCards() {
  grid.style.setProperty("--ratio", commonRatio());
  const wanted = view.list.map(shellOf);
  const same = wanted.length === grid.children.length && wanted.every((shell, n) => grid.children[n] === shell);
  if (!same) grid.replaceChildren(...wanted);
  if (preview.card && !preview.card.isConnected) stopPreview();
  byId("empty").hidden = wanted.length > 0;
  byId("empty").textContent = shots.size ? "Nothing matches. Escape clears the search and the filters." : "No jobs yet.";
  showCurrent();
}

function fill(shell, again = false) {
  if (shell.firstChild && !again) return;
  const hadFocus = shell.contains(document.activeElement);
  if (preview.card && shell.contains(preview.card)) stopPreview();
  const shot = shots.get(shell.shot);
  shell.replaceChildren(cardOf(shot));
  if (shot.id === view.current) showCurrent();
  if (hadFocus) shell.firstChild.focus({ preventScroll: true });
}

function drop(shell) {
  if (shell.contains(document.activeElement) || shell.shot === view.current) return;
  if (preview.card && shell.contains(preview.card)) stopPreview();
  shell.replaceChildren();
}

function cardOf(shot) {
  const body = h("div", { class: "body" },
    h("p", { class: "prompt", dir: "auto" }, shot.title),
    h("p", { class: "facts" }, facts(shot)),
    h("div", { class: "marks" }, stars(shot), compareButton(shot), pickButton(shot)));
  const card = h("article", { class: `card ${shot.state}`, tabindex: "-1", "aria-label": labelOf(shot) }, frameOf(shot), body);
  card.addEventListener("focusin", () => setCurrent(shot.id));
  card.addEventListener("focus", () => !still.matches && card.matches(":focus-visible") && hint(card, shot));
  card.addEventListener("pointerenter", (event) => event.pointerType === "mouse" && hint(card, shot));
  card.addEventListener("pointerleave", (event) => event.pointerType === "mouse" && stopPreview());
  card.addEventListener("focusout", (event) => card.contains(event.relatedTarget) || card.matches(":hover") || stopPreview());
  card.querySelector(".frame").addEventListener("click", (event) => {
    if (event.target.closest("button")) return;
    if (lastPointer === "touch" && shot.video) togglePreview(card, shot);
    else openViewer(shot.id);
  });
  card.querySelector(".prompt").addEventListener("click", () => openViewer(shot.id));
  card.querySelectorAll("button").forEach((each) => each.setAttribute("tabindex", "-1"));
  return card;
}

let lastPointer = "mouse";
document.addEventListener("pointerdown", (event) => { lastPointer = event.pointerType; }, true);

function labelOf(shot) {
  return [shot.number && `${Number(shot.number)}`, stateName(shot.state), shot.title].filter(Boolean).join(", ");
}

function facts(shot) {
  const shown = ["Resolution", "Ratio", "Length"].map((name) => shot.values.get(name));
  const cost = shot.credits === undefined ? null : h("span", { class: "cost" }, counted(shot.credits, "credit"));
  const number = shot.number && h("span", { class: "number" }, shot.number);
  const take = shot.take !== undefined && h("span", {}, `take ${shot.take}`);
  return [number, take, ...shown.filter(Boolean).map((text) => h("span", {}, text)), cost];
}

function frameOf(shot) {
  const frame = h("div", { class: "frame" });
  if (shot.video) {
    const picture = shot.poster
      ? h("img", { src: shot.poster, alt: "", loading: "lazy", decoding: "async", draggable: "false" })
      : h("video", { src: `${shot.video}#t=0.1`, preload: "metadata", muted: true, tabindex: "-1", "aria-hidden": "true", class: "first" });
    frame.classList.add("film");
    frame.append(picture, h("span", { class: "go" }, icon("play")));
    return frame;
  }
  const running = shot.state === "running";
  frame.append(h("div", { class: "instead" },
    !running && icon("alert"),
    h("p", { class: "state" }, stateName(shot.state === "succeeded" ? "No video here" : shot.state)),
    h("p", { class: "reason", dir: "auto" }, shot.error || (running ? "" : shot.next_step || "")),
    running && h("p", { class: "elapsed", "data-began": shot.began ?? "" })));
  return frame;
}

// --- the current shot ---------------------------------------------------------------------------

function setCurrent(id) {
  if (view.current === id) return;
  view.current = id;
  showCurrent();
}

function showCurrent() {
  document.querySelectorAll(".card.current").forEach((card) => card.parentNode.shot !== view.current && setReach(card, false));
  const shell = shells.get(view.current);
  if (shell?.firstChild) setReach(shell.firstChild, true);
}

// Tab goes to the current card and its buttons, and from there on; not through two thousand.
function setReach(card, isCurrent) {
  card.classList.toggle("current", isCurrent);
  card.setAttribute("tabindex", isCurrent ? "0" : "-1");
  card.querySelectorAll("button").forEach((each) => each.setAttribute("tabindex", isCurrent ? "0" : "-1"));
}

function moveTo(shot) {
  if (!shot) return;
  const shell = shellOf(shot);
  fill(shell);
  setCurrent(shot.id);
  shell.scrollIntoView({ block: "nearest" });
  shell.firstChild.focus({ preventScroll: true, focusVisible: true });
}

function cardsPerRow() {
  const [first] = grid.children;
  const row = [...grid.children].findIndex((shell) => shell.offsetTop !== first.offsetTop);
  return row < 0 ? grid.children.length : row;
}

function currentCard() {
  return shells.get(view.current)?.firstChild || null;
}
