// Saves keystrokes: without it every button of the page works as well.
"use strict";

const $ = (id) => document.getElementById(id);
const csrf = document.body.dataset.csrf;
const form = $("decision");

// Keeps what a browser may refuse to keep.
function stored(area, key, value) {
  try {
    if (value === undefined) return area.getItem(key);
    if (value === null) area.removeItem(key);
    else area.setItem(key, value);
  } catch { /* private mode */ }
  return null;
}

function post(path, body) {
  return fetch(path, { method: "POST", headers: { "x-csrf": csrf }, body });
}

// A second Enter that was meant for the page before must not decide on a case that nobody has heard.
let ready = false;
setTimeout(() => { ready = true; document.body.dataset.ready = ""; }, 300);

// A draft is kept until the server says that it stored what was sent: it may refuse, or not answer at all.
const sent = stored(sessionStorage, "sent");
stored(sessionStorage, "sent", null);
if (sent !== null && location.search.includes("said=")) stored(sessionStorage, sent, null);

if (location.search.includes("said=") || location.search.includes("undone=")) {
  history.replaceState(null, "", location.pathname); // a reload does not say it again
}

if (form) {
  const text = $("text"), said = $("said"), chosen = $("chosen"), spelling = $("spelling"), keys = $("keys");
  const say = (message) => { said.textContent = message; };
  if (said.textContent) { // screen readers read what changes, not what is there from the start
    const message = said.textContent;
    say("");
    setTimeout(() => say(message), 100);
  }

  // The clip: our own player over the browser's.
  const audio = $("audio"), player = document.querySelector(".player");
  let duration = audio ? Number(audio.dataset.duration) : 0;
  const speeds = [1, 0.75, 0.5];

  function draw() {
    const at = Math.min(audio.currentTime, duration), share = duration ? at / duration : 0;
    const x = share * $("wave").querySelector("svg").viewBox.baseVal.width;
    $("cursor").setAttribute("x1", x);
    $("cursor").setAttribute("x2", x);
    $("played").setAttribute("width", x);
    $("time").textContent = `${at.toFixed(1)} / ${duration.toFixed(1)}`;
    $("wave").setAttribute("aria-valuenow", at.toFixed(2));
    $("wave").setAttribute("aria-valuetext", `${at.toFixed(1)} of ${duration.toFixed(1)} seconds`);
    if (!audio.paused) requestAnimationFrame(draw);
  }
  function play() {
    if (audio) audio.play().catch(() => say("Press Space to play."));
  }
  function toggle() {
    if (!audio) return;
    if (audio.paused) play(); else audio.pause();
  }
  function seek(seconds) {
    if (!audio) return;
    audio.currentTime = Math.max(0, Math.min(duration, seconds));
    draw();
  }
  function slower() {
    if (!audio) return;
    audio.playbackRate = speeds[(speeds.indexOf(audio.playbackRate) + 1) % speeds.length];
    $("speed").textContent = `${audio.playbackRate}×`;
    $("speed").setAttribute("aria-label", audio.playbackRate === 1 ? "Speed: as spoken" : `Speed: ${audio.playbackRate}`);
  }
  if (audio) {
    player.hidden = false;
    audio.controls = false;
    for (const event of ["play", "pause", "ended", "seeked"]) {
      audio.addEventListener(event, () => {
        $("play").setAttribute("aria-label", audio.paused ? "Play" : "Pause");
        $("play").classList.toggle("on", !audio.paused);
        draw();
      });
    }
    // Heard is what was played to (nearly) its end, at whatever speed; a clip that was heard stays heard after a reload.
    const once = `heard:${form.dataset.case}`;
    $("listened").hidden = true;
    $("hearing").checked = stored(sessionStorage, once) !== null;
    for (const event of ["timeupdate", "pause", "ended"]) {
      audio.addEventListener(event, () => {
        let seconds = 0;
        for (let part = 0; part < audio.played.length; part++) seconds += audio.played.end(part) - audio.played.start(part);
        if ($("hearing").checked || seconds < 0.9 * duration) return;
        $("hearing").checked = true;
        stored(sessionStorage, once, "");
      });
    }
    audio.addEventListener("error", () => say("This recording cannot be played here."));
    $("play").addEventListener("click", toggle);
    $("speed").addEventListener("click", slower);
    $("wave").addEventListener("pointerdown", (event) => {
      const box = $("wave").getBoundingClientRect();
      seek((event.clientX - box.left) / box.width * duration);
    });
    $("heard").addEventListener("click", (event) => {
      const start = event.target.dataset.start;
      if (start !== undefined) { seek(Number(start) - 0.1); play(); }
    });
  }

  // The text, and what of it the model cannot write.
  const draft = `draft:${form.dataset.case}:${form.dataset.basis}`;
  const choices = [...document.querySelectorAll(".choice")];
  let asked = 0;

  function changed() {
    const same = choices.find((choice) => choice.dataset.text === text.value.trim());
    for (const choice of choices) choice.classList.toggle("taken", choice === same);
    chosen.value = same ? same.dataset.chosen : "typed";
    if ($("empty") && text.value.trim()) $("empty").remove();
    text.style.height = "auto"; // through the object model, which the policy allows
    text.style.height = `${text.scrollHeight + 2}px`;
    clearTimeout(asked);
    asked = setTimeout(check, 150);
  }
  async function check() {
    const of = text.value;
    try {
      const answer = await post("/spelling", new URLSearchParams({ text: of }));
      if (!answer.ok || of !== text.value) return;
      const found = await answer.json();
      const names = found.map((odd) => `${odd.character} (${odd.name})`).join(", ");
      const message = names && `The model cannot write ${names}: kept, but not trained on. Write it as it is spoken.`;
      if (spelling.textContent !== message) spelling.textContent = message;
    } catch { /* the next letter asks again */ }
  }
  function take(key) {
    const choice = choices.find((one) => one.dataset.key === key);
    if (!choice) return;
    text.value = choice.dataset.text;
    stored(sessionStorage, draft, text.value);
    changed();
    say(`Taken over: ${text.value}`);
  }
  for (const choice of choices) choice.addEventListener("click", () => take(choice.dataset.key));
  text.addEventListener("input", () => { stored(sessionStorage, draft, text.value); changed(); });
  const kept = stored(sessionStorage, draft);
  if ($("refused")) { // under another name where somebody decided meanwhile
    if (sent !== null) stored(sessionStorage, sent, null);
    stored(sessionStorage, draft, text.value);
  } else if (kept !== null) text.value = kept;
  changed();

  // A machine's text that nobody listened to is not what was said; the server asks as well.
  const words = (one) => one.toLowerCase().replace(/[^\p{L}\p{N}\s']/gu, " ").split(/\s+/).filter(Boolean).join(" ");
  function question(action) {
    const now = words(text.value), same = now === words(form.dataset.start);
    if (!["text", "rightly"].includes(action) || !same && !choices.some((one) => words(one.dataset.text) === now)) return "";
    if (!$("hearing")?.checked) return "Nobody has heard this clip to its end yet: Space plays it.";
    return same && action === "text" ? "Nothing was changed. Was it heard rightly? Then press H." : "";
  }

  // A case is decided once, however fast the keys come.
  let sending = false;
  form.addEventListener("submit", (event) => {
    const action = event.submitter ? event.submitter.value : "text", asks = question(action);
    if (sending || asks) { event.preventDefault(); if (asks) say(asks); return; }
    sending = true;
    if (action !== "skip") stored(sessionStorage, "sent", draft);
    say("Storing …");
  });
  $("undo").addEventListener("submit", (event) => { if (sending) event.preventDefault(); sending = true; });
  window.addEventListener("pageshow", (event) => { if (event.persisted) location.reload(); });
  const decide = (action) => {
    const button = form.querySelector(`button[value=${action}]`); // a case without its recording is never heard rightly
    if (ready && button) form.requestSubmit(button);
  };

  // Keys: alone outside of the field, with Alt inside.
  const commands = {
    r: () => { seek(0); play(); },
    l: slower,
    e: () => { text.focus(); text.setSelectionRange(text.value.length, text.value.length); },
    s: () => decide("skip"),
    b: () => decide("bad_audio"),
    n: () => decide("not_speech"),
    h: () => decide("rightly"),
    u: () => { if (ready) $("undo").requestSubmit(); },
    " ": toggle,
    arrowleft: () => seek(audio.currentTime - 0.5),
    arrowright: () => seek(audio.currentTime + 0.5),
    "?": () => keys.showModal(),
    enter: () => decide("text"),
  };
  function named(event) {
    const digit = /^(?:Digit|Numpad)([1-9])$/.exec(event.code);
    if (digit) return digit[1];
    const letter = /^Key([A-Z])$/.exec(event.code);
    return event.altKey && letter ? letter[1].toLowerCase() : event.key.toLowerCase();
  }
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.isComposing || keys.open) return;
    const inField = event.target === text, key = named(event);
    if (inField && key === "escape") { text.blur(); return; }
    if (inField && !event.altKey && !(key === "enter" && !event.shiftKey)) return;
    const own = event.target.closest("button, a, summary, input"); // these have their own Enter and Space
    if (own && !event.altKey && (key === "enter" || key === " ")) return;
    if (!event.altKey && key !== "enter" && !$("single").checked) return;
    const command = /^[1-9]$/.test(key) ? () => take(key) : commands[key];
    if (!command || event.repeat && !key.startsWith("arrow")) return;
    event.preventDefault();
    command();
  });
  $("help").addEventListener("click", () => keys.showModal());
  for (const name of ["single", "autoplay"]) {
    $(name).checked = stored(localStorage, name) !== "off";
    $(name).addEventListener("change", () => stored(localStorage, name, $(name).checked ? "on" : "off"));
  }

  // The case stays ours while its page is open, and the next clip is fetched.
  setInterval(async () => {
    try {
      const answer = await post("/lease");
      if (answer.status === 403) say("The server was started anew. Load the page again; what you wrote is kept.");
    } catch { say("The server cannot be reached. What you wrote is kept in this page."); }
  }, Number(document.body.dataset.renew) * 1000);
  if (form.dataset.following) {
    const ahead = () => fetch(form.dataset.following).catch(() => {});
    if (audio) audio.addEventListener("canplaythrough", ahead, { once: true }); else ahead();
  }
  if (audio && $("autoplay").checked) play();
}
