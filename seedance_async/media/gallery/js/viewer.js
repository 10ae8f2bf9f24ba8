// One shot large, with its sound, its whole prompt, and everything that is known of it.

const viewer = byId("viewer");
const times = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });

function openViewer(id) {
  const shot = shots.get(id);
  if (!shot) return;
  stopPreview();
  setCurrent(id);
  viewer.shot = id;
  emptyViewer();
  viewer.append(stageOf(shot), sheetOf(shot));
  viewer.setAttribute("aria-label", labelOf(shot));
  if (!viewer.open) viewer.showModal();
  viewer.querySelector("video")?.focus();
}

function emptyViewer() {
  const video = viewer.querySelector("video");
  if (video) {
    video.pause();
    video.removeAttribute("src");
  }
  viewer.replaceChildren();
}

function stageOf(shot) {
  const stage = h("div", { class: "stage" });
  if (!shot.video) {
    stage.classList.add(shot.state);
    stage.append(frameOf(shot).firstChild);
    return stage;
  }
  const video = h("video", { src: shot.video, poster: shot.poster, controls: true, loop: true, playsinline: true, "aria-label": shot.title });
  video.muted = preview.muted;
  video.addEventListener("volumechange", () => { preview.muted = video.muted; });
  stage.classList.add("film");
  stage.append(video);
  if (!still.matches) resume(video);
  return stage;
}

function sheetOf(shot) {
  const place = view.list.findIndex((each) => each.id === shot.id);
  const go = (step, label, symbol) => button(label, () => step(), { symbol, shown: "", class: "round" });
  return h("div", { class: "sheet" },
    h("div", { class: "bar" },
      h("span", { class: "place" }, `${place + 1} of ${view.list.length}`),
      go(() => step(-1), "Previous", "back"), go(() => step(1), "Next", "next"),
      go(() => viewer.close(), "Close", "close")),
    h("p", { class: `badge ${shot.state}` }, stateName(shot.state)),
    h("h2", { class: "full", dir: "auto" }, shot.title),
    shot.error && h("p", { class: "reason", dir: "auto" }, shot.error),
    shot.next_step && h("p", { class: "next", dir: "auto" }, shot.next_step),
    h("div", { class: "marks" }, stars(shot), compareButton(shot), pickButton(shot)),
    h("dl", {}, rowsOf(shot).map(([name, value]) => [h("dt", {}, name), h("dd", { dir: "auto" }, value)])),
    h("div", { class: "acts" },
      shot.prompt && button("Copy prompt", () => copy(shot.prompt)),
      shot.request_id && button("Copy id", () => copy(shot.request_id)),
      shot.video && h("a", { class: "button", href: shot.video, download: shot.name }, h("span", {}, "Save video"))));
}

function rowsOf(shot) {
  const seconds = shot.began && shot.ended ? shot.ended - shot.began : null;
  const media = (shot.request.mediaUrls || []).map(nameOfMedium).join("\n");
  return [
    ["Line", shot.line], ...shot.values,
    ["Cost", shot.credits === undefined ? null : counted(shot.credits, "credit")],
    ["Submitted", shot.began && times.format(new Date(shot.began * 1000))],
    ["Took", seconds === null ? null : clock(seconds)],
    ["References", media], ["File", shot.name], ["Id", shot.request_id],
  ].filter(([, value]) => value !== null && value !== undefined && value !== "").map(([name, value]) => [name, String(value)]);
}

// What follows a question mark may be a signature.
function nameOfMedium(url) {
  if (url.from) return `${url.frame ? `the ${url.frame} frame of` : "the video of"} ${url.from}`;
  return String(url).split(/[?#]/)[0].split("/").pop();
}

function step(by) {
  const shot = neighbour(by);
  if (!shot) return;
  shellOf(shot).scrollIntoView({ block: "nearest" });
  openViewer(shot.id);
}

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    say("Copied");
  } catch {
    say("The browser does not let this page copy");
  }
}

viewer.addEventListener("close", () => {
  emptyViewer();
  moveTo(shots.get(viewer.shot)); // and not to the card from which it was opened
});
