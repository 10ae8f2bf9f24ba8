// The one player that runs in the grid: on the card under the pointer, or in focus, or tapped.

const preview = { card: null, video: null, muted: true, timer: 0 };
const still = matchMedia("(prefers-reduced-motion: reduce)");

function startPreview(card, shot) {
  clearTimeout(preview.timer);
  if (preview.card === card || !shot.video) return;
  stopPreview();
  const video = h("video", { src: shot.video, loop: true, playsinline: true, tabindex: "-1", "aria-hidden": "true" });
  video.muted = preview.muted;
  video.addEventListener("timeupdate", () => {
    card.style.setProperty("--done", video.duration ? video.currentTime / video.duration : 0);
  });
  video.addEventListener("playing", () => card.classList.add("playing"));
  video.addEventListener("pause", () => card.classList.remove("playing"));
  Object.assign(preview, { card, video });
  card.querySelector(".frame").append(video);
  resume(video);
}

function resume(video) {
  video.play().catch(() => {}); // it was removed, or the browser wants a click first
}

function stopPreview() {
  clearTimeout(preview.timer);
  if (!preview.card) return;
  preview.video.pause();
  preview.video.removeAttribute("src");
  preview.video.load(); // gives its decoder and its connection back
  preview.video.remove();
  preview.card.classList.remove("playing");
  preview.card.style.removeProperty("--done");
  Object.assign(preview, { card: null, video: null });
}

// A moment later, so that a pointer that passes over a row of cards starts none.
function hint(card, shot) {
  clearTimeout(preview.timer);
  preview.timer = setTimeout(() => startPreview(card, shot), 90);
}

function togglePreview(card, shot) {
  if (preview.card !== card) startPreview(card, shot);
  else if (preview.video.paused) resume(preview.video);
  else preview.video.pause();
}

function toggleSound() {
  preview.muted = !preview.muted;
  document.querySelectorAll(".frame video, .stage video").forEach((video) => { video.muted = preview.muted; });
  say(preview.muted ? "Sound off" : "Sound on");
}
