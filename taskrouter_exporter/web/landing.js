"use strict";
(() => {
  const table = document.getElementById("targets"), tools = document.getElementById("tools");
  const body = table && table.tBodies[0];
  if (!body || !tools) return;
  const rows = [...body.rows], heads = [...table.tHead.rows[0].cells];
  const filter = document.getElementById("filter"), order = document.getElementById("order");
  const shown = document.getElementById("shown");

  const value = (row, column) => {
    const text = row.cells[column].textContent.trim();
    if (!heads[column].classList.contains("number")) return text.toLowerCase();
    const number = parseFloat(text.replaceAll(",", ""));
    return Number.isNaN(number) ? -1 : number;
  };

  const sort = (column, descending) => {
    heads.forEach(head => head.removeAttribute("aria-sort"));
    let sorted = rows;
    if (column >= 0) {
      const sign = descending ? -1 : 1, values = new Map(rows.map(row => [row, value(row, column)]));
      sorted = [...rows].sort((a, b) => {
        const [x, y] = [values.get(a), values.get(b)];
        return sign * (typeof x === "number" ? x - y : x.localeCompare(y));
      });
      heads[column].setAttribute("aria-sort", descending ? "descending" : "ascending");
    }
    order.value = String(column);
    body.append(...sorted);
  };

  heads.slice(0, -1).forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    button.addEventListener("click", () => {
      const number = head.classList.contains("number"), now = head.getAttribute("aria-sort");
      sort(column, now ? now === "ascending" : number);
    });
    head.replaceChildren(button);
    order.add(new Option(button.textContent, column));
  });
  order.addEventListener("change", () => {
    const column = Number(order.value);
    sort(column, column >= 0 && heads[column].classList.contains("number"));
  });

  const named = row => [...row.cells].slice(0, 3).map(cell => cell.textContent.toLowerCase()).join(" ");
  const texts = new Map(rows.map(row => [row, named(row)]));
  filter.addEventListener("input", () => {
    const words = filter.value.toLowerCase().split(/\s+/);
    let count = 0;
    for (const row of rows) {
      row.hidden = !words.every(word => texts.get(row).includes(word));
      count += !row.hidden;
    }
    shown.textContent = filter.value ? `${count} of ${rows.length} targets` : "";
  });

  const open = () => {
    const element = document.getElementById(location.hash.slice(1));
    if (element instanceof HTMLDetailsElement) element.open = true;
  };
  addEventListener("hashchange", open);
  open();
  tools.hidden = false;
})();
