// What was chosen, as the file of the next batch: one request a line, as `seedance batch` reads it.

const exporting = byId("export");
const SETS = {
  picks: ["Picks", (shot) => markOf(shot.id).pick],
  rated: ["Rated 4 and 5", (shot) => markOf(shot.id).rating >= 4],
  shown: ["All that are shown", (shot) => view.list.includes(shot)],
  unmade: ["All without a video", (shot) => !shot.video && shot.state !== "running"],
};
const plan = { set: "picks", changes: {} };

function chosenForExport() {
  const [, wanted] = SETS[plan.set];
  return [...shots.values()].filter((shot) => shot.prompt && wanted(shot)).sort(inOrder);
}

// The jobs whose videos a request builds on, by their keys.
function sourcesOf({ request }) {
  return (request.mediaUrls || []).map((medium) => medium.from).filter(Boolean);
}

function exportedLines() {
  const found = chosenForExport();
  const named = new Set(found.flatMap(sourcesOf));
  return found.map((shot) => {
    const { rating } = markOf(shot.id);
    const key = named.has(shot.key) ? { key: shot.key } : {};
    const line = { ...key, ...shot.request, ...plan.changes, ...shot.columns, ...(rating ? { rating } : {}) };
    return `${JSON.stringify(line)}\n`;
  }).join("");
}

function openExport() {
  stopPreview();
  const [first] = Object.keys(SETS).filter((name) => [...shots.values()].some(SETS[name][1]));
  if (!chosenForExport().length && first) plan.set = first;
  const again = (name) => (value) => {
    if (value) plan.changes[name] = value;
    else delete plan.changes[name];
    showPlan();
  };
  const models = [...new Set([...shots.values()].map((shot) => shot.request.model).filter(Boolean))];
  exporting.replaceChildren(
    h("h2", { id: "export-title" }, "Export the next batch"),
    h("p", { class: "quiet" }, "A file of requests for ", h("code", {}, "seedance batch"), ". Draft small, choose here, then make the chosen ones large."),
    h("div", { class: "fields" },
      select("Which", Object.entries(SETS).map(([name, [text]]) => [name, text]), plan.set, (set) => { plan.set = set; showPlan(); }),
      select("Resolution", [["", "As it was"], ["480p", "480p"], ["720p", "720p"], ["1080p", "1080p"]], plan.changes.resolution || "", again("resolution")),
      models.length > 1 && select("Model", [["", "As it was"], ...models.map((each) => [each, each])], plan.changes.model || "", again("model"))),
    h("p", { id: "plan", role: "status" }),
    h("div", { class: "acts" }, button("Cancel", () => exporting.close(), { class: "button plain" }),
      button("Save picks.jsonl", saveLines, { class: "button strong", id: "save" })));
  showPlan();
  exporting.showModal();
}

function showPlan() {
  const found = chosenForExport();
  const keys = new Set(found.map((shot) => shot.key));
  const unnamed = found.filter(({ request }) => (request.mediaUrls || []).some((medium) => !medium.from && medium.startsWith("sha256:")));
  const loose = found.filter((shot) => sourcesOf(shot).some((key) => !keys.has(key)));
  const notes = [
    found.length ? `${counted(found.length, "request")}.` : "Nothing is chosen yet: P picks, 1 to 5 rate.",
    unnamed.length && `${unnamed.length} had files whose place is not known: name these again in the file.`,
    loose.length && `${loose.length} begin with the video of a job that is not among them.`,
  ];
  byId("plan").textContent = notes.filter(Boolean).join(" ");
  byId("save").disabled = !found.length;
}

function saveLines() {
  const address = URL.createObjectURL(new Blob([exportedLines()], { type: "application/jsonl" }));
  h("a", { href: address, download: "picks.jsonl" }).click();
  setTimeout(() => URL.revokeObjectURL(address), 10000);
  exporting.close();
  say(`Saved: seedance batch picks.jsonl`);
}
