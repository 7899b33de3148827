"use strict";try{const t=localStorage.getItem("theme");t&&(document.documentElement.dataset.theme=t)}catch{}
