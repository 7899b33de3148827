// Has a passkey made or used before a form is sent. The button with data-passkey says
// what for; the answer goes into the field "passkey" of its form. What it counts for is
// the server's to say.
"use strict";

const text = (buffer) => btoa(String.fromCharCode(...new Uint8Array(buffer))).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
const bytes = (text) => Uint8Array.from(atob(text.replaceAll("-", "+").replaceAll("_", "/")), (c) => c.charCodeAt(0));

async function ask(what, form) {
  const body = what === "sign-in" ? {} : { for: what };
  if (what === "vote") body.digest = form.elements.digest.value;
  const answer = await fetch(what === "sign-in" ? "/v1/login/passkey" : "/v1/me/passkeys/prompt", {
    method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body), cache: "no-store",
  });
  const told = await answer.json();
  if (!answer.ok) throw { said: told.detail, again: told.rule?.startsWith("mfa.") };
  return told;
}

async function answerOf(what, form) {
  const told = await ask(what, form);
  const known = told.credentials.map((id) => ({ type: "public-key", id: bytes(id) }));
  const common = { challenge: bytes(told.challenge), timeout: told.timeout_seconds * 1000 };
  const made = what === "add"
    ? await navigator.credentials.create({ publicKey: {
      ...common, rp: { id: told.relying_party, name: "drawbolt" },
      user: { id: new TextEncoder().encode(told.user_id), name: told.user, displayName: told.user },
      pubKeyCredParams: told.algorithms.map((alg) => ({ type: "public-key", alg })), excludeCredentials: known, attestation: "none",
      authenticatorSelection: { residentKey: "required", requireResidentKey: true, userVerification: "required" },
    } })
    : await navigator.credentials.get({ publicKey: { ...common, rpId: told.relying_party, allowCredentials: known, userVerification: "required" } });
  const response = {};
  for (const name of ["clientDataJSON", "attestationObject", "authenticatorData", "signature", "userHandle"]) {
    if (made.response[name]) response[name] = text(made.response[name]);
  }
  return JSON.stringify({ id: made.id, rawId: text(made.rawId), type: made.type, response });
}

function why(error) {
  switch (error.name) { // WebAuthn level 3, sections 5.1.3 and 5.1.4
    case "NotAllowedError": return "Nothing was confirmed. Try again, or use the code of your authenticator.";
    case "InvalidStateError": return "This device has a passkey of yours already.";
    case "SecurityError": return "This browser uses no passkeys at this address.";
    case "NotSupportedError": return "This device cannot make such a passkey.";
  }
  return error.said || "The server does not answer. Try again.";
}

let busy = false;
document.addEventListener("click", async (event) => {
  const button = event.target.closest("button[data-passkey]");
  const form = button?.form;
  if (!form) return;
  event.preventDefault();
  const what = button.dataset.passkey, said = form.querySelector("[data-said]");
  if (busy || what !== "sign-in" && !form.reportValidity()) return;
  busy = true;
  said.replaceChildren();
  try {
    if (!navigator.credentials || !window.PublicKeyCredential) throw { said: "This browser has no passkeys. Use the code of your authenticator." };
    form.elements.passkey.value = await answerOf(what, form);
    if (!form.isConnected) throw { said: "The page has changed meanwhile: look at it again." };
    form.requestSubmit(button);
  } catch (error) {
    said.textContent = why(error);
    if (error.again) {
      const link = document.createElement("a");
      link.className = "link";
      link.href = "/login?next=" + encodeURIComponent(location.pathname);
      link.textContent = "Sign in again";
      said.append(" ", link);
    }
  }
  form.elements.passkey.value = "";
  busy = false;
});
