// Before anything is drawn: the theme that was chosen here, else the system's.
(() => {
  try {
    const chosen = localStorage.getItem("beamline-theme");
    if (chosen === "dark" || chosen === "light") document.documentElement.dataset.theme = chosen;
  } catch { /* storage is off: the system's theme holds */ }
})();
