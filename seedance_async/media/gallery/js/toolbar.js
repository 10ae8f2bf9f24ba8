// The head of the page: what there is in all, the search, and the filters by state and column.

const filters = byId("filters");
let shownColumns = "";

function showToolbar() {
  showSummary();
  showStates();
  showFilters();
  byId("count").textContent = `${counted(view.list.length, "job")} shown`;
}

function showSummary() {
  const all = [...shots.values()];
  const credits = all.reduce((sum, shot) => sum + (shot.credits || 0), 0);
  const videos = all.filter((shot) => shot.video).length;
  const parts = [counted(videos, "video"), credits && counted(credits, "credit")];
  byId("summary").textContent = parts.filter(Boolean).join(" · ");
}

function showStates() {
  const counts = new Map();
  for (const { state } of shots.values()) counts.set(state, (counts.get(state) || 0) + 1);
  const picks = [...shots.keys()].filter((id) => markOf(id).pick).length;
  const names = Object.keys(STATES).concat([...counts.keys()].filter((state) => !STATES[state]));
  const chips = names.filter((state) => counts.has(state)).map((state) => [state, stateName(state), counts.get(state)]);
  const all = [["", "All", shots.size], ...chips, ["picks", "Picks", picks]];
  const focused = document.activeElement?.dataset?.state;
  byId("states").replaceChildren(...all.map(([state, name, count]) => h("button", {
    type: "button", class: `chip ${state}`, "data-state": state, "aria-pressed": String(view.state === state), onclick: () => showState(state),
  }, h("span", {}, name), h("span", { class: "n" }, count.toLocaleString("en")))));
  if (focused !== undefined) byId("states").querySelector(`[data-state="${CSS.escape(focused)}"]`)?.focus();
}

function showFilters() {
  const found = columns();
  const text = JSON.stringify(found.map(([name, values]) => [name, [...values]]));
  const set = view.filters.size;
  byId("open-filters").classList.toggle("on", set > 0);
  byId("open-filters").querySelector("span").textContent = set ? `Filter (${set})` : "Filter";
  if (text === shownColumns || filters.contains(document.activeElement)) return;
  shownColumns = text;
  drawFilters(found);
}

function drawFilters(found) {
  const any = (name, values) => [["", `${name}: any`], ...[...values].sort(([a], [b]) => a.localeCompare(b, "en", { numeric: true })).map(([value, count]) => [value, `${value} (${count})`])];
  filters.replaceChildren(
    ...found.map(([name, values]) => select(name, any(name, values), view.filters.get(name) || "", (value) => filter(name, value))),
    select("Rating", [["", "Rating: any"], ...RATINGS], view.filters.get("\u0000rating") || "", (value) => filter("\u0000rating", value)),
    select("Sort", Object.entries(SORTS).map(([name, [text]]) => [name, text]), view.sort, (sort) => { view.sort = sort; refresh(); }),
    button("Clear", clearView, { class: "button plain" }),
  );
}

function toggleFilters(open = filters.hidden) {
  filters.hidden = !open;
  byId("open-filters").setAttribute("aria-expanded", open);
}

function clearView() {
  byId("search").value = "";
  Object.assign(view, { words: [], state: "" });
  view.filters.clear();
  refresh();
  drawFilters(columns());
}

// What is scrolled to is not to lie under the head.
new ResizeObserver(([{ target }]) => {
  document.documentElement.style.scrollPaddingTop = `${target.offsetHeight + 16}px`;
}).observe(document.querySelector(".top"));

marks.listeners.push(() => {
  showStates();
  if (view.state === "picks" || view.filters.has("\u0000rating")) refresh();
});
