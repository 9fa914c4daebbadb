import { ask, bindClose, complain, count, day, el, find, say, takeDrops } from "./page.js";

const PARTIES = { server: "The cloud", authority: "The authority", owner: "The owner", user: "You" };
let bits = 0;
let answered = [];
let line = Promise.resolve();
let shown = [];
let place = 0;

function showBudget(budget) {
  find("queries").textContent = `${budget.queries} of ${budget.queries_per_day}`;
  find("images").textContent = `${budget.images} of ${budget.images_per_day}`;
}

async function begin() {
  const state = await ask("state");
  ({ bits } = state);
  document.title = `${state.collection} – private search`;
  find("collection").textContent = state.collection;
  find("expires").textContent = day(new Date(state.expires));
  find("top").max = state.max_results;
  find("top").value = Math.min(10, state.max_results);
  find("rights").textContent = state.rights.includes("open") ? "find and open" : "find, without pictures";
  for (const name of ["fingerprint", "cloud", "epoch"]) find(name).textContent = state[name];
  showBudget(state.budget);
}

/** How far a match is; the scheme `integer` ranks differences in place of bits. */
const apart = (answer, match) => (answer.scheme === "integer" ? `difference of rank ${match.distance}` : `${match.distance} of ${bits} bits apart`);
const taken = (match) => (match.taken ? day(new Date(match.taken)) : "");
const nameOf = (match) => match.name || match.image_id;

function matchItem(answer, match, number) {
  const path = `queries/${answer.query}/${number}`;
  const name = nameOf(match);
  const picture = match.opened
    ? el("button", { type: "button", class: "picture", "aria-label": `Enlarge ${name}`, onclick: () => view(answer, number) },
        el("img", { src: path, alt: match.caption || name, loading: "lazy" }))
    : el("div", { class: "blank" }, "not opened");
  const near = answer.scheme === "integer" ? null : el("meter", { min: 0, max: bits, value: bits - match.distance, "aria-hidden": "true" });
  const also = el("p", { class: "also" });
  const date = taken(match);
  const caption = el("figcaption", {},
    el("span", { class: "title", title: name }, name),
    date ? el("span", { class: "quiet" }, date) : null,
    match.caption ? el("span", { class: "caption" }, match.caption) : null,
    el("span", { class: "line" },
      el("span", { class: "quiet numbers" }, apart(answer, match)),
      match.opened ? el("a", { href: `${path}?save`, download: "", "aria-label": `Save ${name}` }, "Save") : null),
    near, also);
  const item = el("li", {}, el("figure", { class: "match" }, picture, caption));
  match.item = item;
  match.also = also;
  return item;
}

function learnedTable(answer) {
  const rows = answer.learned.map((row) => el("tr", {},
    el("th", { scope: "row" }, PARTIES[row.party]), el("td", {}, row.learned)));
  const head = el("thead", {}, el("tr", {}, el("th", { scope: "col" }, "Who"), el("th", { scope: "col" }, "Learned from this query")));
  return el("details", {}, el("summary", {}, "What each party learned"),
    el("div", { class: "scroll" }, el("table", {}, head, el("tbody", {}, ...rows))));
}

function fill(card, answer) {
  const { seconds } = answer;
  const audited = answer.audited ? `, ${count(answer.audited, "block")} audited` : "";
  const about = `${count(answer.matches.length, "result")} in ${seconds.all.toFixed(1)} s, ${seconds.services.toFixed(1)} s of it at the services${audited}`;
  card.classList.remove("waiting");
  card.querySelector(".about").textContent = about;
  card.querySelector(".tools").replaceChildren(
    el("a", { class: "button", href: `queries/${answer.query}.zip`, download: "", "aria-label": `Save all results of ${answer.name}` }, "Save all"),
    el("button", { type: "button", "aria-label": `Remove ${answer.name}`, onclick: () => remove(card, answer) }, "Remove"));
  card.querySelector(".matches").replaceChildren(...answer.matches.map((match, number) => matchItem(answer, match, number)));
  card.append(learnedTable(answer));
}

