// Which shots are shown, in which order, and which of them is the current one.

const view = { words: [], filters: new Map(), state: "", sort: "order", list: [], current: null };

const SORTS = {
  order: ["Input order", inOrder],
  rating: ["Best rated first", (a, b) => (markOf(b.id).rating || 0) - (markOf(a.id).rating || 0) || inOrder(a, b)],
  newest: ["Newest first", (a, b) => (b.began ?? 0) - (a.began ?? 0) || inOrder(a, b)],
  cost: ["Highest cost first", (a, b) => (b.credits ?? -1) - (a.credits ?? -1) || inOrder(a, b)],
};
const RATINGS = [["1", "Rated"], ["3", "3 stars and more"], ["4", "4 stars and more"], ["5", "5 stars"], ["0", "Not rated"]];

function isShown(shot) {
  if (view.state === "picks" ? !markOf(shot.id).pick : view.state && shot.state !== view.state) return false;
  for (const [name, value] of view.filters) {
    if (name === "\u0000rating" ? !hasRating(shot, value) : shot.values.get(name) !== value) return false;
  }
  return view.words.every((word) => shot.words.includes(word));
}

function hasRating(shot, value) {
  const rating = markOf(shot.id).rating || 0;
  return value === "0" ? rating === 0 : rating >= Number(value);
}

function choose() {
  view.list = [...shots.values()].filter(isShown).sort(SORTS[view.sort][1]);
  if (!view.list.some((shot) => shot.id === view.current)) view.current = view.list[0]?.id ?? null;
}

function search(text) {
  view.words = text.toLowerCase().split(/\s+/).filter(Boolean);
  refresh();
}

function filter(name, value) {
  if (value === "") view.filters.delete(name);
  else view.filters.set(name, value);
  refresh();
}

function showState(state) {
  view.state = view.state === state ? "" : state;
  refresh();
}

// The shot so many places after the current one, within the list.
function neighbour(step) {
  const place = view.list.findIndex((shot) => shot.id === view.current);
  const last = view.list.length - 1;
  return last < 0 ? null : view.list[Math.min(last, Math.max(0, place + step))];
}

function refresh() {
  choose();
  showCards();
  showToolbar();
}
