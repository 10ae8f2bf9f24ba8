// Ratings and picks, kept in the browser by the ids of the jobs, so that they outlive the page.

const MARKS = "seedance-gallery";
const marks = { all: new Map(), listeners: [] };

function readMarks() {
  try {
    marks.all = new Map(Object.entries(JSON.parse(localStorage.getItem(MARKS)) || {}));
  } catch {
    // No storage, or not ours: the ratings live as long as the page.
  }
}

function markOf(id) {
  return marks.all.get(id) || {};
}

function mark(id, change) {
  readMarks(); // another tab may have written meanwhile
  const { rating, pick } = { ...markOf(id), ...change };
  const kept = { ...(rating ? { rating } : {}), ...(pick ? { pick } : {}) };
  if (rating || pick) marks.all.set(id, kept);
  else marks.all.delete(id);
  try {
    localStorage.setItem(MARKS, JSON.stringify(Object.fromEntries(marks.all)));
  } catch {
    say("The browser keeps no ratings here: export them before you leave");
  }
  marks.listeners.forEach((listener) => listener(id));
}

function rate(id, rating) {
  mark(id, { rating: markOf(id).rating === rating ? 0 : rating });
}

function togglePick(id) {
  mark(id, { pick: !markOf(id).pick });
}

// Five stars that show and set a rating.
function stars(shot) {
  const row = h("div", { class: "stars", role: "group", "data-stars": shot.id });
  for (let number = 1; number <= 5; number += 1) {
    row.append(button(`Rate ${number} of 5`, () => rate(shot.id, number), {
      symbol: "star", shown: "", class: "star",
    }));
  }
  return showStars(row);
}

function showStars(row) {
  const rating = markOf(row.dataset.stars).rating || 0;
  row.setAttribute("aria-label", rating ? `Rated ${rating} of 5` : "Not rated");
  [...row.children].forEach((star, index) => {
    star.classList.toggle("on", index < rating);
    star.setAttribute("aria-pressed", index + 1 === rating);
  });
  return row;
}

function pickButton(shot) {
  const made = button("Pick", () => togglePick(shot.id), {
    symbol: "pick", shown: "", class: "round pick", "data-pick": shot.id,
  });
  return showPick(made);
}

function showPick(made) {
  made.setAttribute("aria-pressed", Boolean(markOf(made.dataset.pick).pick));
  return made;
}

marks.listeners.push((id) => {
  const name = CSS.escape(id);
  document.querySelectorAll(`[data-stars="${name}"]`).forEach(showStars);
  document.querySelectorAll(`[data-pick="${name}"]`).forEach(showPick);
});

window.addEventListener("storage", (event) => {
  if (event.key !== MARKS) return;
  const before = new Set(marks.all.keys());
  readMarks();
  new Set([...before, ...marks.all.keys()]).forEach((id) => {
    marks.listeners.forEach((listener) => listener(id));
  });
});

readMarks();
