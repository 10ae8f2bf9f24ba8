// Two to four videos side by side on one clock: played, paused, moved and stepped together.

const compare = byId("compare");
const tray = byId("tray");
const MOST = 4;
const chosen = new Set();
const sync = { videos: [], lead: null, frame: 0, timer: null, play: null, time: null };
const FRAME = 1 / 24;

function compareButton(shot) {
  if (!shot.video) return null;
  const made = button("Compare", () => toggleChosen(shot.id), { symbol: "compare", shown: "", class: "round", "data-compare": shot.id });
  made.setAttribute("aria-pressed", chosen.has(shot.id));
  return made;
}

function toggleChosen(id) {
  if (!shots.get(id)?.video) return;
  if (chosen.has(id)) chosen.delete(id);
  else if (chosen.size === MOST) say("Four at most");
  else chosen.add(id);
  showTray();
}

function showTray() {
  document.querySelectorAll("[data-compare]").forEach((each) => each.setAttribute("aria-pressed", chosen.has(each.dataset.compare)));
  tray.hidden = chosen.size === 0;
  document.documentElement.classList.toggle("with-tray", chosen.size > 0);
  const few = chosen.size < 2;
  tray.replaceChildren(
    ...[...chosen].map((id) => {
      const shot = shots.get(id);
      const name = `Leave out ${shot.number || shot.title}`;
      return h("button", { type: "button", class: "thumb", "aria-label": name, title: name, onclick: () => toggleChosen(id) },
        shot.poster ? h("img", { src: shot.poster, alt: "" }) : h("span", {}, shot.number || "•"));
    }),
    h("span", { class: "grow" }, few ? "Choose one to three more" : ""),
    button("Clear", () => { chosen.clear(); showTray(); }, { class: "button plain" }),
    button(`Compare ${chosen.size}`, openCompare, { class: "button strong", disabled: few }),
  );
}

function openCompare() {
  if (chosen.size < 2) return say("Choose two to four videos to compare, with C");
  stopPreview();
  const videos = [...chosen].map((id) => shots.get(id));
  compare.style.setProperty("--shape", Math.min(...videos.map(ratioOf)));
  compare.className = `wide of-${videos.length}`;
  compare.replaceChildren(
    h("div", { class: "bar" }, h("span", { class: "place" }, `Comparing ${videos.length}`),
      button("Close", () => compare.close(), { symbol: "close", shown: "", class: "round" })),
    h("div", { class: "panes" }, videos.map(paneOf)), controls());
  sync.videos = [...compare.querySelectorAll("video")];
  sync.lead = sync.videos[0];
  sync.videos.forEach((video) => video.addEventListener("loadedmetadata", chooseLead));
  compare.showModal();
  compare.querySelector(".pane").focus();
  if (!still.matches) playTogether();
  sync.frame = requestAnimationFrame(tick);
}

function paneOf(shot, index) {
  const video = h("video", { src: shot.video, playsinline: true, preload: "auto", "aria-hidden": "true", tabindex: "-1" });
  video.muted = true;
  const pane = h("section", { class: "pane", tabindex: "0", "aria-label": `${index + 1}: ${labelOf(shot)}` },
    h("div", { class: "stage film" }, video),
    h("p", { class: "prompt", dir: "auto" }, shot.title),
    h("div", { class: "marks" }, h("span", { class: "facts" }, facts(shot)), stars(shot), pickButton(shot)));
  pane.shot = shot.id;
  pane.addEventListener("click", (event) => event.target === video && toggleTogether());
  return pane;
}

function controls() {
  sync.play = button("Play or pause", toggleTogether, { symbol: "pause", shown: "", class: "round strong" });
  sync.timer = h("input", { type: "range", min: 0, max: 1, step: 0.001, value: 0, "aria-label": "Time", oninput: () => seekTogether(Number(sync.timer.value)) });
  sync.time = h("span", { class: "time" }, "0:00");
  return h("div", { class: "controls" }, sync.play,
    button("One frame back", () => stepTogether(-1), { symbol: "back", shown: "", class: "round" }),
    button("One frame on", () => stepTogether(1), { symbol: "next", shown: "", class: "round" }),
    sync.timer, sync.time,
    select("Speed", [["0.25", "¼×"], ["0.5", "½×"], ["1", "1×"], ["2", "2×"]], "1", (rate) => {
      sync.videos.forEach((video) => { video.defaultPlaybackRate = video.playbackRate = Number(rate); });
    }));
}

// The longest leads; the others wait at their last frame.
function chooseLead() {
  if (!sync.videos.length) return; // closed while a video was loading
  sync.lead = sync.videos.reduce((a, b) => ((b.duration || 0) > (a.duration || 0) ? b : a));
  sync.timer.max = sync.lead.duration || 1;
}

async function playTogether() {
  if (sync.lead.ended) seekTogether(0);
  await Promise.all(sync.videos.map(ready));
  if (!compare.open) return;
  const time = sync.lead.currentTime;
  sync.videos.forEach((video) => { if (Math.abs(video.currentTime - time) > FRAME) video.currentTime = Math.min(time, video.duration || time); });
  await Promise.all(sync.videos.map((video) => video.ended || video.play().catch(() => {})));
}

function ready(video) {
  if (video.readyState >= 3 || video.error) return true;
  return new Promise((done) => ["canplay", "error"].forEach((name) => video.addEventListener(name, done, { once: true })));
}

function pauseTogether() {
  sync.videos.forEach((video) => video.pause());
  seekTogether(sync.lead.currentTime);
}

function toggleTogether() {
  if (sync.lead.paused) playTogether();
  else pauseTogether();
}

function seekTogether(time) {
  sync.videos.forEach((video) => { video.currentTime = Math.max(0, Math.min(time, video.duration || 0)); });
}

function stepTogether(frames) {
  sync.videos.forEach((video) => video.pause());
  seekTogether(sync.lead.currentTime + frames * FRAME);
}

// Keeps the others at the lead's time: a little faster or slower, and a jump only if far away.
function tick() {
  const { lead } = sync;
  for (const video of sync.videos) {
    const behind = Math.min(lead.currentTime, video.duration || 0) - video.currentTime;
    if (video === lead || lead.paused || video.ended || video.seeking) continue;
    if (Math.abs(behind) > 0.3) video.currentTime += behind;
    else video.playbackRate = video.defaultPlaybackRate * (1 + Math.max(-0.2, Math.min(0.2, behind * 2)));
  }
  if (lead.ended) {
    seekTogether(0);
    playTogether();
  }
  if (document.activeElement !== sync.timer) sync.timer.value = lead.currentTime;
  sync.time.textContent = `${lead.currentTime.toFixed(1)} / ${(lead.duration || 0).toFixed(1)} s`;
  sync.play.querySelector("use").setAttribute("href", lead.paused ? "#i-play" : "#i-pause");
  sync.frame = requestAnimationFrame(tick);
}

compare.addEventListener("close", () => {
  cancelAnimationFrame(sync.frame);
  sync.videos.forEach((video) => { video.pause(); video.removeAttribute("src"); });
  sync.videos = [];
  compare.replaceChildren();
  moveTo(shots.get(view.current));
});
