// What both pages share. Text goes in as text: nothing here ever parses markup.

/** An element with properties (`on…` are listeners, `class` the class, `aria-…` and `data-…` attributes) and children. */
export function el(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name === "class") made.className = value;
    else if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (name.includes("-") || name === "for" || name === "role" || name === "scope") made.setAttribute(name, value);
    else made[name] = value;
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

export const find = (id) => document.getElementById(id);

/** A request to this page's own program; its answer, or an error with the program's sentence. */
export async function ask(path, { method = "GET", body, headers = {} } = {}) {
  let response;
  try {
    response = await fetch(path, { method, body, headers, credentials: "same-origin" });
  } catch {
    throw new Error("The program behind this page does not answer; it may have been ended in its terminal.");
  }
  const kind = response.headers.get("content-type") ?? "";
  const answer = kind.startsWith("application/json") ? await response.json() : { reason: (await response.text()).trim() };
  if (response.ok) return answer;
  throw new Error(response.status === 500 ? "This is a defect; the terminal shows where." : answer.reason);
}

export const send = (path, form) => ask(path, { method: "POST", body: JSON.stringify(form) });

/** Say something to those who look and those who listen. */
export const say = (text) => { find("status").textContent = text; };

export function complain(error) {
  const place = find("alert");
  const away = el("button", { type: "button", onclick: () => place.replaceChildren() }, "Dismiss");
  place.replaceChildren(el("p", { class: "alert" }, error.message, away));
}

/** Files of a drop, a folder's with their paths below it. */
export async function droppedFiles(transfer) {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  if (!entries.length) return [...transfer.files].map((file) => [file.name, file]);
  const found = [];
  async function visit(entry) {
    if (entry.isFile) {
      const file = await new Promise((take, fail) => entry.file(take, fail));
      found.push([entry.fullPath.replace(/^\//, ""), file]);
      return;
    }
    const reader = entry.createReader();
    for (;;) {
      // A reader gives a hundred at a time.
      const some = await new Promise((take, fail) => reader.readEntries(take, fail));
      if (!some.length) return;
      for (const each of some) await visit(each);
    }
  }
  for (const entry of entries) await visit(entry);
  return found;
}

/** Take files that are dropped anywhere, and keep the browser from opening them in place of the page. */
export function takeDrops(take) {
  let depth = 0;
  const carriesFiles = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");
  const mark = (change) => {
    depth = Math.max(0, depth + change);
    document.body.classList.toggle("dragging", depth > 0);
  };
  addEventListener("dragenter", (event) => carriesFiles(event) && mark(1));
  addEventListener("dragleave", (event) => carriesFiles(event) && mark(-1));
  addEventListener("dragover", (event) => event.preventDefault());
  addEventListener("drop", async (event) => {
    event.preventDefault();
    depth = 0;
    mark(0);
    try {
      take(await droppedFiles(event.dataTransfer));
    } catch (error) {
      complain(error);
    }
  });
}

/** Ask before what cannot be taken back; resolves to yes or no. */
export function confirmed(title, text, action) {
  const dialog = find("confirm");
  return new Promise((settle) => {
    dialog.replaceChildren(
      el("h2", { id: "confirm-title" }, title),
      el("p", {}, text),
      el("form", { method: "dialog" }, el("div", { class: "row" },
        el("button", { value: "yes", class: "danger" }, action),
        el("button", { value: "no", autofocus: true }, "Cancel"))),
    );
    dialog.returnValue = "no";
    dialog.addEventListener("close", () => settle(dialog.returnValue === "yes"), { once: true });
    dialog.showModal();
  });
}

export function bindClose() {
  find("close").addEventListener("click", async () => {
    try {
      await send("close", {});
      const end = el("p", { tabIndex: -1 }, "Closed. The program has ended and forgot its keys; this tab can go.");
      document.body.replaceChildren(el("main", {}, el("div", { class: "card" }, end)));
      end.focus();
    } catch (error) {
      complain(error);
    }
  });
}

export const count = (number, one, many = `${one}s`) => `${number.toLocaleString()} ${number === 1 ? one : many}`;

const DAY = new Intl.DateTimeFormat(undefined, { dateStyle: "medium" });
export const day = (moment) => (Number.isNaN(moment.getTime()) ? "" : DAY.format(moment));
