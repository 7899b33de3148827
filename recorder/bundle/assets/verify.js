// Checks evidence as Verify of recorder/bundle does, and shows and plays what is in
// it. Everything that comes out of the evidence reaches the page as text only, and
// the recording through the filter below.
(() => {
  "use strict";

  // ---- What a bundle may be. The same as in bundle.go.

  const FILES = [
    ["README.txt", 64 << 10], ["events.jsonl", 512 << 20], ["checkpoint", 4 << 10], ["earlier.json", 64 << 10], ["keys.txt", 16 << 10],
    ["request.json", 1 << 20], ["told.json", 16 << 20], ["session.cast", 1 << 30], ["session.txt", 1 << 30], ["manifest", 16 << 10], ["verify.html", 64 << 20],
  ];
  const LISTED = FILES.slice(0, -2).map(([name]) => name);
  const MAX_EVENTS = 20000, MAX_LINE = 512 << 10, MAX_KEYS = 16, MAX_KEPT = 256;
  const MARK = '<script type="application/octet-stream" id="evidence">';

  // Wrong is what is wrong with evidence, as opposed to with this program.
  class Wrong extends Error {}
  // Unable is what this browser cannot do.
  class Unable extends Error {}
  const wrong = (text) => { throw new Wrong(text); };

  const utf8 = new TextEncoder();
  const text = (bytes) => {
    try {
      return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
    } catch {
      return wrong("a text is not UTF-8");
    }
  };
  const hex = (bytes) => Array.from(bytes, (b) => b.toString(16).padStart(2, "0")).join("");
  const same = (a, b) => a.length === b.length && a.every((x, i) => x === b[i]);
  const join = (...parts) => {
    const out = new Uint8Array(parts.reduce((n, p) => n + p.length, 0));
    let at = 0;
    for (const p of parts) { out.set(p, at); at += p.length; }
    return out;
  };
  const sha256 = async (...parts) => new Uint8Array(await crypto.subtle.digest("SHA-256", parts.length === 1 ? parts[0] : join(...parts)));

  // unbase64 takes the standard alphabet with padding and zero spare bits only.
  const unbase64 = (s) => {
    try {
      const b = Uint8Array.from(atob(s), (c) => c.charCodeAt(0));
      if (base64(b) === s) return b;
    } catch { /* told below */ }
    return wrong("something is not base64");
  };
  const base64 = (bytes) => {
    let s = "";
    for (let i = 0; i < bytes.length; i += 0x8000) s += String.fromCharCode(...bytes.subarray(i, i + 0x8000));
    return btoa(s);
  };

  // ---- The archive. A reader takes one way to pack and no other.

  const crcTable = Uint32Array.from({ length: 256 }, (_, n) => {
    for (let k = 0; k < 8; k++) n = n & 1 ? (n >>> 1) ^ 0xedb88320 : n >>> 1;
    return n;
  });
  const crc32 = (bytes) => {
    let c = ~0;
    for (let i = 0; i < bytes.length; i++) c = crcTable[(c ^ bytes[i]) & 255] ^ (c >>> 8);
    return ~c >>> 0;
  };
  const le = (n, size) => Uint8Array.from({ length: size }, (_, i) => Math.floor(n / 256 ** i) % 256);
  const common = (e) => join(le(20, 2), le(1 << 11, 2), le(e.method, 2), le(0, 2), le(33, 2), le(e.crc, 4), le(e.packed, 4), le(e.size, 4), le(e.name.length, 2), le(0, 2));
  const directory = (entries, offset) => {
    const list = entries.map((e) => join(le(0x02014b50, 4), le(20, 2), common(e), le(0, 10), le(e.offset, 4), utf8.encode(e.name)));
    const size = list.reduce((n, b) => n + b.length, 0);
    return join(...list, le(0x06054b50, 4), le(0, 4), le(entries.length, 2), le(entries.length, 2), le(size, 4), le(offset, 4), le(0, 2));
  };

  // readArchive finds the files. A whole archive ends in verify.html and its
  // directory; what a page carries ends before verify.html.
  const readArchive = (bytes, whole) => {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    const entries = [];
    let at = 0;
    const u16 = (n) => view.getUint16(n, true), u32 = (n) => view.getUint32(n, true);
    for (const [name, most] of whole ? FILES : FILES.slice(0, -1)) {
      if (at + 30 > bytes.length) wrong("the archive is cut off");
      if (u32(at) === 0x02014b50 && at > 0) wrong(`the file ${name} is missing`);
      if (u32(at) !== 0x04034b50) wrong(`at byte ${at} no file begins: this is no evidence, or it was packed anew`);
      const e = { name, offset: at, method: u16(at + 8), crc: u32(at + 14), packed: u32(at + 18), size: u32(at + 22) };
      const data = at + 30 + u16(at + 26);
      const got = printable(String.fromCharCode(...bytes.subarray(at + 30, Math.min(data, at + 286))));
      if (got !== name) wrong(`the file “${got}” stands where ${name} belongs: a file was added, removed or moved`);
      const header = join(le(0x04034b50, 4), common(e), utf8.encode(name));
      if (!same(header, bytes.subarray(at, at + header.length)) || (e.method !== 0 && e.method !== 8) || (e.method === 0 && e.packed !== e.size)) {
        wrong(`${name} is packed in another way than drawbolt packs: the archive was packed anew or changed`);
      }
      if (e.size > most) wrong(`${name} has ${e.size} bytes, at most ${most}`);
      if (data + e.packed > bytes.length) wrong("the archive is cut off");
      e.bytes = bytes.subarray(data, data + e.packed);
      entries.push(e);
      at = data + e.packed;
    }
    if (whole) {
      const want = directory(entries, at), rest = bytes.subarray(at);
      if (rest.length >= 4 && u32(at) === 0x04034b50) wrong("a file follows verify.html that does not belong to the evidence");
      if (!same(want, rest.subarray(0, want.length))) wrong("the directory of the archive does not say what is in it");
      if (rest.length !== want.length) wrong(`${rest.length - want.length} bytes follow the archive`);
    } else if (at !== bytes.length) {
      wrong(`${bytes.length - at} bytes follow the files that this page carries`);
    }
    return new Map(entries.map((e) => [e.name, e]));
  };

  // unpack gives at most the bytes that the header names.
  const unpack = async (e) => {
    const changed = () => wrong(`${e.name} cannot be unpacked: its bytes were changed`);
    let out = e.bytes;
    if (e.method === 8) {
      out = new Uint8Array(e.size);
      let n = 0;
      const reader = new Blob([e.bytes]).stream().pipeThrough(new DecompressionStream("deflate-raw")).getReader();
      try {
        for (;;) {
          const { done, value } = await reader.read();
          if (done) break;
          if (n + value.length > e.size) { await reader.cancel(); n = -1; break; }
          out.set(value, n);
          n += value.length;
        }
      } catch {
        changed();
      }
      if (n < 0) wrong(`${e.name} holds more than its ${e.size} bytes`);
      if (n !== e.size) changed();
    }
    return crc32(out) === e.crc ? out : changed();
  };

  // ---- Notes, keys, checkpoints.

  // readKey reads a verifier key: name+hash+base64 of the kind and the key.
  const readKey = async (line) => {
    const m = /^([^\s+]+)\+([0-9a-f]{8})\+([A-Za-z0-9+/=]+)$/.exec(line);
    if (!m) return wrong("that is not a public key of drawbolt");
    const [, name, hash, b64] = m, key = unbase64(b64);
    const own = (await sha256(utf8.encode(name + "\n"), key)).subarray(0, 4);
    if (key.length !== 33 || key[0] !== 1 || hex(own) !== hash) wrong("that is not a public key of drawbolt");
    return { name, hash, key: key.subarray(1) };
  };

  const ed25519 = async (key, message, signature) => {
    let k;
    try {
      k = await crypto.subtle.importKey("raw", key, { name: "Ed25519" }, false, ["verify"]);
    } catch {
      throw new Unable("this browser cannot check Ed25519 signatures: take a newer one, or “drawbolt verify”");
    }
    return crypto.subtle.verify({ name: "Ed25519" }, k, signature, message);
  };

  // openNote checks that msg bears the signature of one of the keys and no other,
  // and returns the text and the key's name.
  const openNote = async (msg, keys, what) => {
    const cut = msg.lastIndexOf("\n\n"), body = msg.slice(0, cut + 1);
    const m = /^\u2014 (\S+) ([A-Za-z0-9+/=]+)\n$/.exec(msg.slice(cut + 2));
    if (cut < 0 || !m) return wrong(`${what} is not signed in the way it must be`);
    const signature = unbase64(m[2]);
    const key = keys.find((k) => k.name === m[1] && k.hash === hex(signature.subarray(0, 4)));
    if (!key) return wrong(`${what} is signed with another key than ${keys.map((k) => k.name).join(", ")}`);
    if (signature.length !== 68 || !(await ed25519(key.key, utf8.encode(body), signature.subarray(4)))) {
      return wrong(`the signature of ${what} does not hold: it was changed`);
    }
    return { body, key: key.name };
  };

  const TIME = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$/;
  const openCheckpoint = async (msg, key, what) => {
    const { body } = await openNote(msg, [key], what);
    const m = /^(\S+)\n(0|[1-9]\d{0,15})\n(\S+)\ntime (\S+)\n$/.exec(body);
    if (!m || m[1] !== key.name || !TIME.test(m[4]) || Number(m[2]) > 2 ** 53) return wrong(`${what} is not one of this log`);
    return { origin: m[1], size: Number(m[2]), root: unbase64(m[3]), time: m[4] };
  };

  // ---- The Merkle tree of RFC 6962.

  const node = (a, b) => sha256(Uint8Array.of(1), a, b);
  const below = (n) => { let k = 1; while (k * 2 < n) k *= 2; return k; }; // largest power of two below n
  const noProof = () => wrong("a proof has the wrong length");

  const rootOf = async (proof, lo, hi, n, leaf) => {
    if (lo + 1 === hi) return proof.length ? noProof() : leaf;
    if (!proof.length) return noProof();
    const k = below(hi - lo), rest = proof.slice(0, -1), last = proof[proof.length - 1];
    return n < lo + k ? node(await rootOf(rest, lo, lo + k, n, leaf), last) : node(last, await rootOf(rest, lo + k, hi, n, leaf));
  };

  // rootsOf returns the roots of the older and of the newer tree.
  const rootsOf = async (proof, lo, hi, n, old) => {
    if (n === hi) {
      if (lo === 0) return proof.length ? noProof() : [old, old];
      return proof.length === 1 ? [proof[0], proof[0]] : noProof();
    }
    if (!proof.length) return noProof();
    const k = below(hi - lo), rest = proof.slice(0, -1), last = proof[proof.length - 1];
    if (n <= lo + k) {
      const [a, b] = await rootsOf(rest, lo, lo + k, n, old);
      return [a, await node(b, last)];
    }
    const [a, b] = await rootsOf(rest, lo + k, hi, n, old);
    return [await node(last, a), await node(last, b)];
  };

  const consistent = async (older, newer, proof) => {
    if (older.size > newer.size) wrong("the earlier checkpoint is not earlier");
    if (older.size === newer.size || older.size === 0) {
      if (proof.length || (older.size && !same(older.root, newer.root))) wrong("the earlier checkpoint belongs to another log");
      return;
    }
    const [a, b] = await rootsOf(proof, 0, newer.size, older.size, older.root);
    if (!same(a, older.root) || !same(b, newer.root)) wrong("the earlier checkpoint belongs to another log");
  };

  // ---- The recording: its chain and its seal.

  const lines = function* (bytes) {
    for (let at = 0, number = 1; at < bytes.length; number++) {
      const end = bytes.indexOf(10, at);
      if (end < 0) wrong(`the recording is cut short: it ends inside line ${number}`);
      if (end - at >= MAX_LINE) wrong(`the recording is altered: line ${number} is too long`);
      yield { at, end: end + 1, number, line: bytes.subarray(at, end) };
      at = end + 1;
    }
  };
  const begins = (line, prefix) => {
    for (let i = 0; i < prefix.length; i++) if (line[i] !== prefix.charCodeAt(i)) return false;
    return true;
  };

  const checkCast = async (bytes, keys) => {
    const altered = (l, why) => wrong(`recording is altered: chunk ${chunks + 1}, lines ${first} to ${l.number}: ${why}`);
    let from = 0, first = 1, chunks = 0, events = 0, linked = 0, seal = null, header = null, sealLine = null, micros = 0;
    for (const l of lines(bytes)) {
      if (seal !== null) altered(l, "something follows the seal");
      const { line } = l;
      if (l.number === 1) {
        if (line[0] !== 123) altered(l, "it is no asciicast");
      } else if (l.number === 2) {
        if (!begins(line, "# drawbolt recording 1 ")) wrong("recording is not sealed: it is an asciicast of another program, or was stripped");
        header = parse(text(line).slice(23), "the header of the recording");
      } else if (begins(line, "# drawbolt chain ")) {
        const want = `# drawbolt chain ${chunks + 1} sha256=${hex(await sha256(bytes.subarray(from, l.at)))}`;
        if (text(line) !== want) altered(l, "the bytes do not have the hash of the chain");
        chunks++;
        [from, first, linked] = [l.at, l.number, l.end];
      } else if (begins(line, "# drawbolt seal ")) {
        if (linked !== l.at) altered(l, "no chain line stands before the seal");
        [seal, sealLine] = [text(unbase64(text(line).slice(16))), l];
      } else if (line[0] === 91) {
        const m = /^\[(\d{1,9})\.(\d{6}), "/.exec(text(line.subarray(0, 24)));
        if (!m) altered(l, "not an event line");
        micros += Number(m[1]) * 1e6 + Number(m[2]);
        events++;
      } else if (!begins(line, "# drawbolt event ")) {
        altered(l, "a line that does not belong to a recording");
      }
    }
    if (seal === null) wrong(`recording is cut short: it ends without a seal after ${chunks} chunks`);
    const { body, key } = await openNote(seal, keys, "the recording");
    const m = /^drawbolt recording seal v1\nid (\S+)\nstarted (\S+)\nduration (\d+)\nevents (\d+)\nsize (\d+)\nsha256 ([0-9a-f]{64})\naborted (true|false)\nreason (".*")\njournal ([0-9a-f]{64})\n$/.exec(body);
    if (!m) return wrong("the seal of the recording cannot be read");
    const sum = hex(await sha256(bytes.subarray(0, sealLine.at)));
    if (m[1] !== header.id || m[2] !== header.started || Number(m[3]) < micros || Number(m[4]) !== events || Number(m[5]) !== sealLine.at || m[6] !== sum) {
      wrong("recording is altered: the seal was made for other bytes");
    }
    return { id: m[1], chunks, events, key, aborted: m[7] === "true", journal: m[9], seconds: Number(m[3]) / 1e6 };
  };

  const parse = (s, what) => {
    try {
      const v = JSON.parse(s);
      if (v && typeof v === "object") return v;
    } catch { /* told below */ }
    return wrong(`${what} cannot be read`);
  };

  // ---- The checks, in the order of verify.go. Each returns what it proves.

  class Verifier {
    constructor(bytes, whole, trusted) {
      Object.assign(this, { bytes, whole, trusted, id: "", checks: [], facts: {}, list: [], votes: [], certificates: [], unable: false });
    }

    async run() {
      for (const name of ["archive", "key", "manifest", "page", "checkpoint", "events", "request", "approvals", "session", "recording"]) {
        try {
          this.checks.push({ name, state: "good", says: await this[name]() });
        } catch (e) {
          if (e instanceof Unable) this.unable = true;
          else if (!(e instanceof Wrong)) throw e;
          this.checks.push({ name, state: e instanceof Unable ? "unable" : "bad", says: e.message });
          if (name === "archive") break;
        }
      }
      return this;
    }

    get holds() { return this.checks.every((c) => c.state === "good"); }

    async read(name) {
      if (name === "session.txt") return unpack(this.files.get(name)); // large, and needed once
      this.kept ??= new Map();
      if (!this.kept.has(name)) this.kept.set(name, await unpack(this.files.get(name)));
      return this.kept.get(name);
    }

    archive() {
      this.files = readArchive(this.bytes, this.whole);
      return this.whole ? `an archive of ${this.files.size} files, as drawbolt packs it` : `${this.files.size} files that this page carries`;
    }

    async key() {
      const list = text(await this.read("keys.txt")).split("\n");
      if (list.length < 2 || list.length > MAX_KEYS || list.pop() !== "") wrong("keys.txt does not hold one key a line");
      this.keys = [];
      for (const line of list) this.keys.push(await readKey(line));
      const own = this.keys[0];
      if (!this.trusted.length) {
        this.log = own;
        return `checked with the key ${own.name}, which lies in the evidence itself`;
      }
      const manifest = text(await this.read("manifest"));
      let signer = null;
      for (const k of this.trusted) {
        try {
          await openNote(manifest, [k], "the manifest");
          signer = k;
        } catch (e) {
          if (!(e instanceof Wrong)) throw e;
        }
      }
      this.log = signer ?? own; // the other checks tell whether it agrees with itself at least
      if (!signer) wrong("the evidence is signed with another key than the ones that are trusted");
      if (this.log.name !== own.name || this.log.hash !== own.hash) wrong("keys.txt names another key of the log than the one that signed");
      this.isTrusted = true;
      return `signed with the trusted key ${this.log.name}`;
    }

    needKey(what) { if (!this.log) wrong(`${what} cannot be checked without a key`); }

    async manifest() {
      this.needKey("the manifest");
      const { body } = await openNote(text(await this.read("manifest")), [this.log], "the manifest");
      const all = body.split("\n");
      const head = /^drawbolt evidence 1\nsession (\S{1,128})\nmade (\S+)\npage ([0-9a-f]{64})$/.exec(all.slice(0, 4).join("\n"));
      if (!head || !TIME.test(head[2]) || all.pop() !== "") return wrong("the manifest is not one that this page can read");
      const listed = all.slice(4).map((l) => /^file ([0-9a-f]{64}) (0|[1-9]\d*) (\S+)$/.exec(l) || wrong("the manifest is not one that this page can read"));
      [this.id, this.pageSum] = [head[1], head[3]];
      this.facts.made = head[2];
      const bad = [];
      for (const [i, name] of LISTED.entries()) {
        if (listed[i]?.[3] !== name) wrong(`the manifest does not list the file ${name}`);
        try {
          const b = await this.read(name), sum = hex(await sha256(b));
          if (sum !== listed[i][1] || b.length !== Number(listed[i][2])) bad.push(`${name} is not the file that was signed: its SHA-256 is ${sum}, the manifest says ${listed[i][1]}`);
        } catch (e) {
          if (!(e instanceof Wrong)) throw e;
          bad.push(e.message);
        }
      }
      if (listed.length !== LISTED.length) bad.push("the manifest lists a file that does not belong to evidence");
      if (bad.length) wrong(bad.join("; "));
      return `${LISTED.length} files unchanged since they were signed at ${head[2].slice(0, 19)}Z`;
    }

    async page() {
      if (!this.pageSum) wrong("verify.html cannot be checked without a manifest");
      if (!this.whole) return "not checked: a page cannot vouch for itself. Choose the archive in a page from elsewhere, or use “drawbolt verify”";
      const html = await this.read("verify.html"), found = find(html, utf8.encode(MARK)), start = found + MARK.length, end = html.indexOf(60, start);
      const changed = () => wrong("verify.html is not the page that was made with this evidence: do not trust what it shows");
      if (found < 0 || end < 0) changed();
      if (hex(await sha256(html.subarray(0, start), html.subarray(end))) !== this.pageSum) changed();
      if (end === start) return "verify.html is the page that was made; the files are too large for it to carry";
      const carried = unbase64(text(html.subarray(start, end)));
      if (!same(carried, this.bytes.subarray(0, this.files.get("verify.html").offset))) wrong("verify.html carries other files than those beside it");
      return "verify.html is the page that was made, and carries these files";
    }

    async checkpoint() {
      this.needKey("the checkpoint");
      this.point = await openCheckpoint(text(await this.read("checkpoint")), this.log, "the checkpoint");
      Object.assign(this.facts, { log: this.point.origin, size: this.point.size, checkpoint: this.point.time });
      const e = parse(text(await this.read("earlier.json")), "earlier.json");
      if (typeof e.checkpoint !== "string" || !Array.isArray(e.consistency) || e.consistency.length > 128) wrong("earlier.json cannot be read");
      const earlier = await openCheckpoint(e.checkpoint, this.log, "the earlier checkpoint");
      await consistent(earlier, this.point, e.consistency.map((h) => unbase64(String(h))));
      this.earlier = earlier;
      return `the log ${this.point.origin} had ${this.point.size} events at ${this.point.time.slice(0, 19)}Z, signed`;
    }

    async events() {
      if (!this.point) wrong("the events cannot be checked without a checkpoint");
      const id = this.id, bad = [], all = text(await this.read("events.jsonl")).split("\n");
      if (all[all.length - 1] === "") all.pop();
      if (all.length > MAX_EVENTS) wrong(`events.jsonl holds more than ${MAX_EVENTS} events`);
      let last = -1;
      for (const [i, line] of all.entries()) {
        const m = /^\{"inclusion":\[([A-Za-z0-9+/=",]*)\],"leaf":(\{.*\})\}$/.exec(line);
        if (!m) return wrong(`line ${i + 1} of events.jsonl is not an event with its proof`);
        let e;
        try {
          e = JSON.parse(m[2]);
          const proof = JSON.parse(`[${m[1]}]`).map(unbase64);
          const sum = await sha256(Uint8Array.of(0), utf8.encode(m[2]));
          if (!Number.isSafeInteger(e.seq) || e.seq < 0 || e.seq >= this.point.size || proof.length > 64) wrong("out of range");
          if (!same(await rootOf(proof, 0, this.point.size, e.seq, sum), this.point.root)) wrong("another root");
        } catch (x) {
          if (!(x instanceof Wrong || x instanceof SyntaxError)) throw x;
          bad.push(`event ${Number(e?.seq)} (${printable(String(e?.action))}) does not stand in the signed log: it was changed, or its proof was`);
          continue;
        }
        if (e.seq <= last) { bad.push(`event ${e.seq} stands behind event ${last}`); continue; }
        last = e.seq;
        this.list.push(e);
        if (e.outcome === "done") this.keep(e, id);
      }
      if (this.open) {
        for (const e of this.list) {
          if (e.session !== id && e.object !== id && e.object !== this.open.request && e.object !== this.open.grant) {
            bad.push(`event ${e.seq} (${e.action}) concerns neither the session nor its request`);
          }
        }
      }
      if (bad.length > 3) bad.splice(3, bad.length, `and ${bad.length - 3} more`);
      if (bad.length) wrong(bad.join("; "));
      return `${all.length} events, each proven to stand in the signed log`;
    }

    keep(e, id) {
      const own = e.session === id && e.object === id;
      if (e.action === "request.create" && e.object === e.request) this.create = this.asked = e;
      else if (e.action === "request.edit" && e.object === e.request) this.asked = e;
      else if (e.action === "request.approve") this.votes.push(e);
      else if (e.action === "request.object") this.votes = this.votes.filter((v) => v.actor !== e.actor); // a yes that became a no
      else if (e.action === "grant.open") this.grant = e;
      else if (e.action === "session.open" && own) this.open = e;
      else if (e.action === "session.close" && own) {
        this.close = e;
        if (e.details?.recording_sha256) this.sealed = e;
      } else if (e.action === "session.seal" && own) this.sealed = e;
      else if (e.action === "certificate.issue" && e.session === id && this.certificates.length < MAX_KEPT) this.certificates.push(e);
    }

    async request() {
      const b = await this.read("request.json"), digest = hex(await sha256(b));
      if (!this.create || !this.grant) wrong("no proven event tells that the access was asked for and granted");
      for (const e of [this.asked, this.grant]) {
        if (e.details?.digest !== digest) wrong(`request.json is not the request that event ${e.seq} (${e.action}) names: its SHA-256 is ${digest}`);
      }
      const r = parse(text(b), "request.json");
      if (r.ID !== this.create.object || this.grant.request !== r.ID || r.Requester !== this.create.actor) wrong("request.json is not the request of the events");
      this.shown = r;
      Object.assign(this.facts, { request: r.ID, reason: r.Reason, requested: this.create.time, rule: this.asked.rule, policy: this.asked.details.policy, decision: this.asked.details.decision });
      return `${r.ID} is what was asked for and shown to the approvers, by its digest`;
    }

    async approvals() {
      const r = this.shown || wrong("the approvals cannot be counted without the request");
      const need = (r.Needs || []).reduce((n, x) => n + x.Count, 0), people = new Map();
      for (const e of this.votes) {
        if (e.object === r.ID && e.details?.digest === this.grant.details.digest && e.actor !== r.Requester && e.time <= this.grant.time && !people.has(e.actor)) people.set(e.actor, e);
      }
      for (const e of people.values()) await this.statement(e);
      this.facts.approvals = [...people.values()];
      if (r.BreakGlass) return "break-glass: it was opened without waiting for approval";
      if (people.size < need) wrong(`${need} people had to approve, and there are proven approvals of ${people.size}`);
      return need ? `approved by ${people.size} of ${need} people who had to, before the access was opened` : "the policy asked for nobody’s approval";
    }

    // statement checks that a vote which bears a statement bears its own.
    async statement(e) {
      const d = e.details || {}, what = `the statement of event ${e.seq} (${e.action})`;
      if (!d.statement && !d.signature) return; // from before there were any
      const { body } = await openNote(`${d.statement}\n\n\u2014 ${this.log.name} ${d.signature}\n`, [this.log], what);
      const s = parse(body, what);
      if (s._format !== "drawbolt vote 1" || s.vote !== "yes" || s.person !== e.actor || s.request !== e.object || s.digest !== d.digest) wrong(`${what} is of another vote`);
    }

    session() {
      const id = this.id, e = this.open || wrong(`no proven event tells that ${id || "the session"} was opened`), f = this.facts;
      Object.assign(f, { person: e.actor_name, target: e.target, account: e.account, source: e.source, kind: e.details?.kind, command: e.details?.command, opened: e.time, grant: e.grant });
      if (!this.shown || e.request !== this.shown.ID || e.grant !== this.grant.object || e.actor !== this.shown.Requester || e.account !== this.shown.Account || e.target !== this.grant.target) {
        wrong(`${id} was not opened under the request that is shown here`);
      }
      const c = this.close || wrong(`no proven event tells how ${id} ended`);
      if (c.request !== e.request || c.grant !== e.grant) wrong(`the events of ${id} contradict each other`);
      Object.assign(f, { closed: c.time, end: c.details?.end, status: c.details?.exit_status });
      let says = `${id}: ${f.person} as ${f.account} on ${f.target}, from ${f.opened.slice(0, 19)}Z to ${f.closed.slice(0, 19)}Z`;
      if (this.earlier && c.seq < this.earlier.size) {
        f.signed = this.earlier.time;
        says += `; its end was signed by ${f.signed.slice(0, 19)}Z`;
      }
      return says;
    }

    async recording() {
      const rep = await checkCast(await this.read("session.cast"), this.keys?.length ? this.keys : wrong("the recording cannot be checked without a key"));
      if (this.id && rep.id !== this.id) wrong(`the recording is that of ${rep.id} and not of ${this.id}`);
      const e = this.sealed || wrong("no proven event names the recording"), head = e.details.recording_head;
      if (head && head !== rep.journal) wrong(`the recording was made from the journal ${rep.journal}, event ${e.seq} says ${head}`);
      Object.assign(this.facts, { sealed: e.details.recording_sha256, seconds: rep.seconds });
      return `${rep.chunks} chunks, ${rep.events} events, sealed by ${rep.key}` +
        (head ? "" : "; the log does not name its journal, so it is bound to the session by its seal alone") +
        (rep.aborted ? "; the server died before the session ended, and what was recorded until then is whole" : "");
    }
  }

  const find = (bytes, what) => {
    for (let i = bytes.indexOf(what[0]); i >= 0; i = bytes.indexOf(what[0], i + 1)) {
      if (same(what, bytes.subarray(i, i + what.length))) return i;
    }
    return -1;
  };

  // printable makes what stands in a message one line without controls.
  const printable = (s) => s.slice(0, 300).replace(/[\p{Cc}\p{Cf}\u2028\u2029]/gu, "\ufffd");

  // ---- The filter: what may reach the terminal of the player. It is the one of
  // recorder/cast/filter.go, and lets pass characters, line ends, colours, and what
  // moves or erases; a test compares the two.

  const PLAIN = /[ -~\r\n\t\b]+/y, SEQUENCE = /\x1b\[([0-9;:]{0,64})([@-~])/y;
  const TEXT = 0, ESCAPE = 1, BETWEEN = 2, CSI = 3, STRING = 4, STRING_ST = 5;
  const numbers = (seq, between) => new RegExp(`^(?:\\d{0,4}(?:${between}|$))*$`).test(seq);
  const conceals = (seq) => {
    const number = (s) => s.replace(/^0+/, "");
    const params = seq.split(";");
    for (let i = 0; i < params.length; i++) {
      const colon = params[i].includes(":"), head = number(params[i].split(":")[0]);
      if (head === "8") return true;
      if (head !== "38" && head !== "48" && head !== "58" || colon) continue;
      i++;
      if (i < params.length && number(params[i]) === "5") i++;
      else if (i < params.length && number(params[i]) === "2") i += 3;
      if (i >= params.length) return true;
    }
    return false;
  };

  class Filter {
    state = TEXT;
    seq = "";
    long = false;
    size = 0;

    write(s) {
      this.out = "";
      for (let i = 0; i < s.length;) {
        if (this.state === TEXT) { // what there is most of, a piece at a time
          PLAIN.lastIndex = SEQUENCE.lastIndex = i;
          const plain = PLAIN.exec(s);
          if (plain) {
            this.out += plain[0];
            i += plain[0].length;
            continue;
          }
          const csi = SEQUENCE.exec(s);
          if (csi) {
            this.seq = csi[1];
            this.csi(csi[2]);
            i += csi[0].length;
            continue;
          }
        }
        const ch = String.fromCodePoint(s.codePointAt(i));
        this.char(ch, ch.codePointAt(0));
        i += ch.length;
      }
      return this.out;
    }

    text(ch, c) {
      const hidden = (c >= 0x7f && c < 0xa0) || c === 0x2028 || c === 0x2029 || (c >= 0xd800 && c < 0xe000) || (c !== 0x200d && /\p{Cf}/u.test(ch));
      this.out += hidden ? "\ufffd" : ch;
    }

    char(ch, c) {
      if (this.state === TEXT && c >= 0x80) return this.text(ch, c);
      if (this.state === STRING) {
        this.size += c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
        if (c === 0x1b) this.state = STRING_ST;
        else if (c === 7 || c === 0x18 || c === 0x1a || this.size >= 4096) this.state = TEXT;
        return;
      }
      if (this.state === STRING_ST) {
        this.state = ESCAPE;
        if (ch === "\\") { this.state = TEXT; return; }
      }
      if (c === 0x1b) { this.state = ESCAPE; return; }
      if (c === 0x18 || c === 0x1a) { this.state = TEXT; return; }
      if (c < 0x20 || c === 0x7f) {
        if ("\r\n\t\b".includes(ch)) this.out += ch;
        return;
      }
      if (c >= 0x80) { this.state = TEXT; return this.text(ch, c); }
      switch (this.state) {
        case TEXT: return this.text(ch, c);
        case ESCAPE:
          if (ch === "[") [this.state, this.seq, this.long] = [CSI, "", false];
          else if ("]PX^_".includes(ch)) [this.state, this.size] = [STRING, 0];
          else if (ch < "0") this.state = BETWEEN;
          else {
            this.state = TEXT;
            if ("78DEM".includes(ch)) this.out += "\x1b" + ch;
          }
          return;
        case BETWEEN:
          if (ch >= "0") this.state = TEXT;
          return;
        case CSI:
          if (ch >= "@") {
            this.state = TEXT;
            if (!this.long) this.csi(ch);
          } else if (this.seq.length < 64) this.seq += ch;
          else this.long = true;
      }
    }

    csi(final) {
      const s = this.seq;
      if ("ABCDEFGHfdae`JKX@PLMST".includes(final) ? !numbers(s, ";") : final === "s" || final === "u" ? s !== "" : final !== "m" || !numbers(s, "[;:]") || conceals(s)) return;
      this.out += "\x1b[" + s + final;
    }
  }

  // readEvents makes what the player plays of a recording that was checked.
  const readEvents = (bytes) => {
    const events = [], filter = new Filter(), clamp = (n, most) => Math.min(Math.max(Number(n) || 0, 1), most);
    let time = 0, cols = 80, rows = 24, comment = null, marks = 0;
    for (const { line, number } of lines(bytes)) {
      if (number === 1) {
        const h = parse(text(line), "the header of the recording");
        [cols, rows] = [clamp(h.term?.cols, 500), clamp(h.term?.rows, 200)];
      } else if (begins(line, "# drawbolt event ")) {
        comment = text(line).slice(17);
      } else if (line[0] === 91) {
        let [gap, code, data] = parse(text(line), "an event");
        time += gap;
        const [own, raw] = (comment ?? code).split(" ");
        if (raw && data === "") data = new TextDecoder().decode(unbase64(raw));
        if (code === "o") {
          const s = filter.write(data);
          if (s) events.push([time, "o", s]);
        } else if (code === "r") {
          const m = /^(\d{1,5})x(\d{1,5})$/.exec(data);
          if (m) events.push([time, "r", `${clamp(m[1], 500)}x${clamp(m[2], 200)}`]);
        } else if (code === "m" && (own === "m" || own === "h") && marks++ < 500) {
          events.push([time, "m", printable(data)]);
        }
        comment = null;
      }
    }
    events.push([time, "o", "\x1b[0m"]);
    return { cols, rows, events };
  };

  // ---- The page.

  const $ = (id) => document.getElementById(id);
  const put = (parent, tag, content, set = {}) => {
    const e = document.createElement(tag);
    e.textContent = content;
    for (const [k, v] of Object.entries(set)) e.setAttribute(k, v);
    parent.append(e);
    return e;
  };
  let player = null, current = null, turn = 0;

  const show = (v) => {
    const f = v.facts;
    $("title").textContent = "Evidence of " + (v.id || "a session");
    $("checks").replaceChildren();
    for (const c of v.checks) {
      const aside = c.name === "page" && !v.whole && c.state === "good" ? "none" : c.state, li = put($("checks"), "li", "", { "data-check": c.name, "data-state": aside });
      put(li, "span", { good: "✓", bad: "✗", unable: "?", none: "–" }[aside], { class: "sign", role: "img", "aria-label": { good: "holds", bad: "does not hold", unable: "cannot be checked", none: "not checked" }[aside] });
      put(li, "span", c.name);
      put(li, "span", c.says);
    }
    const bad = v.checks.find((c) => c.state === "bad");
    const [state, says] = bad ? ["bad", "NOT verified: " + bad.says]
      : v.unable ? ["unknown", "Not checked: this browser cannot check Ed25519 signatures. Nothing is proven. Take a newer one, or “drawbolt verify”."]
      : v.isTrusted ? ["good", "Verified: whole, unchanged, and signed with the key that you trust."]
      : ["own", "Whole, but checked only with the key that lies in the evidence: whoever made it up would have put in a key of theirs. Paste the key that you were given in another way."];
    $("verdict").dataset.state = state;
    $("verdict").textContent = says;

    const rows = $("facts");
    rows.replaceChildren();
    const fact = (name, value) => { if (value) { put(rows, "dt", name); put(rows, "dd", value); } };
    const when = (t) => t && t.slice(0, 19).replace("T", " ") + " UTC";
    if (f.person) {
      fact("Who", `${f.person} as ${f.account} on ${f.target}` + (f.source ? `, from ${f.source}` : ""));
      fact("What", f.kind + (f.command ? ": " + f.command : ""));
      fact("When", `${when(f.opened)} to ${when(f.closed) || "?"}` + (f.end ? `, ${f.end}` : "") + (f.status ? `, exit status ${f.status}` : ""));
      fact("Asked for", f.request && `${f.request}, ${when(f.requested)}`);
      fact("Reason", f.reason);
      for (const a of f.approvals || []) fact("Approved by", `${a.actor_name}, ${when(a.time)} (event ${a.seq})` + (a.reason ? `: “${a.reason}”` : ""));
      fact("Policy", f.rule && `rule ${f.rule}, decision ${f.decision}, policy ${f.policy}`);
      for (const c of v.certificates) fact("Certificate", `serial ${c.details?.serial}, ${c.account} on ${c.target}, key ${c.details?.key}, ${when(c.time)}`);
      fact("Sealed file", f.sealed && `SHA-256 ${f.sealed} (encrypted, kept by the server)`);
      fact("Log", f.log && `${f.log}, ${f.size} events at ${when(f.checkpoint)}` + (f.signed ? `; the end of the session was signed by ${when(f.signed)}` : ""));
      fact("Made", when(f.made));
    }
    $("proven").hidden = !f.person || Boolean(bad);
    $("events").replaceChildren();
    for (const e of v.list.slice(0, 2000)) {
      const tr = put($("events"), "tr", "");
      for (const cell of [e.seq, e.time.slice(0, 19).replace("T", " "), e.actor_name || e.actor, e.action + (e.object ? " " + e.object : ""), e.outcome, e.reason || ""]) put(tr, "td", cell);
    }
    $("log").hidden = !v.list.length || Boolean(bad);
  };

  const play = async (v) => {
    player?.dispose();
    player = null;
    $("recording").hidden = !v.holds;
    if (!v.holds) return;
    const cast = await v.read("session.cast"), large = cast.length > 16 << 20;
    await new Promise((done) => setTimeout(done)); // the verdict is seen first
    $("playnote").textContent = `${Math.round(v.facts.seconds)} seconds. Space plays and pauses, the arrow keys move, < and > change the speed. Titles, clipboards, links and all else that could act are left out.`;
    player = AsciinemaPlayer.create({ data: [], parser: () => readEvents(cast) }, $("player"), { fit: "width", controls: true, idleTimeLimit: 2, theme: "asciinema", preload: !large, poster: large ? undefined : "npt:" + Math.min(v.facts.seconds, 1) });
  };

  const check = async () => {
    const own = ++turn;
    $("verdict").dataset.state = "busy";
    $("verdict").textContent = "Checking…";
    try {
      if (!globalThis.crypto?.subtle) throw new Unable("This browser has no WebCrypto here: nothing can be checked. Take another one, or “drawbolt verify”.");
      const trusted = [];
      for (const line of $("key").value.split("\n").map((l) => l.trim())) {
        if (line && !line.startsWith("#")) trusted.push(await readKey(line));
      }
      if (!current) throw new Unable("The files are too large for this page to carry: choose the archive they came in.");
      const v = await new Verifier(current.bytes, current.whole, trusted).run();
      if (own !== turn) return; // something else was chosen meanwhile
      show(v);
      const told = v.files?.get("told.json");
      $("told").hidden = !told;
      if (told) $("toldtext").textContent = await v.read("told.json").then(text, () => "");
      await play(v);
      document.body.dataset.done = String(own);
    } catch (e) {
      $("verdict").dataset.state = e instanceof Unable ? "unknown" : "bad";
      $("verdict").textContent = e instanceof Wrong || e instanceof Unable ? e.message : "This page failed, and nothing is proven: " + printable(String(e));
      document.body.dataset.done = String(own);
    }
  };

  const start = () => {
    const inside = $("evidence").textContent;
    if (inside) {
      try {
        current = { bytes: unbase64(inside), whole: false };
      } catch {
        $("verdict").dataset.state = "bad";
        $("verdict").textContent = "NOT verified: the files that this page carries were changed";
        document.body.dataset.done = "0";
        return;
      }
    }
    check();
  };
  $("trust").addEventListener("submit", (e) => { e.preventDefault(); check(); });
  $("file").addEventListener("change", async (e) => {
    const file = e.target.files[0];
    if (!file) return;
    current = file.size < 2 ** 30 ? { bytes: new Uint8Array(await file.arrayBuffer()), whole: true } : null;
    check();
  });
  Object.defineProperty(globalThis, "drawboltFilter", { value: (parts) => { const f = new Filter(); return parts.map((p) => f.write(p)).join(""); } }); // for tests
  start();
})();
