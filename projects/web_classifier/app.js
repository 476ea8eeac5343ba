// The page: takes photos from the chooser, the camera or a drop, and shows what the network says.

import { Classifier } from "./classifier.js";

const element = (id) => document.getElementById(id);
const inputs = [element("choose"), element("camera")];

let classifier;
let last = Promise.resolve(); // photos are classified one after another

try {
  classifier = await Classifier.load(new URL("model/", document.baseURI));
  ready();
} catch (error) {
  console.error(error);
  say("The network could not be loaded. Has prepare.py written the folder model/?", true);
}

function ready() {
  const { name, side, size } = classifier;
  element("name").textContent = name;
  element("size").textContent = `${(size / 1e6).toFixed(1)} MB`;
  element("input").textContent = `${side} × ${side} px`;
  element("figures").hidden = false;
  for (const input of inputs) {
    input.disabled = false;
    input.addEventListener("change", () => {
      enqueue(input.files[0]);
      input.value = ""; // so that the same photo can be chosen again
    });
  }
  element("frame").addEventListener("click", () => inputs[0].click());
  // On the whole document: a photo that misses the frame shall not replace the page.
  document.addEventListener("dragover", (event) => {
    event.preventDefault();
    element("frame").classList.add("over");
  });
  document.addEventListener("dragleave", () => element("frame").classList.remove("over"));
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    element("frame").classList.remove("over");
    enqueue(event.dataTransfer.files[0]);
  });
  say("Ready: choose or drop a photo.");
}

function enqueue(file) {
  if (file) last = last.then(() => show(file));
}

async function show(file) {
  say("Looking …");
  element("classes").replaceChildren();
  let bitmap;
  try {
    bitmap = await createImageBitmap(file); // upright, as its EXIF data says
  } catch {
    element("picture").hidden = true;
    return say(`${file.name} is no picture that this browser can read.`, true);
  }
  showPicture(file);
  try {
    const { guesses, ms } = await classifier.classify(bitmap);
    element("classes").replaceChildren(...guesses.map(row));
    element("time").textContent = `${ms.toFixed(1)} ms`;
    say(`Most likely: ${guesses[0].name}`);
  } catch (error) {
    console.error(error);
    say(`The network failed on ${file.name}: ${error.message}`, true);
  } finally {
    bitmap.close();
  }
}

function showPicture(file) {
  const picture = element("picture");
  URL.revokeObjectURL(picture.src);
  picture.src = URL.createObjectURL(file);
  picture.alt = `The chosen photo, ${file.name}`;
  picture.hidden = false;
}

function row({ name, probability }) {
  const percent = (100 * probability).toFixed(1);
  const item = document.createElement("li");
  const label = document.createElement("span");
  label.textContent = name;
  const value = document.createElement("span");
  value.textContent = `${percent} %`;
  const bar = document.createElement("div");
  bar.className = "bar";
  bar.style.setProperty("--width", `${percent}%`);
  item.append(label, value, bar);
  return item;
}

function say(text, isError = false) {
  element("status").textContent = text;
  element("status").classList.toggle("error", isError);
}
