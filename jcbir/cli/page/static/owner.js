import { ask, bindClose, complain, confirmed, count, day, el, find, say, send, takeDrops } from "./page.js";

const TITLES = {
  publish: "Publishing", withdraw: "Withdrawing", caption: "Changing captions", grant: "Admitting", revoke: "Revoking", rekey: "Re-keying", send: "Sending",
};
const PAGE = 120;
let state = null;
let most = PAGE;
let working = false;
const chosen = new Set();

function showServices(services) {
  for (const name of ["cloud", "authority"]) {
    const found = services[name];
    const place = find(name);
    const halted = found?.status === "halted";
    const well = found?.reachable && found.in_step && !halted;
    place.className = `state ${found ? (well ? "good" : "bad") : ""}`;
    place.textContent = !found ? "no address given" : well ? "in step" : halted ? "halted: scores were forged too often, rekey" : found.reachable ? `out of step, epoch ${found.epoch}` : "not reachable";
    place.title = found?.reason ?? "";
  }
}

function photographItem(photograph) {
  const name = photograph.path;
  const blank = () => el("span", { class: "blank" }, "not on this computer");
  const image = el("img", {
    src: `thumbnails/${photograph.image_id}`, alt: name, loading: "lazy", decoding: "async",
    onerror: () => image.replaceWith(blank()),
  });
  const box = el("input", {
    type: "checkbox", checked: chosen.has(photograph.image_id), "aria-label": `Choose ${name}`,
    onchange: () => {
      if (box.checked) chosen.add(photograph.image_id);
      else chosen.delete(photograph.image_id);
      showChosen();
    },
  });
  return el("li", {}, el("label", { class: "photograph", title: `${photograph.root}/${name}` }, image, box, el("span", { class: "path" }, name),
    photograph.caption ? el("span", { class: "caption" }, photograph.caption) : null));
}

function showChosen() {
  for (const [name, title] of [["caption", "Captions"], ["withdraw", "Withdraw"]]) {
    find(name).disabled = chosen.size === 0 || working;
    find(name).textContent = chosen.size ? `${title} ${chosen.size}` : title;
  }
}

function showPhotographs() {
  const part = find("filter").value.toLowerCase();
  const found = state.photographs.filter((each) => `${each.path}\n${each.caption}`.toLowerCase().includes(part));
  find("published-title").textContent = part
    ? `Published: ${found.length} of ${count(state.photographs.length, "photograph")}`
    : `Published: ${count(found.length, "photograph")}`;
  find("photographs").replaceChildren(...found.slice(0, most).map(photographItem));
  find("more").hidden = found.length <= most;
  showChosen();
}

/** What a grant took of its day, where the authority says so, and of how much. */
function today(grant, what) {
  const most = grant[`${what}_per_day`];
  const words = what === "queries" ? ["query", "queries"] : ["picture", "pictures"];
  if (most === undefined) return "";
  return grant.status === "in force" && `${what}_today` in grant
    ? `${grant[`${what}_today`]} of ${count(most, ...words)}` : count(most, ...words);
}

function grantRow(grant) {
  const inForce = grant.status === "in force";
  const name = grant.label || grant.grant.slice(0, 8);
  return el("tr", {},
    el("th", { scope: "row" }, name, el("p", { class: "quiet" }, grant.rights.includes("open") ? "finds and opens" : "finds only")),
    el("td", { class: "numbers" }, day(new Date(grant.expires)),
      el("p", { class: `state quiet ${grant.suspended ? "bad" : inForce ? "good" : ""}` }, grant.suspended ? "suspended: scores were forged" : grant.status)),
    el("td", { class: "numbers" }, today(grant, "queries"), el("br"), today(grant, "images")),
    el("td", { class: "end" }, inForce
      ? el("button", { type: "button", class: "danger", "aria-label": `Revoke ${name}`, onclick: () => revoke(grant, name) }, "Revoke")
      : ""));
}

