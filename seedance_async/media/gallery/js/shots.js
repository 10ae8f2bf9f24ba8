// The shots: what the page was given, and what follows from it for the eye, the search and the filters.

const page = JSON.parse(byId("data").textContent);
const shots = new Map();

const STATES = {
  succeeded: "Succeeded",
  running: "Running",
  failed: "Failed",
  rejected: "Rejected",
  cancelled: "Cancelled",
  uncertain: "Uncertain",
  abandoned: "Not waited for",
  not_submitted: "Not submitted",
};
const MODES = {
  text: "Text to video",
  first_frame: "First frame",
  first_and_last_frame: "First and last frame",
  multimodal: "References",
};

const OPTIONS = ["Model", "Resolution", "Ratio", "Length", "Mode", "Take"];
// What the page shows in its own way, or not at all; any other field is an option.
const KNOWN = new Set(["prompt", "model", "mediaUrls", "aspectRatio", "duration", "resolution", "webhookUrl", "metadata"]);

function stateName(state) {
  return STATES[state] || state;
}

function take(raw) {
  const request = raw.request || {};
  const values = new Map();
  const give = (name, value) => {
    if (value !== undefined && value !== null && value !== "") values.set(name, String(value));
  };
  give("Model", request.model);
  give("Resolution", request.resolution);
  give("Ratio", request.aspectRatio);
  give("Length", request.duration && `${request.duration} s`);
  give("Mode", MODES[raw.mode] || raw.mode);
  give("Take", raw.take);
  for (const [name, value] of Object.entries(request)) {
    if (!KNOWN.has(name)) give(name, typeof value === "object" ? JSON.stringify(value) : value);
  }
  for (const [name, value] of Object.entries(raw.columns || {})) {
    give(values.has(name) ? `${name} (column)` : name, typeof value === "object" ? JSON.stringify(value) : value);
  }
  const shot = { ...raw, request, values, prompt: String(request.prompt || "") };
  shot.title = shot.prompt || raw.name || raw.request_id || "Without a prompt";
  shot.number = raw.line === undefined ? "" : String(raw.line).padStart(4, "0");
  shot.words = [shot.prompt, raw.request_id, raw.name, raw.error, raw.next_step, shot.number]
    .concat(stateName(raw.state), [...values.values()])
    .filter(Boolean).join("\n").toLowerCase();
  shots.set(shot.id, shot);
  return shot;
}

function inOrder(a, b) {
  return (a.line ?? Infinity) - (b.line ?? Infinity) || (a.take ?? 0) - (b.take ?? 0)
    || (a.began ?? 0) - (b.began ?? 0) || (a.id < b.id ? -1 : 1);
}

// What the shots differ in: a column whose values are all alike is no filter.
function columns() {
  const found = new Map(OPTIONS.map((name) => [name, new Map()]));
  for (const shot of shots.values()) {
    for (const [name, value] of shot.values) {
      if (!found.has(name)) found.set(name, new Map());
      found.get(name).set(value, (found.get(name).get(value) || 0) + 1);
    }
  }
  const total = (values) => [...values.values()].reduce((sum, count) => sum + count, 0);
  return [...found].filter(([, values]) => {
    return values.size > 1 ? values.size <= 60 : values.size === 1 && total(values) < shots.size;
  });
}

// Width by height; the server's default where the request does not say.
function ratioOf({ request }) {
  const [width, height] = /^\d+:\d+$/.test(request.aspectRatio || "") ? request.aspectRatio.split(":").map(Number) : [16, 9];
  return width > 0 && height > 0 ? width / height : 16 / 9;
}

// The shape of the frames: that of most of the videos.
function commonRatio() {
  const counts = new Map();
  for (const shot of shots.values()) counts.set(ratioOf(shot), (counts.get(ratioOf(shot)) || 0) + 1);
  return [...counts].sort((a, b) => b[1] - a[1])[0]?.[0] ?? 16 / 9;
}

page.shots.forEach(take);
