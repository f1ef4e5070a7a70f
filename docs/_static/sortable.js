// Tables of many rows are sorted by the column whose heading is clicked: numbers as numbers, a second click turns the order round.
document.addEventListener("DOMContentLoaded", () => {
  for (const table of document.querySelectorAll(".bd-article table")) {
    const body = table.tBodies[0];
    if (!table.tHead || !body || body.rows.length < 20) continue;
    table.classList.add("sortable");
    [...table.tHead.rows[0].cells].forEach((heading, column) => {
      heading.dataset.sort = "";
      heading.title = "sort by this column";
      heading.addEventListener("click", () => {
        const turned = heading.dataset.sort === "up" ? -1 : 1;
        for (const other of table.tHead.rows[0].cells) other.dataset.sort = "";
        heading.dataset.sort = turned === 1 ? "up" : "down";
        const key = (row) => row.cells[column].textContent.trim();
        const compare = (a, b) => {
          const [x, y] = [parseFloat(a), parseFloat(b)];
          return Number.isNaN(x) || Number.isNaN(y) ? a.localeCompare(b) : x - y;
        };
        const rows = [...body.rows].sort((a, b) => turned * compare(key(a), key(b)));
        body.append(...rows);
      });
    });
  }
});
