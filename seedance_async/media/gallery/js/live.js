// What changes while the page is open, if a server tells; and the start of it all.

function listen() {
  const line = byId("live");
  const tell = (text, state) => {
    line.hidden = false;
    line.className = state;
    if (line.textContent !== text) line.textContent = text;
  };
  let known = page.version;
  const connect = () => {
    const source = new EventSource(`${page.events}?since=${known}`);
    source.onopen = () => tell("Live", "live");
    source.onmessage = (event) => {
      const news = JSON.parse(event.data);
      known = news.version;
      learn(news);
    };
    source.onerror = () => {
      source.close();
      tell("Not live: the server is gone", "gone");
      setTimeout(connect, 2000);
    };
  };
  connect();
}

function learn(news) {
  if (news.all) [...shots.keys()].forEach((id) => news.shots.some((shot) => shot.id === id) || forget(id));
  news.gone.forEach(forget);
  news.shots.forEach((raw) => {
    const before = shots.get(raw.id);
    take(raw);
    const shell = shells.get(raw.id);
    if (before && shell?.firstChild) fill(shell, true);
  });
  refresh();
}

function forget(id) {
  shots.delete(id);
  chosen.delete(id);
  shells.get(id)?.remove();
  shells.delete(id);
}

function showElapsed() {
  document.querySelectorAll(".elapsed").forEach((each) => {
    const began = Number(each.dataset.began);
    if (began) each.textContent = clock(Date.now() / 1000 - began);
  });
}

byId("search").addEventListener("input", (event) => search(event.target.value));
byId("open-filters").addEventListener("click", () => toggleFilters());
byId("open-export").addEventListener("click", openExport);
byId("open-help").addEventListener("click", openHelp);
document.querySelectorAll("dialog").forEach((dialog) => {
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
});
toggleFilters(matchMedia("(min-width: 900px)").matches);
refresh();
if (page.events) {
  listen();
  setInterval(showElapsed, 1000);
}
performance.mark("usable");
