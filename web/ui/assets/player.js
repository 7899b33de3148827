// The player of a recording. It shows what the server hands out: the picture by
// asciinema-player, everything else as text. Built as a function of its own.
"use strict";

const $ = (id) => document.getElementById(id);

// While the recording is being prepared, look again.
const preparing = $("preparing");
if (preparing) {
  setInterval(async () => {
    const answer = await fetch(`/v1/sessions/${preparing.dataset.session}/play`).catch(() => null);
    if (answer && answer.status !== 409) location.reload();
  }, 2000);
}

const root = $("player");
if (root) start();

async function start() {
  const base = `/v1/sessions/${root.dataset.session}/play`;
  const terminal = $("terminal");
  let entries = []; // the texts of the recording; el, link and copy when the list is there
  let visible = []; // those that the filter leaves
  const at = { now: Number(root.dataset.t), index: 0, playing: false, absolute: false };
  const speeds = [0.5, 1, 2, 4, 8, 16];
  const idles = ["0", "2", "0.5"];
  let speed = 1;
  let idle = "2";
  let player = null;
  let play = null; // what the server says of the recording
  let starts = []; // where the segments begin in the index that is played
  let pauses = new Map(); // number of a segment -> where time is left out of it
  let hits = [];
  let hit = -1;

  // The player has no hook for what it fetches, and where time is left out stands
  // in there. So what is fetched goes through here. It is kept for a moment: what
  // was fetched to find a place is then not fetched again by the player.
  const plain = window.fetch.bind(window);
  const kept = new Map();
  window.fetch = async (what, how) => {
    const url = new URL(what instanceof Request ? what.url : what, location.href);
    const part = /\/play\/(index|segments\/(\d+))$/.exec(url.pathname);
    if (!part) return plain(what, how);
    if (!kept.has(url.href)) {
      kept.set(url.href, plain(what, how).then(async (answer) => (answer.ok ? answer.text() : answer)));
      if (kept.size > 6) kept.delete(kept.keys().next().value);
    }
    const text = await kept.get(url.href).catch((error) => {
      kept.delete(url.href);
      throw error;
    });
    if (text instanceof Response) {
      kept.delete(url.href);
      refused(text.clone());
      return text.clone();
    }
    if (part[2] && url.searchParams.get("idle") === idle) {
      const n = Number(part[2]);
      if (!pauses.has(n)) pauses.set(n, JSON.parse(text).pauses);
    }
    return new Response(text, { headers: { "Content-Type": "application/json" } });
  };

  async function refused(answer) {
    let why = "This part of the recording could not be had.";
    try {
      why = (await answer.json()).detail || why;
    } catch { /* no sentence came with it */ }
    say(why, true);
  }

  const said = $("said");
  function say(text, bad) {
    said.textContent = text;
    said.classList.toggle("sr-only", !bad);
  }

  // The last one of a sorted list that is not after x; 0 when there is none.
  function last(list, x, of) {
    let low = 0;
    for (let high = list.length; low + 1 < high;) {
      const middle = (low + high) >> 1;
      if (of(list[middle]) <= x) low = middle;
      else high = middle;
    }
    return low;
  }
  const segmentOf = (t) => last(play.segments, t, (s) => s.at);
  const limit = (t) => Math.min(Math.max(t, 0), play.duration);

  // A moment of the index as one of the recording.
  function real(t) {
    const n = last(starts, t, (s) => s);
    let moment = play.segments[n].at + t - starts[n];
    for (const [over, cut] of pauses.get(n) || []) if (over <= t + 1e-6) moment += cut;
    const next = play.segments[n + 1];
    return Math.min(moment, next ? next.at : play.duration);
  }

  // A moment of the recording as one of the index.
  async function indexed(t) {
    const n = segmentOf(t);
    if (idle === "0") return t;
    if (!pauses.has(n)) await fetch(`${base}/segments/${n}?idle=${idle}`);
    let from = play.segments[n].at;
    let to = starts[n];
    for (const [over, cut] of pauses.get(n) || []) {
      const back = from + (over - to) + cut; // when the pause is over
      if (t < back) return Math.min(to + t - from, over - 1e-3); // before what ends the pause
      from = back;
      to = over;
    }
    // Half a microsecond more, so that the sum is not before an event of that moment.
    const next = starts[n + 1];
    return Math.min(to + t - from + 5e-7, next === undefined ? Infinity : next - 1e-6);
  }

  // Another speed or other pauses need another player. Of several that are asked
  // for at once the last is built.
  let building = Promise.resolve();
  let asked = 0;
  function build() {
    const n = ++asked;
    building = building.then(() => (n === asked ? rebuild() : undefined)).catch(() => {});
    return building;
  }
  async function rebuild() {
    const going = at.playing;
    const url = `${base}/index?idle=${idle}`;
    pauses = new Map();
    const answer = await fetch(url);
    if (!answer.ok) return;
    const index = await answer.json();
    starts = index.segments.map((s) => s.start);
    const moment = await indexed(at.now);
    if (player) player.dispose();
    player = null; // until the new one stands where the old one stood
    terminal.style.aspectRatio = `${index.term.cols * 0.6 + 1.5} / ${index.term.rows * 1.3333 + 1.5}`;
    const next = AsciinemaPlayer.create({ driver: "recording", format: "segmented", url }, terminal,
      { controls: false, fit: "both", theme: "asciinema", speed, preload: true, startAt: moment, cursorMode: "steady" });
    next.addEventListener("playing", () => playing(true));
    next.addEventListener("pause", () => playing(false));
    next.addEventListener("ended", () => playing(false));
    next.addEventListener("error", () => say("The recording cannot be played on. Load the page again.", true));
    await next.seek(moment);
    player = next;
    at.index = moment;
    $("still").hidden = true;
    if (going) await player.play();
    update();
  }

  const painted = () => new Promise(requestAnimationFrame);

  let seeking = Promise.resolve();
  function seek(t) {
    if (!play) return seeking; // nothing is there yet
    t = limit(t);
    at.now = t;
    show();
    seeking = seeking.then(() => building).then(async () => {
      if (at.now !== t) return; // another one came meanwhile
      const began = performance.now();
      const moment = await indexed(t);
      await player.seek(moment);
      at.index = moment;
      highlight();
      await painted();
      root.dispatchEvent(new CustomEvent("sought", { detail: { at: t, took: performance.now() - began } }));
    }).catch(() => {});
    return seeking;
  }

  function playing(is) {
    at.playing = is;
    $("play").textContent = is ? "Pause" : "Play";
    update();
  }
  const toggle = () => building.then(() => (at.playing ? player?.pause() : player?.play()));

  const moved = (index) => Math.abs(index - at.index) > 1e-6;

  // Called again and again while it plays.
  function update() {
    if (!player) return;
    const index = player.getCurrentTime();
    const now = limit(real(index));
    const left = now - at.now - (index - at.index);
    if (at.playing && left > 1 && index > at.index) chip(`skipped ${span(left)}`);
    if (at.playing || moved(index)) at.now = now;
    at.index = index;
    show();
  }
  setInterval(() => { if (at.playing) update(); }, 100);

  let chipGone = 0;
  function chip(text) {
    const el = $("skipped");
    el.textContent = text;
    el.hidden = false;
    clearTimeout(chipGone);
    chipGone = setTimeout(() => { el.hidden = true; }, 2500);
  }

  function span(s) {
    if (s < 60) return `${Math.round(s)} s`;
    if (s < 3600) return `${Math.round(s / 60)} min`;
    return `${Math.floor(s / 3600)} h ${Math.round(s % 3600 / 60)} min`;
  }

  function clock(t) {
    if (at.absolute) return new Date(Date.parse(play.started) + t * 1000).toISOString().slice(0, 19).replace("T", " ") + " UTC";
    const two = (n) => String(Math.floor(n)).padStart(2, "0");
    return t < 3600 ? `${Math.floor(t / 60)}:${two(t % 60)}` : `${Math.floor(t / 3600)}:${two(t / 60 % 60)}:${two(t % 60)}`;
  }

  function words(t) {
    const parts = [];
    for (const [length, name] of [[3600, "hour"], [60, "minute"], [1, "second"]]) {
      const n = Math.floor(t / length);
      t -= n * length;
      if (n > 0 || length === 1 && parts.length === 0) parts.push(`${n} ${name}${n === 1 ? "" : "s"}`);
    }
    return parts.join(" ");
  }

  // show brings the slider, the clock, the list and the lane to at.now.
  const slider = $("seek");
  let current = null;
  let shown = "";
  function show() {
    const text = clock(at.now);
    if (text !== shown) {
      $("now").textContent = shown = text;
      slider.setAttribute("aria-valuenow", String(Math.round(at.now)));
      slider.setAttribute("aria-valuetext", at.absolute ? text : words(at.now));
    }
    $("head").style.left = `${play.duration > 0 ? at.now / play.duration * 100 : 0}%`;
    const e = visible.length > 0 && visible[0].at <= at.now + 1e-3 ? visible[last(visible, at.now + 1e-3, (x) => x.at)] : null;
    if (e !== current) {
      if (current) current.link.removeAttribute("aria-current");
      current = e;
      if (e) { // the list is there then
        e.link.setAttribute("aria-current", "true");
        if (!$("entries").contains(document.activeElement)) rove(e);
        const list = $("entries");
        list.scrollTop = e.el.offsetTop - list.offsetTop - list.clientHeight / 2;
      }
    }
    lane();
  }

  // The lane has what was typed in the last minute before now.
  const isKeys = (e) => e.in === "keys" || e.in === "mark" && /^\d+ keys? hidden/.test(e.text);
  let typed = [];
  function lane() {
    const to = typed.length > 0 && typed[0].at <= at.now + 1e-3 ? last(typed, at.now + 1e-3, (x) => x.at) + 1 : 0;
    const text = typed.slice(Math.max(0, to - 4), to).filter((e) => e.at > at.now - 60).map((e) => e.text).join(" ⏎ ");
    const el = $("keys-lane");
    if (el.lastElementChild.textContent !== text) el.lastElementChild.textContent = text;
    el.hidden = typed.length === 0;
  }

  // The list, in place of the server's, is made after the first picture: it may be
  // long. One entry of it is reached by Tab; the arrows go to the others.
  function list() {
    const make = (tag, text, name) => {
      const el = document.createElement(tag);
      el.textContent = text;
      if (name) el.className = name;
      return el;
    };
    for (const e of entries) {
      e.el = make("li", "");
      e.link = make("a", "");
      e.link.href = `?t=${e.at}`;
      e.link.append(make("time", clock(e.at)), make("span", { command: "run", keys: "typed" }[e.in] || e.in, "kind"), make("code", e.text));
      e.copy = make("button", "Copy", "copy");
      e.copy.type = "button";
      e.copy.dataset.copy = e.text;
      e.copy.setAttribute("aria-label", `Copy ${e.text.slice(0, 40)}`);
      e.link.tabIndex = e.copy.tabIndex = -1;
      e.el.append(e.link, e.copy);
      e.el.entry = e;
    }
    $("with-keys").checked = !entries.some((e) => e.in === "command"); // else each would stand there twice
    filter();
    $("entries").replaceChildren(...entries.map((e) => e.el));
    if (visible.length > 0) rove(visible[0]);
    show();
  }
  let roving = null;
  function rove(e) {
    if (roving) roving.link.tabIndex = roving.copy.tabIndex = -1;
    roving = e;
    e.link.tabIndex = e.copy.tabIndex = 0;
  }
  $("entries").addEventListener("click", (event) => {
    const e = event.target.closest("a")?.parentElement.entry;
    if (!e || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    rove(e);
    seek(e.at);
  });
  $("entries").addEventListener("keydown", (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    const next = step && roving && visible[visible.indexOf(roving) + step];
    if (!next) return;
    event.preventDefault();
    rove(next);
    next.link.focus();
  });
  function filter() {
    const want = $("filter").value.toLowerCase();
    for (const e of entries) e.el.hidden = !e.text.toLowerCase().includes(want) || e.in === "keys" && !$("with-keys").checked;
    visible = entries.filter((e) => !e.el.hidden);
    if (visible.length > 0 && roving && roving.el.hidden) rove(visible[0]);
    return `${visible.length} of ${entries.length} entries`;
  }
  $("filter").addEventListener("input", () => say(filter()));
  $("with-keys").addEventListener("change", () => say(filter()));

  function neighbour(step) {
    if (!play) return;
    const next = step > 0 ? visible.find((e) => e.at > at.now + 1e-3) : visible.findLast((e) => e.at < at.now - (at.playing ? 1 : 1e-3));
    if (next) seek(next.at);
    else seek(step > 0 ? play.duration : 0);
  }

  // The timeline: what was shown and typed, pauses, entries, hits.
  const canvas = $("bands");
  function draw() {
    const ratio = window.devicePixelRatio || 1;
    const w = canvas.width = Math.round(canvas.clientWidth * ratio);
    const h = canvas.height = Math.round(canvas.clientHeight * ratio);
    const c = canvas.getContext("2d");
    const style = getComputedStyle(canvas);
    const colour = (name) => style.getPropertyValue(`--${name}`);
    const x = (t) => play.duration > 0 ? t / play.duration * w : 0;
    c.clearRect(0, 0, w, h);
    c.fillStyle = colour("idle");
    for (const [from, to] of play.idle) c.fillRect(x(from), 0, x(to) - x(from), h);
    for (const [list, name, from, to] of [[play.output, "shown", 0.95, 0.3], [play.input, "typed", 0.95, 0.6]]) {
      const most = Math.max(1, ...list);
      c.fillStyle = colour(name);
      list.forEach((n, i) => {
        if (n === 0) return;
        const high = Math.max(ratio, Math.log1p(n) / Math.log1p(most) * (from - to) * h);
        c.fillRect(i / list.length * w, from * h - high, Math.max(ratio, w / list.length - 1), high);
      });
    }
    c.fillStyle = colour("entry");
    for (const e of entries) if (e.in !== "keys") c.fillRect(x(e.at), 0, ratio * 1.5, h * 0.2);
    c.fillStyle = colour("hit");
    for (const e of hits) c.fillRect(x(e.at), 0, ratio * 2, h);
  }
  new ResizeObserver(() => { if (play) draw(); }).observe(canvas);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => draw());

  const moment = (event) => {
    const box = slider.getBoundingClientRect();
    return limit((event.clientX - box.left) / box.width * play.duration);
  };
  slider.addEventListener("pointerdown", (event) => {
    slider.setPointerCapture(event.pointerId);
    seek(moment(event));
  });
  slider.addEventListener("pointermove", (event) => {
    thumbnail(moment(event));
    if (event.buttons & 1) seek(moment(event));
  });
  slider.addEventListener("pointerleave", () => thumbnail(null));
  slider.addEventListener("focus", () => { if (slider.matches(":focus-visible")) thumbnail(at.now); });
  slider.addEventListener("blur", () => thumbnail(null));
  slider.addEventListener("keydown", (event) => {
    const to = { Home: 0, End: play.duration, PageUp: at.now - 60, PageDown: at.now + 60, ArrowUp: at.now + 1, ArrowDown: at.now - 1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    seek(to);
    thumbnail(limit(to));
  });

  // The screen near a moment, as text.
  const screens = new Map();
  let wanted = null;
  let asking = 0;
  function thumbnail(t) {
    const box = $("thumbnail");
    clearTimeout(asking);
    if (t === null) {
      wanted = null;
      box.hidden = true;
      return;
    }
    let n = segmentOf(t);
    // The next one begins with the screen at the end of this one, which is nearer
    // to most of its moments.
    if (n + 1 < play.segments.length && t > play.segments[n].at + 1) n++;
    wanted = n;
    box.style.left = `clamp(var(--half), ${play.duration > 0 ? t / play.duration * 100 : 0}%, 100% - var(--half))`;
    box.querySelector("span").textContent = clock(t);
    if (screens.has(n)) {
      box.querySelector("pre").textContent = screens.get(n);
      box.hidden = false;
      return;
    }
    asking = setTimeout(async () => {
      const answer = await fetch(`${base}/screens/${n}`);
      if (!answer.ok) return;
      screens.set(n, (await answer.json()).lines.join("\n"));
      if (wanted === n) thumbnail(t);
    }, 120);
  }

  // Finding.
  $("find").addEventListener("submit", (event) => {
    event.preventDefault();
    find(true);
  });
  async function find(go) {
    const q = $("find-text").value;
    if (q === "") {
      hits = [];
      hit = -1;
      tell();
      return;
    }
    const answer = await fetch(`${base}/find?q=${encodeURIComponent(q)}`);
    if (!answer.ok) return refused(answer);
    const found = await answer.json();
    hits = found.hits;
    hit = hits.length > 0 ? Math.max(0, hits.findIndex((h) => h.at >= at.now - 1e-3)) : -1;
    tell(found.more);
    if (hit >= 0 && go) await seek(hits[hit].at);
    else highlight();
  }
  function tell(more) {
    for (const id of ["find-previous", "find-next"]) $(id).disabled = hits.length === 0;
    const text = $("find-text").value === "" ? "" : hits.length === 0 ? "not found" : `${hit + 1} of ${hits.length}${more ? " or more" : ""}: ${hits[hit].text.slice(0, 80)}`;
    $("found").textContent = text;
    say(text);
    draw();
  }
  function turn(step) {
    if (hits.length === 0) return;
    hit = (hit + step + hits.length) % hits.length;
    tell();
    seek(hits[hit].at);
  }
  $("find-previous").addEventListener("click", () => turn(-1));
  $("find-next").addEventListener("click", () => turn(1));

  // What was looked for is marked on the screen, without touching what is there.
  function highlight() {
    if (!window.Highlight) return;
    CSS.highlights.delete("hit");
    const q = $("find-text").value.toLowerCase();
    if (q === "") return;
    requestAnimationFrame(() => requestAnimationFrame(() => {
      const ranges = [];
      const walk = document.createTreeWalker(terminal, NodeFilter.SHOW_TEXT);
      for (let node = walk.nextNode(); node; node = walk.nextNode()) {
        const text = node.textContent.toLowerCase();
        for (let i = text.indexOf(q); i >= 0; i = text.indexOf(q, i + q.length)) {
          const range = new Range();
          range.setStart(node, i);
          range.setEnd(node, i + q.length);
          ranges.push(range);
        }
      }
      CSS.highlights.set("hit", new Highlight(...ranges));
    }));
  }

  // Choices.
  async function setSpeed(to) {
    speed = to;
    $("speed").value = String(to);
    say(`speed ${to}`);
    await build();
  }
  async function setIdle(to) {
    idle = to;
    $("idle").value = to;
    say(to === "0" ? "pauses whole" : `pauses at most ${to} seconds`);
    await build();
  }
  $("speed").addEventListener("change", () => setSpeed(Number($("speed").value)));
  $("idle").addEventListener("change", () => setIdle($("idle").value));
  const faster = (step) => setSpeed(speeds[Math.min(Math.max(speeds.indexOf(speed) + step, 0), speeds.length - 1)]);
  function absolute() {
    if (!play) return;
    at.absolute = !at.absolute;
    $("absolute").setAttribute("aria-pressed", String(at.absolute));
    $("whole").textContent = clock(play.duration);
    for (const e of entries) e.el.querySelector("time").textContent = clock(e.at);
    show();
  }
  async function copyLink() {
    const link = new URL(location.pathname, location.href);
    link.searchParams.set("t", at.now.toFixed(3).replace(/\.?0+$/, ""));
    if ($("find-text").value) link.searchParams.set("q", $("find-text").value);
    try {
      await navigator.clipboard.writeText(link.href);
      say("The link to this moment is copied");
    } catch {
      history.replaceState(null, "", link);
      say("The link to this moment is in the address bar");
    }
  }
  const help = () => $("keyboard").showModal();
  $("play").addEventListener("click", toggle);
  $("previous").addEventListener("click", () => neighbour(-1));
  $("next").addEventListener("click", () => neighbour(1));
  $("absolute").addEventListener("click", absolute);
  $("copy-link").addEventListener("click", copyLink);
  $("help").addEventListener("click", help);

  // Keys. They can be turned off, and leave alone what is being typed.
  const single = $("single-keys");
  single.checked = localStorage.getItem("single-keys") !== "off";
  single.addEventListener("change", () => localStorage.setItem("single-keys", single.checked ? "on" : "off"));
  const passOn = (key) => player?.el.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
  const keys = {
    " ": toggle,
    ArrowLeft: (e) => seek(at.now - (e.shiftKey ? play.duration / 10 : 5)),
    ArrowRight: (e) => seek(at.now + (e.shiftKey ? play.duration / 10 : 5)),
    "[": () => neighbour(-1),
    "]": () => neighbour(1),
    ",": () => passOn(","),
    ".": () => passOn("."),
    f: () => passOn("f"),
    "<": () => faster(-1),
    ">": () => faster(1),
    i: () => setIdle(idles[(idles.indexOf(idle) + 1) % idles.length]),
    "/": () => {
      $("find-text").focus();
      $("find-text").select();
    },
    n: () => turn(1),
    N: () => turn(-1),
    a: absolute,
    y: copyLink,
    "?": help,
  };
  for (let n = 0; n < 10; n++) keys[n] = () => seek(play.duration * n / 10);
  document.addEventListener("keydown", (event) => {
    if (!event.isTrusted || event.ctrlKey || event.metaKey || event.altKey || $("keyboard").open || !play) return;
    if (event.target.closest("input, textarea, select")) {
      if (event.key === "Escape") {
        event.preventDefault(); // which would empty a search field
        event.target.blur();
      }
      return;
    }
    const act = keys[event.key];
    const onSlider = event.target === slider && event.key.startsWith("Arrow");
    if (!act || !single.checked && !onSlider) return;
    if (event.key === " " && event.target.closest("button, a, summary")) return;
    event.preventDefault();
    event.stopPropagation();
    act(event);
    if (event.target === slider) setTimeout(() => { if (document.activeElement === slider) thumbnail(at.now); });
  }, true);
  setInterval(() => { if (player && !at.playing && moved(player.getCurrentTime())) update(); }, 250); // pictures that were stepped to

  addEventListener("pagehide", () => { plain(`${base}/end`, { method: "POST", keepalive: true }); });

  fetch(`${base}/index?idle=${idle}`); // is kept, for the player
  const answer = await plain(base);
  if (!answer.ok) return refused(answer);
  play = await answer.json();
  entries = play.texts;
  typed = entries.filter(isKeys);
  await build();
  await painted();
  const first = performance.now(); // milliseconds since the page was asked for
  list();
  draw();
  if ($("find-text").value) await find(false);
  root.dataset.first = first.toFixed(0);
  root.dataset.ready = "yes";
}
