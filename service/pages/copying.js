// Copying: text to the clipboard, by a button that says how it went.

const SHOWN = 1500; // milliseconds

/** A button that copies what `text()` returns. */
export function copyButton(label, text) {
  let shown = 0;
  const button = document.createElement("button");
  button.type = "button";
  button.className = "small copy";
  button.textContent = "Copy";
  button.setAttribute("aria-label", label);
  button.addEventListener("click", async () => {
    button.textContent = (await copied(text())) ? "Copied" : "Not copied";
    button.removeAttribute("aria-label"); // it would be read out instead of how it went
    clearTimeout(shown);
    shown = setTimeout(() => {
      button.textContent = "Copy";
      button.setAttribute("aria-label", label);
    }, SHOWN);
  });
  return button;
}

async function copied(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return copiedByHand(text);
  }
}

// Browsers give the clipboard to secure pages only; a gateway in a local network often has no certificate.
function copiedByHand(text) {
  const place = document.createElement("textarea");
  place.className = "unseen";
  place.value = text;
  const before = document.activeElement;
  document.body.append(place);
  place.select();
  const done = document.execCommand("copy");
  place.remove();
  before?.focus();
  return done;
}
