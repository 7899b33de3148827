// Keeps times right and copies commands. Pages work without it.
"use strict";

document.documentElement.classList.add("scripted");

// The server's clock counts, whatever the browser's shows.
const said = document.querySelector('meta[name="server-time"]');
const offset = said ? Date.parse(said.content) - Date.now() : 0;

function span(seconds) {
  if (seconds < 60) return Math.max(0, seconds) + " s";
  const parts = [];
  for (const [length, name] of [[86400, "d"], [3600, "h"], [60, "min"]]) {
    const n = Math.floor(seconds / length);
    if (n > 0) {
      parts.push(n + " " + name);
      seconds -= n * length;
    }
  }
  return parts.slice(0, 2).join(" ");
}

function tick() {
  const now = Date.now() + offset;
  for (const t of document.querySelectorAll("time[data-ago], time[data-left]")) {
    const at = Date.parse(t.dateTime);
    const left = Math.floor((at - now) / 1000);
    const text = span("left" in t.dataset ? left : -left);
    if (t.textContent !== text) t.textContent = text;
    const soon = t.closest("[data-soon]");
    if (soon) soon.classList.toggle("soon", left < Number(soon.dataset.soon));
  }
}
tick();
setInterval(tick, 1000);
document.addEventListener("htmx:afterSwap", tick);

document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy]");
  if (!button) return;
  try {
    await navigator.clipboard.writeText(button.dataset.copy);
    button.textContent = "Copied";
  } catch {
    button.textContent = "Select it";
  }
  setTimeout(() => { button.textContent = "Copy"; }, 2000);
});

// The key / leads to the search, where nothing is being typed.
document.addEventListener("keydown", (event) => {
  if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.closest("input, textarea, select, [contenteditable]")) return;
  const box = document.querySelector("[data-search]");
  if (!box) return;
  event.preventDefault();
  box.focus();
  box.select();
});

// What is shown is old when polls fail; that is said.
function stale(is) {
  document.getElementById("stale").classList.toggle("hidden", !is);
}
for (const name of ["htmx:sendError", "htmx:timeout", "htmx:responseError"]) {
  document.addEventListener(name, () => stale(true));
}
document.addEventListener("htmx:afterRequest", (event) => {
  if (event.detail.successful) stale(false);
});

// A poll that finds nobody signed in any more is told to go to the sign-in page.
document.addEventListener("htmx:beforeSwap", (event) => {
  if (event.detail.xhr.responseURL && new URL(event.detail.xhr.responseURL).pathname === "/login") {
    event.detail.shouldSwap = false;
    location.reload();
  }
});
