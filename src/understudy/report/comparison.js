// Tables whose head has buttons are sorted by them; a second press turns the order. Cells without a number come last.
document.querySelectorAll("table.sortable").forEach((table) => {
  const body = table.tBodies[0];
  const number = (row, column) => Number(row.cells[column].dataset.value || NaN);
  table.querySelectorAll("thead button").forEach((button) => button.addEventListener("click", () => {
    const head = button.closest("th");
    const opposite = { ascending: "descending", descending: "ascending" };
    const order = opposite[head.getAttribute("aria-sort")] || button.dataset.first;
    head.parentElement.querySelectorAll("th").forEach((other) => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", order);
    body.append(...[...body.rows].sort((a, b) => {
      const [x, y] = [number(a, head.cellIndex), number(b, head.cellIndex)];
      if (Number.isNaN(x) || Number.isNaN(y)) return Number.isNaN(x) - Number.isNaN(y);
      return order === "descending" ? y - x : x - y;
    }));
  }));
});
