// Use the served page as a person does, in headless Chromium:
//
//   node classify.mjs URL PHOTO... [--screenshot FILE] [--dark]
//
// Prints a line of JSON for each photo, {photo, status, classes, percent, ms}, the best class first;
// classes are empty if the page could not read it. The screenshot is of the last photo, at the
// width of a phone. CHROMIUM names the browser.

import { parseArgs } from "node:util";
import puppeteer from "puppeteer-core";

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { screenshot: { type: "string" }, dark: { type: "boolean", default: false } },
});
const [url, ...photos] = positionals;

const browser = await puppeteer.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: ["--no-sandbox"], // containers have none; only the page at URL is loaded
});
try {
  const page = await browser.newPage();
  page.on("pageerror", (error) => console.error(error.message));
  page.on("console", (message) => message.type() === "error" && console.error(message.text()));
  await page.setViewport({
    ...{ width: 375, height: 812, deviceScaleFactor: 2 },
    ...{ isMobile: true, hasTouch: true },
  });
  const scheme = values.dark ? "dark" : "light";
  await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: scheme }]);
  await page.goto(url);
  await page.waitForSelector("#choose:enabled, #status.error");
  const failure = await page.$("#status.error");
  if (failure) throw new Error(await failure.evaluate((status) => status.textContent));
  for (const photo of photos) console.log(JSON.stringify(await classify(page, photo)));
  if (values.screenshot) await page.screenshot({ path: values.screenshot, fullPage: true });
} finally {
  await browser.close();
}

async function classify(page, photo) {
  // What the photo before left, so that waiting means waiting for this one.
  await page.evaluate(() => {
    document.getElementById("classes").replaceChildren();
    document.getElementById("status").className = "";
  });
  await (await page.$("#choose")).uploadFile(photo);
  await page.waitForSelector("#classes li, #status.error");
  const shown = await page.evaluate(() => {
    const texts = (selector) =>
      Array.from(document.querySelectorAll(selector), (found) => found.textContent);
    return {
      status: texts("#status")[0],
      classes: texts("#classes span:nth-child(1)"),
      percent: texts("#classes span:nth-child(2)").map(parseFloat),
      ms: parseFloat(texts("#time")[0]),
    };
  });
  return { photo, ...shown };
}