async function refresh() {
  state = await ask("state");
  document.title = `${state.collection} – your collection`;
  find("collection").textContent = state.collection;
  find("summary").textContent = `${count(state.photographs.length, "photograph")}, ${count(state.grants.filter((each) => each.status === "in force").length, "person may search it", "people may search it")}`;
  find("waiting").textContent = state.waiting;
  find("send").hidden = state.waiting === 0;
  for (const name of ["album", "fingerprint", "epoch", "cipher"]) find(name).textContent = state[name];
  find("bits").textContent = `${state.bits} bits, key of ${state.modulus_bits}`;
  find("schemes").textContent = state.schemes.join(", ");
  const known = new Set(state.photographs.map((each) => each.image_id));
  for (const each of chosen) if (!known.has(each)) chosen.delete(each);
  showPhotographs();
  const rows = state.grants.toReversed().map(grantRow);
  find("grants").replaceChildren(...(rows.length ? rows : [el("tr", {}, el("td", { colSpan: 4, class: "quiet" }, "Nobody yet"))]));
  showServices(await ask("services"));
}

function showWork(title, { done = 0, total = null, text = "", notes = [] }) {
  find("work").hidden = false;
  find("work-title").textContent = title;
  const bar = find("progress");
  bar.hidden = false;
  if (total) {
    bar.max = total;
    bar.value = done;
  } else bar.removeAttribute("value");
  find("progress-text").textContent = text;
  showNotes(notes);
}

function showNotes(notes) {
  find("notes").hidden = notes.length === 0;
  find("notes").replaceChildren(...notes.map((each) => el("li", {}, each)));
}

function endWork(title, notes = []) {
  find("work").hidden = notes.length === 0;
  find("work-title").textContent = title;
  find("progress").hidden = true;
  find("progress-text").textContent = "";
  showNotes(notes);
  say(title);
}

const summaries = {
  publish: (record) => `Published ${count(record.published, "photograph")}` +
    (record.already ? `, ${record.already} were there already` : "") + (record.withdrawn ? `, withdrew ${record.withdrawn}` : "") +
    (record.skipped.length ? `, skipped ${record.skipped.length}` : ""),
  withdraw: (record) => `Withdrew ${count(record.withdrawn.length, "photograph")}`,
  caption: (record) => `Changed ${count(record.captions.length, "caption")}`,
  grant: (record) => `Admitted ${record.label}`,
  revoke: (record) => `Revoked ${count(record.revoked.length, "grant")}`,
  rekey: (record) => `Re-keyed: epoch ${record.epoch}; all grants have ended`,
  send: (record) => `Sent ${count(record.sent, "order")}`,
};

/** Wait for the order at work; its record. */
async function follow(notes = []) {
  for (;;) {
    const order = await ask("order");
    if (order.ended) {
      const all = [...notes, ...order.notes];
      if (order.error) {
        endWork(`${TITLES[order.order]} stopped`, all);
        throw new Error(order.error.reason);
      }
      endWork(summaries[order.order](order.record), all);
      return order.record;
    }
    const text = order.total ? `${order.phase}: ${order.done} of ${order.total}` : order.phase;
    showWork(`${TITLES[order.order]}…`, { ...order, text, notes: [...notes, ...order.notes] });
    await new Promise((later) => setTimeout(later, 300));
  }
}

/** One piece of work at a time; whatever becomes of it, the page shows what is so afterwards. */
async function work(steps) {
  if (working) {
    complain(new Error("One thing at a time: the one above is still at work."));
    return;
  }
  working = true;
  document.body.setAttribute("aria-busy", "true");
  find("alert").replaceChildren();
  try {
    await steps();
  } catch (error) {
    complain(error);
  }
  working = false;
  document.body.removeAttribute("aria-busy");
  await refresh().catch(complain);
}

const command = (name, form) => work(async () => {
  await send(`orders/${name}`, form);
  return follow();
});

const takeFiles = (files) => work(async () => {
  const notes = [];
  for (const [number, [name, file]] of files.entries()) {
    showWork("Copying…", { done: number, total: files.length, text: `${number} of ${files.length}: ${name}`, notes });
    try {
      await ask("files", { method: "POST", body: file, headers: { "x-name": encodeURIComponent(name) } });
    } catch (error) {
      notes.push(`${name}: ${error.message}`);
    }
  }
  if (notes.length === files.length) {
    endWork("Nothing to publish", notes);
    return;
  }
  await send("orders/publish", { bare: find("bare").checked });
  await follow(notes);
});

