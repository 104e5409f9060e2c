"use strict";

// Theme: what the system says, until somebody says otherwise.
const theme = document.getElementById("theme");
const themes = ["auto", "light", "dark"];
theme.hidden = false;
theme.addEventListener("click", () => {
  const now = document.documentElement.dataset.theme ?? "auto";
  const next = themes[(themes.indexOf(now) + 1) % themes.length];
  document.documentElement.dataset.theme = next;
  theme.textContent = `Theme: ${next}`;
});

// Tables: a click on a header sorts by that column, another one turns the order around. What is empty stays last.
for (const table of document.querySelectorAll(".sortable")) {
  const headers = [...table.tHead.rows[0].cells];
  headers.forEach((header, column) => {
    header.querySelector("button").addEventListener("click", () => {
      const descending = header.getAttribute("aria-sort") === "ascending";
      headers.forEach((other) => other.removeAttribute("aria-sort"));
      header.setAttribute("aria-sort", descending ? "descending" : "ascending");
      const body = table.tBodies[0];
      const key = (row) => row.cells[column].dataset.key;
      const order = (a, b) => a.localeCompare(b, "en", { numeric: false });
      const rows = [...body.rows].sort((one, other) => {
        const [a, b] = [key(one), key(other)];
        if (a === "" || b === "") return (a === "") - (b === "");
        const difference = Number.isNaN(Number(a) - Number(b)) ? order(a, b) : Number(a) - Number(b);
        return descending ? -difference : difference;
      });
      body.append(...rows);
    });
  });
}

// Sounds: one at a time, with a line that moves over the picture; the picture is a slider.
const STEP_S = 0.25;
let sounding = null;
for (const sequence of document.querySelectorAll(".sequence")) {
  const audio = sequence.querySelector("audio");
  if (!audio) continue;
  const [picture, frame, line] = [".picture", ".window", ".playhead"].map((name) => sequence.querySelector(name));
  const [button, time] = [".play", ".time"].map((name) => sequence.querySelector(name));
  const length = Number(picture.dataset.length);
  audio.controls = false;
  button.hidden = time.hidden = false;

  const show = () => {
    const at = Math.min(audio.currentTime, length);
    line.style.left = `${(100 * at) / length}%`;
    time.textContent = `${at.toFixed(1)} / ${length.toFixed(1)} s`;
    picture.setAttribute("aria-valuenow", at.toFixed(2));
    picture.setAttribute("aria-valuetext", `${at.toFixed(1)} seconds`);
    const x = (at / length) * picture.offsetWidth;
    if (x < frame.scrollLeft || x > frame.scrollLeft + frame.clientWidth) frame.scrollLeft = x - 24;
  };
  const follow = () => {
    show();
    if (!audio.paused) requestAnimationFrame(follow);
  };
  const seek = (at) => {
    audio.currentTime = Math.max(0, Math.min(at, length));
    show();
  };
  const toggle = () => (audio.paused ? audio.play() : audio.pause());

  audio.addEventListener("play", () => {
    if (sounding && sounding !== audio) sounding.pause();
    sounding = audio;
    button.setAttribute("aria-pressed", "true");
    follow();
  });
  audio.addEventListener("pause", () => button.setAttribute("aria-pressed", "false"));
  audio.addEventListener("seeked", show);
  button.addEventListener("click", toggle);
  picture.addEventListener("click", (event) => {
    const box = picture.getBoundingClientRect();
    seek((length * (event.clientX - box.left)) / box.width);
  });
  picture.addEventListener("keydown", (event) => {
    const places = {
      ArrowRight: audio.currentTime + STEP_S,
      ArrowUp: audio.currentTime + STEP_S,
      ArrowLeft: audio.currentTime - STEP_S,
      ArrowDown: audio.currentTime - STEP_S,
      PageUp: audio.currentTime + length / 10,
      PageDown: audio.currentTime - length / 10,
      Home: 0,
      End: length,
    };
    if (event.key in places) seek(places[event.key]);
    else if (event.key === " ") toggle();
    else return;
    event.preventDefault();
  });
}
