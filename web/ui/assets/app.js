// Keeps pages fresh and times right, acts on keys, and copies. Pages work without it.
"use strict";

document.documentElement.classList.add("scripted");

const $ = (id) => document.getElementById(id);
const one = (selector, from = document) => from.querySelector(selector);
const all = (selector, from = document) => [...from.querySelectorAll(selector)];

// What a browser keeps for its person. Some keep nothing.
const kept = {
  get(name) { try { return localStorage.getItem(name); } catch { return null; } },
  set(name, value) { try { localStorage.setItem(name, value); } catch {} },
};

// made makes an element: its attributes, then what is in it.
function made(name, attributes = {}, ...inside) {
  const e = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) e.setAttribute(key, value);
  e.append(...inside);
  return e;
}

// Times. The server's clock counts, whatever the browser's shows.
const clock = one('meta[name="server-time"]');
const offset = clock ? Date.parse(clock.content) - Date.now() : 0;

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

let before = Date.now() + offset;
function tick() {
  const now = Date.now() + offset;
  for (const t of all("time[data-ago], time[data-left]")) {
    const at = Date.parse(t.dateTime);
    const left = Math.floor((at - now) / 1000);
    const text = span("left" in t.dataset ? left : -left);
    if (t.textContent !== text) t.textContent = text;
    const soon = t.closest("[data-soon]");
    if (soon) soon.classList.toggle("soon", left < Number(soon.dataset.soon));
    if ("left" in t.dataset && at <= now && at > before) setTimeout(look, 500); // it is over
  }
  before = now;
}
setInterval(tick, 1000);

// Live updates. The part of the page with data-live names a topic; whenever the
// server says that something of it has changed, and each time that the stream
// begins, the page is read again, and that part of it replaced if it is another.
const live = () => one("[data-live]");
let stream = null, looking = false, again = false, looked = Date.now();
const paused = () => kept.get("live") === "off";

async function look() {
  if (!live()) return;
  if (looking) {
    again = true;
    return;
  }
  looking = true;
  await new Promise((done) => setTimeout(done, Math.max(0, looked + 500 - Date.now())));
  try {
    const was = live();
    const answer = await fetch(location.href, { headers: { "If-None-Match": `"${was.dataset.key}"` }, cache: "no-store", redirect: "manual", signal: AbortSignal.timeout(15000) });
    if (answer.status === 200) replace(was, new DOMParser().parseFromString(await answer.text(), "text/html"));
    else if (answer.type === "opaqueredirect" || [401, 403, 404].includes(answer.status)) location.reload(); // signed out, or gone
    else if (answer.status !== 304) throw new Error(answer.status);
    if (!stream || stream.readyState === EventSource.OPEN) stale(false);
  } catch {
    stale(true);
  }
  looked = Date.now();
  looking = false;
  if (again) {
    again = false;
    look();
  }
}

// What somebody is typing or has chosen stays, as long as there is a place for it.
const place = (field) => [field.form?.getAttribute("action"), field.name, field.type === "radio" || field.type === "checkbox" ? field.value : ""].join(" ");
const chosen = (field) => field.type === "radio" || field.type === "checkbox" ? field.checked !== field.defaultChecked
  : field.options ? !field.selectedOptions[0]?.defaultSelected : field.value !== field.defaultValue;

// named tells an element from others, on the page as it was and as it is.
const named = (e) => [e.tagName, e.getAttribute("href"), "form" in e ? place(e) : "", e.type === "hidden" || !e.value ? e.textContent : e.value].join("|");

function replace(was, page) {
  const now = page.getElementById(was.id);
  if (!now) {
    location.reload();
    return;
  }
  if (was.isEqualNode(now)) return;
  const fields = new Map(all("input:not([type=hidden]), select, textarea", was).filter(chosen).map((f) => [place(f), f]));
  const open = new Set(all("details[open][id]", was).map((d) => d.id));
  const focus = was.contains(document.activeElement) ? document.activeElement : null;
  const rows = new Map(all("[data-row]", was).map((r) => [r.dataset.row, r.dataset.version]));
  const is = document.importNode(now, true);
  was.replaceWith(is);
  for (const f of all("input:not([type=hidden]), select, textarea", is)) {
    const typed = fields.get(place(f));
    if (!typed) continue;
    if (f.type === "radio" || f.type === "checkbox") f.checked = typed.checked;
    else f.value = typed.value;
    f.dispatchEvent(new Event("change", { bubbles: true }));
  }
  for (const d of all("details[id]", is)) if (open.has(d.id)) d.open = true;
  if (focus) all("a, button, input, select, textarea, summary", is).find((e) => named(e) === named(focus))?.focus({ preventScroll: true });
  let n = 0;
  for (const r of all("[data-row]", is)) {
    if (rows.get(r.dataset.row) === r.dataset.version) continue;
    r.classList.add("flash");
    n++;
  }
  $("told").textContent = n > 1 ? `${n} entries have changed` : "The page has changed";
  tick();
  document.dispatchEvent(new Event("replaced"));
}

