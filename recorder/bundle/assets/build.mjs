// Builds ../page.html out of page.html, verify.css, verify.js and the player: one
// file, whose policy lets run only what is in it and load nothing. It takes the
// folder of node_modules; web/ui/assets/build.sh calls it.
import { createHash } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";

const modules = process.argv[2];
const esbuild = createRequire(join(modules, "x.js"))("esbuild");
const here = (name) => new URL(name, import.meta.url);
const small = (name, loader) => esbuild.transformSync(readFileSync(here(name), "utf8"), { loader, minify: true, target: "es2022" }).code.trim();
const player = join(modules, "asciinema-player/dist/bundle");

const parts = {
  style: readFileSync(join(player, "asciinema-player.css"), "utf8").trim() + "\n" + small("verify.css", "css"),
  player: readFileSync(join(player, "asciinema-player.min.js"), "utf8").trim(),
  script: small("verify.js", "js"),
};
for (const [name, text] of Object.entries(parts)) {
  if (/<\/(script|style)|<!--/i.test(text)) throw new Error(name + " cannot stand in a page");
}
const hash = (text) => "'sha256-" + createHash("sha256").update(text).digest("base64") + "'";
parts.policy = ["default-src 'none'", `script-src ${hash(parts.player)} ${hash(parts.script)} 'wasm-unsafe-eval'`, `style-src ${hash(parts.style)}`, "base-uri 'none'", "form-action 'none'"].join("; ");
const page = readFileSync(here("page.html"), "utf8").replace(/\{\{(\w+)\}\}/g, (_, name) => parts[name]);
writeFileSync(here("../page.html"), page);
