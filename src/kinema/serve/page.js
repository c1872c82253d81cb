// A file dropped anywhere on the page goes to the button that reads settings; where a picture or video is asked for, it stays there.
document.addEventListener("dragover", (event) => event.preventDefault());
document.addEventListener("drop", (event) => {
  if (event.target.closest && event.target.closest(".k-given")) return;
  const input = document.querySelector("input[type=file][data-testid$=upload-button]");
  if (!input || !event.dataTransfer.files.length) return;
  event.preventDefault();
  input.files = event.dataTransfer.files;
  input.dispatchEvent(new Event("change", { bubbles: true }));
});
// Videos of the gallery play under the pointer, and under the keyboard's focus.
for (const [name, action] of [["mouseover", "play"], ["focusin", "play"], ["mouseout", "pause"], ["focusout", "pause"]]) {
  document.addEventListener(name, (event) => {
    const video = event.target.closest && event.target.closest(".k-card")?.querySelector("video");
    if (video) Promise.resolve(video[action]()).catch(() => {});
  });
}
// Gradio follows an upload by a stream whose close() only warns that it does not exist, and ends it so. The stream ends by itself.
const warn = console.warn.bind(console);
console.warn = (...said) => said[0] === "Method not implemented." || warn(...said);
