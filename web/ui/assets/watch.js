// Draws a running session. What comes is text, colours (CSI m) and movements of the
// cursor (CSI H), which the server's model of a terminal has made; it becomes text
// nodes here and nothing else.
"use strict";

(() => {
  const root = document.getElementById("watch");
  if (!root) return;
  const id = root.dataset.session;
  const terminal = document.getElementById("terminal");
  const said = document.getElementById("said");
  const marks = document.getElementById("marks");
  const moment = document.getElementById("moment");
  const time = document.getElementById("time");
  const golive = document.getElementById("golive");

  // The sixteen colours of text, and those behind it, each to be read on or under the
  // terminal's own.
  const base = ["#7d8590", "#ef5350", "#8ae234", "#fce94f", "#729fcf", "#ce93d8", "#34e2e2", "#d3d7cf",
    "#8a8f88", "#ff8a80", "#b9f56b", "#fff59d", "#a6c8f0", "#e1bee7", "#8ff5f5", "#ffffff"];
  const back = ["#2e3436", "#8c1d18", "#2f5d12", "#665500", "#2a4a7f", "#6a2a73", "#0b5e63", "#5a5f66",
    "#4a5056", "#a02a24", "#3b6e1a", "#756200", "#345a99", "#7d3a86", "#12717a", "#6a7078"];
  const levels = [0, 95, 135, 175, 215, 255];

  function colour(n, sixteen) {
    if (n < 16) return sixteen[n];
    if (n >= 232) return `rgb(${8 + (n - 232) * 10},${8 + (n - 232) * 10},${8 + (n - 232) * 10})`;
    n -= 16;
    return `rgb(${levels[Math.floor(n / 36)]},${levels[Math.floor(n / 6) % 6]},${levels[n % 6]})`;
  }

  // styled applies the parameters of CSI m to a style and returns the new one.
  function styled(style, params) {
    const p = params === "" ? [0] : params.split(/[;:]/).map(Number);
    let s = { ...style };
    for (let i = 0; i < p.length; i++) {
      const n = p[i];
      const attribute = { 1: "bold", 2: "faint", 3: "italic", 4: "underline", 7: "reverse", 9: "strike" }[n];
      if (n === 0) s = {};
      else if (attribute) s[attribute] = true;
      else if (n >= 30 && n <= 37) s.fg = base[n - 30];
      else if (n >= 90 && n <= 97) s.fg = base[n - 82];
      else if (n >= 40 && n <= 47) s.bg = back[n - 40];
      else if (n >= 100 && n <= 107) s.bg = back[n - 92];
      else if (n === 39) delete s.fg;
      else if (n === 49) delete s.bg;
      else if ((n === 38 || n === 48) && p[i + 1] === 5) {
        s[n === 38 ? "fg" : "bg"] = colour(p[i + 2] & 255, n === 38 ? base : back);
        i += 2;
      } else if ((n === 38 || n === 48) && p[i + 1] === 2) {
        s[n === 38 ? "fg" : "bg"] = `rgb(${p[i + 2] & 255},${p[i + 3] & 255},${p[i + 4] & 255})`;
        i += 4;
      }
    }
    return s;
  }

  const wide = /[\u1100-\u115f\u2e80-\ua4cf\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff00-\uff60\uffe0-\uffe6]|\p{Emoji_Presentation}/u;
  const combining = /[\p{M}\u200d\ufe0f]/u;

  // grid makes rows of cells of what draws a screen.
  function grid(text, columns, rows) {
    const cells = Array.from({ length: rows }, () => []);
    let row = 0, column = 0, style = {};
    for (const part of text.matchAll(/\x1b\[([0-9;:]*)([mH])|[^\x1b]/gsu)) {
      if (part[2] === "m") style = styled(style, part[1]);
      else if (part[2] === "H") {
        const [r, c] = part[1].split(";").map(Number);
        row = Math.min(Math.max((r || 1) - 1, 0), rows - 1);
        column = Math.min(Math.max((c || 1) - 1, 0), columns - 1);
      } else if (combining.test(part[0]) && column > 0 && cells[row][column - 1]) {
        cells[row][column - 1].text += part[0];
      } else if (column < columns) {
        cells[row][column++] = { text: part[0], style };
        if (wide.test(part[0])) cells[row][column++] = { text: "", style };
      }
    }
    return { cells, row, column };
  }

  function draw(event) {
    const columns = event.columns, rows = event.rows;
    const { cells, row: cursorRow, column: cursorColumn } = grid(event.text || "", columns, rows);
    const lines = document.createDocumentFragment();
    cells.forEach((line, r) => {
      const div = document.createElement("div");
      const length = Math.max(line.length, r === cursorRow ? cursorColumn + 1 : 0);
      let span = null, last = null;
      for (let c = 0; c < length; c++) {
        const cell = line[c] || { text: " ", style: {} };
        const cursor = r === cursorRow && c === cursorColumn;
        if (!span || cell.style !== last || cursor || span.cursor) {
          span = document.createElement("span");
          span.cursor = cursor;
          last = cell.style;
          const s = cell.style;
          let fg = s.fg || "", bg = s.bg || "";
          if (s.reverse !== cursor && (s.reverse || cursor)) [fg, bg] = [bg || "#121417", fg || "#d3d7cf"];
          if (fg) span.style.color = fg;
          if (bg) span.style.backgroundColor = bg;
          if (s.bold) span.style.fontWeight = "bold";
          if (s.italic) span.style.fontStyle = "italic";
          if (s.faint) span.style.opacity = "0.8";
          if (s.underline || s.strike) span.style.textDecoration = (s.underline ? "underline " : "") + (s.strike ? "line-through" : "");
          div.append(span);
        }
        span.append(cell.text || "");
      }
      if (length === 0) div.append(" ");
      lines.append(div);
    });
    terminal.replaceChildren(lines);
  }

  function clock(seconds) {
    const s = Math.max(0, Math.floor(seconds));
    const two = (n) => String(n).padStart(2, "0");
    return s < 3600 ? `${Math.floor(s / 60)}:${two(s % 60)}` : `${Math.floor(s / 3600)}:${two(Math.floor(s / 60) % 60)}:${two(s % 60)}`;
  }

  let live = true, now = 0, over = false, latest = null;

  function at(seconds) {
    now = Math.max(now, seconds);
    moment.max = String(Math.floor(now));
    if (live) moment.value = moment.max;
    time.textContent = live ? clock(now) + " live" : `${clock(Number(moment.value))} of ${clock(now)}`;
    moment.setAttribute("aria-valuetext", time.textContent);
  }

  function mark(event) {
    const item = document.createElement("li");
    item.textContent = `${clock(event.at)} ${event.text}`;
    marks.append(item);
    while (marks.children.length > 200) marks.firstChild.remove();
    marks.scrollTop = marks.scrollHeight;
  }

  // events reads the lines of an answer.
  async function events(answer, take) {
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      const lines = (rest + value).split("\n");
      rest = lines.pop();
      for (const line of lines) take(JSON.parse(line));
    }
  }

  async function problem(answer) {
    try {
      const p = await answer.json();
      return p.detail + (p.code ? ` [${p.code}]` : "");
    } catch {
      return `The server answered ${answer.status}.`;
    }
  }

  const address = `/v1/sessions/${encodeURIComponent(id)}`;

  async function watch() {
    const answer = await fetch(`${address}/watch?form=screen`);
    if (answer.status === 401) return location.reload();
    if (!answer.ok) {
      over = true;
      said.textContent = await problem(answer);
      return;
    }
    await events(answer, (event) => {
      at(event.at);
      switch (event.kind) {
        case "begin":
          said.textContent = event.text ? `Input is paused by ${event.text}.` : "You watch this session; that is on record.";
          break;
        case "screen":
          latest = event;
          if (live) draw(event);
          break;
        case "mark":
          mark(event);
          break;
        case "end":
        case "cut":
          over = true;
          if (event.kind === "end") document.getElementById("controls")?.remove();
          said.textContent = event.kind === "end" ? `The session is over: ${event.text || "it ended"}.` : event.text;
          break;
      }
    });
  }

  async function run() {
    for (let wait = 1; !over; wait = Math.min(wait * 2, 15)) {
      try {
        await watch();
        if (!over) wait = 1;
      } catch {
        // the network: said below
      }
      if (over) break;
      said.textContent = "The connection is lost; trying again.";
      await new Promise((done) => setTimeout(done, wait * 1000));
    }
  }

  moment.addEventListener("input", () => {
    live = false;
    golive.disabled = false;
    at(0);
  });
  moment.addEventListener("change", async () => {
    const asked = moment.value;
    try {
      const answer = await fetch(`${address}/watch?form=screen&still=true&at=${asked}`);
      if (!answer.ok) {
        said.textContent = await problem(answer);
        return;
      }
      await events(answer, (event) => {
        if (event.kind === "screen" && !live && moment.value === asked) draw(event);
      });
    } catch {
      said.textContent = "That moment could not be fetched.";
    }
  });
  golive.addEventListener("click", () => {
    live = true;
    golive.disabled = true;
    at(0);
    terminal.focus();
    if (latest) draw(latest);
  });

  for (const form of root.querySelectorAll("form[data-do]")) {
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      const what = form.dataset.do;
      const typed = new FormData(form);
      const body = what === "message" ? { text: typed.get("text") }
        : what === "end" ? { reason: typed.get("note"), revoke: typed.get("revoke") === "yes" } : null;
      try {
        const answer = await fetch(`${address}/${what}`, {
          method: "POST",
          headers: body ? { "Content-Type": "application/json" } : {},
          body: body ? JSON.stringify(body) : null,
        });
        if (!answer.ok) {
          said.textContent = await problem(answer);
          return;
        }
        said.textContent = { message: "Sent.", pause: "Input is paused.", resume: "Input passes again.", end: "The session is cut." }[what];
        if (what === "message") form.reset();
      } catch {
        said.textContent = "The server could not be reached; nothing was done.";
      }
    });
  }

  run();
})();