/** Ask for the captions of the chosen photographs; those that are others now, by pseudonym. */
function askCaptions() {
  const dialog = find("captions");
  const photographs = state.photographs.filter((each) => chosen.has(each.image_id));
  const fields = photographs.map((each) => el("input", { value: each.caption, autocomplete: "off" }));
  const rows = photographs.map((each, place) => el("label", { class: "row" },
    el("img", { src: `thumbnails/${each.image_id}`, alt: "", loading: "lazy", onerror: (event) => event.target.remove() }),
    el("span", { class: "field grow" }, each.path, fields[place])));
  dialog.replaceChildren(el("form", { method: "dialog" },
    el("h2", { id: "captions-title" }, `Captions of ${count(photographs.length, "photograph")}`),
    el("p", { class: "quiet" }, "Users read them beside the photographs. The cloud sees which photographs are sealed anew, and no word."),
    ...rows,
    el("div", { class: "row" }, el("button", { value: "yes", class: "first" }, "Save captions"), el("button", { value: "no" }, "Cancel"))));
  dialog.returnValue = "no";
  dialog.showModal();
  return new Promise((settle) => {
    dialog.addEventListener("close", () => {
      const saved = dialog.returnValue === "yes";
      settle(photographs.flatMap((each, place) => {
        const text = fields[place].value.trim();
        return saved && text !== each.caption ? [[each.image_id, text]] : [];
      }));
    }, { once: true });
  });
}

async function revoke(grant, name) {
  const text = `${name} gets no answer from now on. What they have already, only a re-key makes worthless.`;
  if (await confirmed(`Revoke ${name}?`, text, "Revoke")) await command("revoke", { grants: [grant.grant] });
}

const hexadecimal = (buffer) => Array.from(new Uint8Array(buffer), (byte) => byte.toString(16).padStart(2, "0")).join("");

find("files").addEventListener("change", async (event) => {
  const files = [...event.target.files].map((file) => [file.name, file]);
  event.target.value = "";
  if (files.length) await takeFiles(files);
});
find("choose-folder").addEventListener("click", () => find("folder").click());
find("folder").addEventListener("change", async (event) => {
  const files = [...event.target.files].map((file) => [file.webkitRelativePath || file.name, file]);
  event.target.value = "";
  if (files.length) await takeFiles(files);
});
takeDrops((files) => files.length && takeFiles(files));
find("place").addEventListener("submit", async (event) => {
  event.preventDefault();
  await command("publish", { folder: find("path").value, withdraw_missing: find("missing").checked, bare: find("bare").checked });
});
find("filter").addEventListener("input", () => { most = PAGE; showPhotographs(); });
find("more").addEventListener("click", () => { most += PAGE; showPhotographs(); });
find("caption").addEventListener("click", async () => {
  const changed = await askCaptions();
  if (!changed.length) return;
  chosen.clear();
  find("published").focus();
  await command("caption", { photographs: changed.map(([id]) => id), captions: changed.map(([, text]) => text) });
});
find("withdraw").addEventListener("click", async () => {
  const text = "They leave index and store, and no query finds them. Your own files stay where they are.";
  if (await confirmed(`Withdraw ${count(chosen.size, "photograph")}?`, text, "Withdraw")) {
    await command("withdraw", { photographs: [...chosen] });
  }
});
find("send").addEventListener("click", () => command("send", {}));
find("grant").addEventListener("submit", (event) => {
  event.preventDefault();
  work(async () => {
    const numbers = ["days", "max_results", "queries_per_day", "images_per_day", "cover"];
    const form = Object.fromEntries(numbers.map((name) => [name, find(name).valueAsNumber]));
    const enrollment = hexadecimal(await find("enrollment").files[0].arrayBuffer());
    await send("orders/grant", { ...form, enrollment, label: find("label").value, open: find("open").checked });
    const record = await follow();
    find("admitted").replaceChildren(el("p", {}, `Hand ${record.label} the folder `, el("code", {}, record.folder),
      ", and by another way the fingerprint ", el("code", {}, record.fingerprint)));
    find("grant").reset();
    find("admit").open = false;
  });
});
find("rekey").addEventListener("submit", async (event) => {
  event.preventDefault();
  const [passphrase, refit] = [find("authority-passphrase").value, find("refit").checked];
  find("rekey").reset();
  if (await confirmed("Re-key the collection?", "Every grant ends; everybody must be admitted again.", "Re-key")) {
    await command("rekey", { authority_passphrase: passphrase, refit });
  }
});
bindClose();
refresh().then(async () => {
  // An order begun before this tab was loaded.
  const order = await ask("order");
  if (order && !order.ended) await work(() => follow());
}).catch(complain);
