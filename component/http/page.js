"use strict";
// Fetch the parts that change and put those in place that have changed, so that what
// somebody is reading or selecting elsewhere stays as it is.
const field = document.querySelector("input[type=search]");
const gone = document.getElementById("gone");
let asked = field.value.trim();
let busy = false;

async function look() {
  if (busy) return;
  busy = true;
  try {
    const answer = await fetch("./?live=1&user=" + encodeURIComponent(asked), {
      signal: AbortSignal.timeout(5000),
    });
    if (answer.status === 401) return location.reload();
    if (!answer.ok) throw new Error(answer.statusText);
    const made = document.createElement("template");
    made.innerHTML = await answer.text();
    for (const part of made.content.children) {
      const old = document.getElementById(part.id);
      if (old && old.innerHTML !== part.innerHTML) old.replaceChildren(...part.childNodes);
    }
    gone.hidden = true;
  } catch {
    gone.hidden = false;
  } finally {
    busy = false;
  }
}

field.form.addEventListener("submit", (event) => {
  event.preventDefault();
  asked = field.value.trim();
  history.replaceState(null, "", asked ? "./?user=" + encodeURIComponent(asked) : "./");
  look();
});
document.addEventListener("visibilitychange", () => document.hidden || look());
setInterval(() => document.hidden || look(), 2000);
