// Puts every figure into a box of its own, which scrolls where the window is narrow.
document.addEventListener("DOMContentLoaded", () => {
  for (const image of document.querySelectorAll(".bd-article img")) {
    if (image.closest(".sphx-glr-thumbnails, table")) continue;
    const box = document.createElement("div");
    box.className = "scrolls";
    image.before(box);
    box.append(image);
  }
});
