// Before anything is drawn, so that nothing changes its colour then.
"use strict";
try {
  const theme = localStorage.getItem("theme");
  if (theme) document.documentElement.dataset.theme = theme;
} catch {} // a browser that keeps nothing