function stale(is) {
  const banner = $("stale");
  banner.hidden = !is;
  const text = "Live updates are lost; trying again. What you see may be old.";
  if (is && banner.textContent !== text) banner.textContent = text;
}

function follow() {
  const topic = live()?.dataset.live;
  if (!topic || stream || document.hidden || paused()) return;
  const mine = stream = new EventSource("/v1/events?topic=" + encodeURIComponent(topic));
  stream.onopen = () => {
    stale(false);
    look();
  };
  stream.addEventListener("look", look);
  stream.addEventListener("cut", () => {
    unfollow();
    look();
    setTimeout(follow, 30000);
  });
  stream.onerror = () => {
    if (mine.readyState === EventSource.CLOSED) { // refused: it is asked again later, and the page by itself until then
      unfollow();
      look();
      setTimeout(follow, 30000);
    } else if (!document.hidden) {
      stale(true);
    }
  };
}

function unfollow() {
  stream?.close();
  stream = null;
}

if (live()) {
  follow();
  addEventListener("pagehide", unfollow);
  addEventListener("pageshow", follow);
  document.addEventListener("visibilitychange", () => document.hidden ? unfollow() : follow());
  // Where there is no stream; for rights that change without a word; and as often as
  // the page says by data-every, in seconds.
  setInterval(() => {
    const streaming = stream && stream.readyState === EventSource.OPEN;
    const every = Number(live()?.dataset.every) || (streaming ? 60 : 10);
    if (!document.hidden && !paused() && Date.now() - looked >= every * 1000) look();
  }, 1000);
}
tick();

// Copying.
async function copy(text, button) {
  const was = button?.textContent;
  let done = "Copied";
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    done = "Select it";
  }
  $("told").textContent = done;
  if (!button) return;
  button.textContent = done;
  setTimeout(() => { button.textContent = was; }, 2000);
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-copy]");
  if (button) copy(button.dataset.copy, button);
  const act = event.target.closest("button[data-do]")?.dataset.do;
  if (act === "palette") palette();
  if (act === "help") help();
});

// A secret is shown for a while, and not to who goes back or loads the page again.
const secret = $("secret");
if (secret) {
  history.replaceState(null, "", secret.dataset.back);
  const hide = () => secret.replaceChildren("It is not shown any more.");
  setTimeout(hide, Date.parse(secret.dataset.until) - Date.now() - offset);
  addEventListener("pagehide", hide);
}

// Colours.
const theme = one('[data-do="theme"]');
if (theme) {
  theme.value = kept.get("theme") || "";
  theme.addEventListener("change", () => {
    kept.set("theme", theme.value);
    if (theme.value) document.documentElement.dataset.theme = theme.value;
    else delete document.documentElement.dataset.theme;
  });
}

// A form that decides on several says how many are picked.
function counted() {
  for (const form of all("form[data-picks]")) {
    const n = all("[name=vote]:checked", form).length;
    for (const e of all("[data-count]", form)) e.textContent = n;
    one("[data-bar]", form).hidden = n === 0;
  }
}
document.addEventListener("change", counted);
document.addEventListener("replaced", counted);
counted();

// Dialogs.
function dialog(label, ...inside) {
  const d = made("dialog", { "aria-label": label, class: "sheet" }, ...inside);
  d.addEventListener("close", () => d.remove());
  d.addEventListener("click", (event) => { if (event.target === d) d.close(); });
  document.body.append(d);
  d.showModal();
  return d;
}

function option(label, on, change) {
  const box = made("input", { type: "checkbox", class: "checkbox checkbox-sm" });
  box.checked = on;
  box.addEventListener("change", () => change(box.checked));
  return made("label", { class: "sheet-option" }, box, label);
}

const singleKeys = () => kept.get("single-keys") !== "off";

function help() {
  if (one("dialog[open]")) return;
  const list = made("dl", { class: "facts text-sm" });
  const entries = [["Ctrl K", "jump to a target, request, person or page"], ["/", "search"], ["c", "ask for access"]];
  for (const a of all("nav.rail [data-go]")) if (a.dataset.go) entries.push(["g " + a.dataset.go, a.textContent]);
  entries.push(["j k", "next, previous entry"], ["o", "open it"], ["x", "pick it"], ["a d", "to approving, denying"], ["e", "to extending"], ["w", "watch"], ["y", "copy the address"], ["?", "this list"], ["Esc", "close, leave a field"]);
  for (const [keys, what] of entries) list.append(made("dt", {}, ...keys.split(" ").map((k) => made("kbd", { class: "kbd" }, k))), made("dd", {}, what));
  const close = made("button", { class: "btn btn-sm" }, "Close");
  const d = dialog("Keys", made("h2", {}, "Keys"), list,
    option("Keys without Ctrl or Alt act", singleKeys(), (on) => kept.set("single-keys", on ? "on" : "off")),
    option("The page changes by itself", !paused(), (on) => {
      kept.set("live", on ? "on" : "off");
      if (on) follow();
      else unfollow();
    }), close);
  close.addEventListener("click", () => d.close());
}

