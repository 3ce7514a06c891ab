"use strict";
(() => {
  for (const mark of document.querySelectorAll(".mark")) {
    const says = mark.closest(".chart").querySelector(".says");
    const show = () => {
      for (const other of mark.parentNode.querySelectorAll(".mark.now")) other.classList.remove("now");
      mark.classList.add("now");
      says.textContent = mark.dataset.says;
    };
    for (const event of ["pointerenter", "focus", "click"]) mark.addEventListener(event, show);
  }

  const rows = document.getElementById("step-rows");
  const heads = rows ? [...rows.querySelectorAll("thead th")] : [];
  heads.forEach((head, column) => {
    head.querySelector("button").addEventListener("click", () => {
      const before = head.getAttribute("aria-sort");
      const falling = column === 0 ? before === "ascending" : before !== "descending";
      for (const other of heads) other.setAttribute("aria-sort", "none");
      head.setAttribute("aria-sort", falling ? "descending" : "ascending");
      const body = rows.tBodies[0];
      const number = (row) => Number(row.cells[column].dataset.value);
      const sorted = [...body.rows].sort((a, b) => (falling ? number(b) - number(a) : number(a) - number(b)));
      body.append(...sorted);
    });
  });

  const course = document.getElementById("course");
  if (!course) return;
  const data = JSON.parse(document.getElementById("frames").textContent);
  const count = data.says.length;
  const areas = [...course.querySelectorAll(".area")];
  const keys = [...document.querySelectorAll(".key")];
  const viewer = document.getElementById("viewer");
  const image = keys.length ? viewer.appendChild(document.createElement("img")) : null;
  const says = viewer.appendChild(document.createElement("p"));
  says.setAttribute("aria-live", "polite");
  const cursors = areas.map((area) => {
    const line = area.appendChild(document.createElement("div"));
    line.className = "cursor";
    return line;
  });
  let now = -1;

  const choose = (wanted) => {
    const place = Math.min(Math.max(wanted, 0), count - 1);
    if (place === now) return;
    now = place;
    for (const line of cursors) line.style.left = `${count > 1 ? (100 * place) / (count - 1) : 50}%`;
    let near = null;
    for (const key of keys) {
      key.classList.remove("near");
      if (!near || Math.abs(key.dataset.place - place) < Math.abs(near.dataset.place - place)) near = key;
    }
    if (near) {
      near.classList.add("near");
      const source = near.querySelector("img");
      image.src = source.src;
      image.alt = source.alt;
    }
    says.textContent = data.says[place];
    course.setAttribute("aria-valuenow", place);
    course.setAttribute("aria-valuetext", data.says[place]);
  };

  for (const area of areas) {
    const follow = (event) => {
      const box = area.getBoundingClientRect();
      choose(Math.round(((event.clientX - box.left) / box.width) * (count - 1)));
    };
    area.addEventListener("pointermove", follow);
    area.addEventListener("pointerdown", follow);
  }
  const moves = { ArrowLeft: -1, ArrowRight: 1, PageUp: -10, PageDown: 10, Home: -count, End: count };
  course.addEventListener("keydown", (event) => {
    if (!(event.key in moves)) return;
    event.preventDefault();
    choose(now + moves[event.key]);
  });
  for (const key of keys) key.addEventListener("click", () => choose(Number(key.dataset.place)));
  choose(data.start);
})();
