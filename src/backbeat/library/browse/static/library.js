// One sound at a time.
document.addEventListener("play", (event) => {
  for (const other of document.querySelectorAll("audio")) if (other !== event.target) other.pause();
}, true);

// On a narrow screen the samples come first.
const facets = document.querySelector("details.facets");
if (facets && matchMedia("(max-width: 1239px)").matches) facets.open = false;
