// Shows the last lines of the screens of running sessions, once somebody says so.
"use strict";

const button = document.getElementById("wall");
const said = document.getElementById("wall-said");
const most = 8; // that one person may watch

button?.addEventListener("click", async () => {
  button.disabled = true;
  const boxes = new Map([...document.querySelectorAll("[data-wall]")].slice(0, most).map((box) => [box.dataset.wall, box]));
  const query = new URLSearchParams([...boxes.keys()].map((id) => ["id", id]));
  try {
    const answer = await fetch("/v1/wall?" + query);
    if (!answer.ok) throw new Error((await answer.json()).detail);
    said.textContent = "You watch these sessions; that is on record.";
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    for (let rest = ""; ;) {
      const { value, done } = await reader.read();
      if (done) break;
      const lines = (rest + value).split("\n");
      rest = lines.pop();
      for (const line of lines) {
        const event = JSON.parse(line);
        const box = boxes.get(event.session);
        if (!box) continue;
        box.hidden = false;
        box.textContent = (event.text || "(nothing on the screen)") + (event.over ? "\n— it is over —" : "");
      }
    }
    said.textContent = "You do not watch any more.";
  } catch (error) {
    said.textContent = error.message || "The screens could not be fetched.";
  }
  button.disabled = false;
});
