"use strict";
// The page is complete without this: it only shows what a mark stands for under the pointer, and opens all for print.
const tip = document.getElementById("tip");
const show = (event) => {
  const mark = event.target.closest("[data-tip]");
  if (!mark) { tip.hidden = true; return; }
  tip.textContent = mark.dataset.tip;
  tip.hidden = false;
  const box = tip.getBoundingClientRect();
  const room = document.documentElement.clientWidth;
  tip.style.left = Math.max(8, Math.min(event.clientX + 14, room - box.width - 8)) + "px";
  tip.style.top = (event.clientY > box.height + 24 ? event.clientY - box.height - 12 : event.clientY + 18) + "px";
};
document.addEventListener("pointermove", show);
document.addEventListener("pointerdown", show);
document.addEventListener("scroll", () => { tip.hidden = true; }, { passive: true });
window.addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((one) => { one.open = true; }));