// The palette: pages at once, and what the server finds.
function palette() {
  if (one("dialog[open]")) return;
  const input = made("input", { class: "input w-full text-base", type: "search", role: "combobox", "aria-label": "Jump to a target, request, person or page", "aria-controls": "hits", "aria-expanded": "true", "aria-autocomplete": "list", autocomplete: "off", spellcheck: "false", maxlength: "64", placeholder: "Target, request, person or page" });
  const hits = made("ul", { id: "hits", role: "listbox", "aria-label": "Found" });
  const d = dialog("Jump to", input, hits);
  let at = 0, timer = 0, asked = 0;
  const pages = all("nav.rail a").map((a) => ({ kind: "page", name: a.textContent, detail: "", url: a.getAttribute("href") }));
  pages.push({ kind: "page", name: "Ask for access", detail: "", url: "/ask" });
  function mark(n) {
    const list = all("li", hits);
    if (list.length === 0) return;
    at = (n + list.length) % list.length;
    list.forEach((li, i) => li.setAttribute("aria-selected", i === at));
    list[at].scrollIntoView({ block: "nearest" });
    input.setAttribute("aria-activedescendant", list[at].id);
  }
  function show(list) {
    hits.replaceChildren(...list.map((h, i) => {
      const li = made("li", { role: "option", id: "hit-" + i, "data-url": h.url }, made("span", { class: "hit-kind" }, h.kind), made("span", { class: "hit-name" }, h.name), made("span", { class: "hit-detail" }, h.detail));
      li.addEventListener("click", () => { location.href = h.url; });
      return li;
    }));
    if (list.length === 0) hits.append(made("li", { role: "option", "aria-disabled": "true", id: "hit-none" }, "Nothing that you may know of"));
    input.removeAttribute("aria-activedescendant");
    if (list.length > 0) mark(0);
  }
  function find() {
    const q = input.value.trim().toLowerCase();
    const found = pages.filter((p) => p.name.toLowerCase().includes(q));
    const mine = ++asked;
    clearTimeout(timer);
    if (q === "") {
      show(pages);
      return;
    }
    timer = setTimeout(async () => {
      const answer = await fetch("/v1/jump?q=" + encodeURIComponent(q), { cache: "no-store" }).catch(() => null);
      if (mine !== asked || !answer?.ok) return;
      const more = (await answer.json()).items.filter((h) => h.url.startsWith("/"));
      if (mine === asked) show([...more, ...found]);
    }, 150);
  }
  input.addEventListener("input", find);
  input.addEventListener("keydown", (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step) mark(at + step);
    else if (event.key === "Escape") d.close(); // a search field would first be emptied
    else if (event.key === "Enter" && all("[data-url]", hits)[at]) location.href = all("[data-url]", hits)[at].dataset.url;
    else return;
    event.preventDefault();
  });
  show(pages);
}

// Keys. Those that decide lead to the button that does, and press nothing.
let going = 0;
const row = () => document.activeElement?.closest("[data-row]");

function move(step) {
  const rows = all("[data-row]");
  if (rows.length === 0) return;
  const i = rows.indexOf(row());
  const to = rows[i < 0 ? (step > 0 ? 0 : rows.length - 1) : Math.min(Math.max(i + step, 0), rows.length - 1)];
  one("a", to)?.focus();
  to.scrollIntoView({ block: "nearest" });
}

function reach(key) {
  const to = (row() && one(`[data-key="${key}"]`, row())) || all(`[data-key="${key}"]`).find((e) => e.offsetParent !== null);
  if (!to) return;
  const closed = to.closest("details:not([open])");
  if (closed) closed.open = true;
  if (to.tagName === "A") to.click();
  else to.focus();
}

const keys = {
  "?": help,
  "/": () => {
    const box = one("[data-search]");
    if (!box) return palette();
    box.focus();
    box.select();
  },
  c: () => { location.href = "/ask"; },
  j: () => move(1),
  k: () => move(-1),
  o: () => row() && one("a", row())?.click(),
  x: () => row() && one("input[type=checkbox]", row())?.click(),
  a: () => reach("a"),
  d: () => reach("d"),
  e: () => reach("e"),
  w: () => reach("w"),
  y: () => copy(location.href),
};

document.addEventListener("keydown", (event) => {
  if ((event.ctrlKey || event.metaKey) && !event.altKey && !event.shiftKey && event.key.toLowerCase() === "k" && one('[data-do="palette"]')) {
    event.preventDefault();
    palette();
    return;
  }
  if (event.ctrlKey || event.metaKey || event.altKey || one("dialog[open]") || event.defaultPrevented) return;
  if (event.target.closest("input:not([type=checkbox], [type=radio]), textarea, select, [contenteditable]")) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  // The player has keys of its own; nobody who is not signed in has any.
  if (!singleKeys() || $("player") || !one("nav.rail")) return;
  if (going && Date.now() - going < 1500) {
    going = 0;
    const to = all("nav.rail [data-go]").find((a) => a.dataset.go === event.key);
    if (to) {
      event.preventDefault();
      to.click();
      return;
    }
  }
  if (event.key === "g") {
    going = Date.now();
    return;
  }
  const act = keys[event.key];
  if (!act) return;
  event.preventDefault();
  act();
});