/** Mark what several queries found. */
function compare() {
  for (const answer of answered) {
    for (const match of answer.matches) {
      const others = answered.filter((other) => other !== answer && other.matches.some((each) => each.image_id === match.image_id));
      match.also.textContent = others.length ? `also for ${[...new Set(others.map((other) => other.name))].join(", ")}` : "";
      match.item.firstChild.classList.toggle("common", others.length > 0);
    }
  }
  find("tools").hidden = answered.length === 0;
  find("side").hidden = answered.length < 2;
  if (answered.length < 2) setSide(false);
}

function setSide(on) {
  find("side").setAttribute("aria-pressed", String(on));
  find("results").classList.toggle("side", on);
}

async function remove(card, answer) {
  answered = answered.filter((each) => each !== answer);
  card.remove();
  compare();
  find("results").focus();
  try {
    await ask(`queries/${answer.query}`, { method: "DELETE" });
  } catch (error) {
    complain(error);
  }
}

function waitingCard(name, file) {
  const preview = URL.createObjectURL(file);
  const image = el("img", { class: "asked", src: preview, alt: "" });
  const title = el("h3", {}, name);
  return el("article", { class: "card query waiting" },
    el("header", {}, image,
      el("div", { class: "grow" }, title, el("p", { class: "quiet about" }, "Waiting…")),
      el("div", { class: "row tools" })),
    el("ol", { class: "matches" }));
}

async function search(name, file, card) {
  card.querySelector(".about").textContent = "Searching…";
  say(`Searching for ${name}`);
  try {
    const answer = await ask(`queries?top=${find("top").valueAsNumber}&audit=${find("audit").value}`,
      { method: "POST", body: file, headers: { "x-name": encodeURIComponent(name) } });
    fill(card, answer);
    answered.unshift(answer);
    compare();
    showBudget(answer.budget);
    say(`${name}: ${count(answer.matches.length, "result")}`);
  } catch (error) {
    card.remove();
    say("");
    complain(new Error(`${name}: ${error.message}`));
  }
}

/** One query after another; each shows as it opens. */
function take(files) {
  if (!find("top").reportValidity()) return;
  find("alert").replaceChildren();
  const cards = files.map(([name, file]) => waitingCard(name, file));
  find("results").prepend(...cards);
  for (const [number, [name, file]] of files.entries()) line = line.then(() => search(name, file, cards[number]));
}

function view(answer, number) {
  shown = answer.matches.flatMap((match, each) => (match.opened ? [[answer, each]] : []));
  place = shown.findIndex(([, each]) => each === number);
  showPlace();
  find("viewer").showModal();
}

function showPlace() {
  const [answer, number] = shown[place];
  const match = answer.matches[number];
  const path = `queries/${answer.query}/${number}`;
  find("viewer-image").src = path;
  find("viewer-image").alt = match.caption || nameOf(match);
  find("viewer-title").textContent = nameOf(match);
  find("viewer-about").textContent = [taken(match), apart(answer, match), `${place + 1} of ${shown.length} for ${answer.name}`].filter(Boolean).join(" · ");
  find("viewer-caption").textContent = match.caption ?? "";
  find("viewer-save").href = `${path}?save`;
  find("viewer-before").disabled = place === 0;
  find("viewer-after").disabled = place === shown.length - 1;
}

function step(change) {
  place = Math.min(shown.length - 1, Math.max(0, place + change));
  showPlace();
}

find("file").addEventListener("change", (event) => {
  take([...event.target.files].map((file) => [file.name, file]));
  event.target.value = "";
});
addEventListener("paste", (event) => {
  const files = [...(event.clipboardData?.files ?? [])];
  if (files.length) take(files.map((file) => [file.name || "pasted", file]));
});
takeDrops(take);
find("side").addEventListener("click", () => setSide(find("side").getAttribute("aria-pressed") !== "true"));
find("viewer-before").addEventListener("click", () => step(-1));
find("viewer-after").addEventListener("click", () => step(1));
find("viewer").addEventListener("keydown", (event) => {
  if (event.key === "ArrowLeft") step(-1);
  if (event.key === "ArrowRight") step(1);
});
bindClose();
begin().catch(complain);
