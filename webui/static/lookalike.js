// The pages work without this file. It adds: search as soon as a picture is chosen, drop and paste anywhere,
// a look at the size before anything is sent, a sign of life while the server searches, and arrow keys in grids.
"use strict";

const form = document.querySelector("form.find");
const notice = document.querySelector("main > .notice");
const veil = document.querySelector(".veil");
const veilPicture = veil.querySelector("img");
const veilText = veil.querySelector("p");

function showVeil(state, text, file) {
  veil.dataset.state = state;
  veilText.textContent = text;
  URL.revokeObjectURL(veilPicture.src);
  veilPicture.hidden = !file;
  if (file) veilPicture.src = URL.createObjectURL(file);
  else veilPicture.removeAttribute("src");
  veil.hidden = false;
}

function hideVeil() {
  veil.hidden = true;
  veilText.textContent = "";
}

function complain(text) {
  hideVeil();
  notice.textContent = text;
  notice.hidden = false;
  notice.scrollIntoView({ block: "nearest" });
}

// The reason why a file is not worth sending, or nothing. What a file says of itself is only a hint: the server looks.
function objection(file, maxMegabytes) {
  if (file.type && !file.type.startsWith("image/")) return `${file.name || "This"} is not a picture.`;
  if (file.size === 0) return `${file.name || "This picture"} is an empty file.`;
  if (file.size > maxMegabytes * 1e6) return `This picture is larger than ${maxMegabytes} MB; choose a smaller one.`;
  return null;
}

function submit(target, file) {
  const reason = objection(file, Number(target.dataset.maxMegabytes));
  if (reason) {
    target.reset();
    complain(reason);
    return;
  }
  notice.hidden = true;
  showVeil("busy", "Looking for lookalikes…", file);
  target.submit();
}

function give(file) {
  const carrier = new DataTransfer();
  carrier.items.add(file);
  form.querySelector("input[type=file]").files = carrier.files;
  submit(form, file);
}

for (const one of document.querySelectorAll("form.find")) {
  one.querySelector("input[type=file]").addEventListener("change", (event) => {
    if (event.target.files.length) submit(one, event.target.files[0]);
  });
}

if (form) {
  // A picture of this very page that is dragged about is no upload.
  let ownDrag = false;
  let depth = 0;
  const carriesFile = (event) => !ownDrag && [...event.dataTransfer.types].includes("Files");
  addEventListener("dragstart", () => { ownDrag = true; });
  addEventListener("dragend", () => { ownDrag = false; });
  addEventListener("dragenter", (event) => {
    if (!carriesFile(event)) return;
    event.preventDefault();
    depth += 1;
    showVeil("drop", "Drop the picture to search with it", null);
  });
  addEventListener("dragover", (event) => { if (carriesFile(event)) event.preventDefault(); });
  addEventListener("dragleave", (event) => {
    if (!carriesFile(event)) return;
    depth = Math.max(0, depth - 1);
    if (depth === 0 && veil.dataset.state === "drop") hideVeil();
  });
  addEventListener("drop", (event) => {
    if (!carriesFile(event)) return;
    event.preventDefault();
    depth = 0;
    hideVeil();
    const file = event.dataTransfer.files[0];
    if (file) give(file);
  });
  addEventListener("paste", (event) => {
    const file = [...event.clipboardData.files][0];
    if (file) {
      event.preventDefault();
      give(file);
    } else {
      complain("There is no picture on the clipboard: copy one first.");
    }
  });
}

addEventListener("keydown", (event) => {
  if (event.key === "Escape" && !veil.hidden) {
    window.stop();
    hideVeil();
    document.querySelectorAll("form.find").forEach((one) => one.reset());
  }
});

// Coming back by the browser's own button shows the page as it was left: searching.
addEventListener("pageshow", () => {
  hideVeil();
  document.querySelectorAll("form.find").forEach((one) => one.reset());
});

// Arrow keys go from picture to picture; Tab still reaches everything.
for (const grid of document.querySelectorAll(".grid")) {
  grid.addEventListener("keydown", (event) => {
    const links = [...grid.querySelectorAll(".more-like")];
    const here = links.indexOf(document.activeElement);
    if (here < 0 || event.altKey || event.ctrlKey || event.metaKey) return;
    const top = links[0].getBoundingClientRect().top;
    const across = links.filter((link) => Math.abs(link.getBoundingClientRect().top - top) < 2).length;
    const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -across, ArrowDown: across }[event.key];
    const next = links[here + step];
    if (!next) return;
    event.preventDefault();
    next.focus();
  });
}

// A picture that cannot be had is said in words.
function markMissing(image) {
  image.closest(".picture")?.classList.add("missing");
}
document.addEventListener("error", (event) => { if (event.target instanceof HTMLImageElement) markMissing(event.target); }, true);
for (const image of document.images) if (image.src && image.complete && image.naturalWidth === 0) markMissing(image);
