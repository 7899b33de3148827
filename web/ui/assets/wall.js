// Shows the last lines of the screens of running sessions, once somebody says so.
"use strict";

const most = 8; // that one person may watch
const lines = new Map(); // session -> what stands on its screen
let watching = false, said = "";

// show puts what is known on the page as it is now.
function show() {
  for (const box of document.querySelectorAll("[data-wall]")) {
    const text = lines.get(box.dataset.wall);
    if (text === undefined) continue;
    box.hidden = false;
    box.textContent = text;
  }
  const button = document.getElementById("wall");
  if (button) button.disabled = watching;
  if (said && button) document.getElementById("wall-said").textContent = said;
}

async function watch() {
  watching = true;
  const ids = [...document.querySelectorAll("[data-wall]")].slice(0, most).map((box) => ["id", box.dataset.wall]);
  try {
    const answer = await fetch("/v1/wall?" + new URLSearchParams(ids));
    if (!answer.ok) throw new Error((await answer.json()).detail);
    said = "You watch these sessions; that is on record.";
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    for (let rest = ""; ;) {
      const { value, done } = await reader.read();
      if (done) break;
      const parts = (rest + value).split("\n");
      rest = parts.pop();
      for (const part of parts) {
        const event = JSON.parse(part);
        lines.set(event.session, (event.text || "(nothing on the screen)") + (event.over ? "\n(it is over)" : ""));
      }
      show();
    }
    said = "You do not watch any more.";
  } catch (error) {
    said = error.message || "The screens could not be fetched.";
  }
  watching = false;
  show();
}

document.addEventListener("click", (event) => {
  if (!event.target.closest("#wall")) return;
  watch();
  show();
});
document.addEventListener("replaced", show);
