"use strict";
(() => {
  const gallery = document.getElementById("gallery");
  if (!gallery) return;
  const cards = [...gallery.querySelectorAll(".card")];
  const listed = [...cards];
  const panelsOf = (card) => [...card.querySelectorAll(".panel")];

  // --- filter and order

  const byClass = document.getElementById("class");
  const order = document.getElementById("order");
  const count = document.getElementById("count");

  function iou(card, column) {
    const text = card.dataset.iou.split(",")[column];
    return text === "" ? null : Number(text);
  }

  function compare(one, other) {
    if (order.value === "list") return listed.indexOf(one) - listed.indexOf(other);
    const byId = one.dataset.id < other.dataset.id ? -1 : 1;
    if (order.value === "") return byId;
    const [column, direction] = order.value.split(" ").map(Number);
    const [a, b] = [iou(one, column), iou(other, column)];
    if (a === null || b === null) return (a === null) - (b === null) || byId; // without a score: at the end
    return direction * (a - b) || byId;
  }

  function arrange() {
    const wanted = byClass.value;
    for (const card of cards) {
      card.hidden = wanted !== "" && !card.dataset.classes.split(" ").includes(wanted);
    }
    gallery.append(...cards.sort(compare));
    const shown = cards.filter((card) => !card.hidden).length;
    count.textContent = `${shown} of ${cards.length} images`;
  }

  byClass.addEventListener("change", arrange);
  order.addEventListener("change", arrange);
  byClass.form.addEventListener("submit", (event) => event.preventDefault());
  byClass.form.hidden = false;
  arrange(); // a browser that reloads may have kept the last choice

  // --- from picture to picture: one tab stop an image, arrow keys along and across the rows

  function neighbour(panel, key) {
    const card = panel.closest(".card");
    const panels = panelsOf(card);
    const place = panels.indexOf(panel);
    if (key === "ArrowLeft") return panels[place - 1];
    if (key === "ArrowRight") return panels[place + 1];
    if (key !== "ArrowUp" && key !== "ArrowDown") return undefined;
    const shown = cards.filter((one) => !one.hidden);
    const next = shown[shown.indexOf(card) + (key === "ArrowUp" ? -1 : 1)];
    return next && panelsOf(next)[Math.min(place, panelsOf(next).length - 1)];
  }

  function makeTabStop(panel) {
    for (const other of panelsOf(panel.closest(".card"))) other.tabIndex = other === panel ? 0 : -1;
  }

  for (const card of cards) makeTabStop(panelsOf(card)[0]);

  gallery.addEventListener("keydown", (event) => {
    const panel = event.target.closest(".panel");
    const next = panel && neighbour(panel, event.key);
    if (!next) return;
    event.preventDefault();
    makeTabStop(next);
    next.focus();
  });

  // --- enlarged

  const dialog = document.getElementById("enlarged");
  const caption = document.getElementById("enlarged-caption");
  const place = document.getElementById("enlarged-place");
  const buttons = { ArrowLeft: document.getElementById("previous"), ArrowRight: document.getElementById("next") };
  let current = null;

  function enlarge(panel) {
    current = panel;
    const picture = panel.querySelector("img").cloneNode();
    caption.textContent = picture.alt;
    place.replaceChildren(picture);
    for (const [key, button] of Object.entries(buttons)) button.disabled = !neighbour(panel, key);
    if (!dialog.open) dialog.showModal();
  }

  function step(key) {
    const next = neighbour(current, key);
    if (next) enlarge(next);
    return Boolean(next);
  }

  gallery.addEventListener("click", (event) => {
    const panel = event.target.closest(".panel");
    if (panel) enlarge(panel);
  });
  dialog.addEventListener("keydown", (event) => {
    if (step(event.key)) event.preventDefault();
  });
  for (const [key, button] of Object.entries(buttons)) button.addEventListener("click", () => step(key));
  document.getElementById("close").addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog) dialog.close(); // outside of what it shows
  });
  dialog.addEventListener("close", () => {
    makeTabStop(current);
    current.focus();
  });
})();
