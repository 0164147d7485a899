// The page: asks the program what there is, and shows it. All texts are set as text, never as HTML.
import { ask, chosenFiles, droppedFiles, Refusal, send } from "/upload.js";

const byId = (id) => document.getElementById(id);
const sending = new Map();  // uploads that this page sends: id -> share
const stopped = new Set();
let state = null, version = "", cases = [];

// Stages of one scan in the order in which they begin, as `diagnose` names them, and as they are shown.
const STAGES = [
  ["find the series", "finding the series"], ["read", "reading the CT"], ["check DICOM", "checking the DICOM headers"],
  ["lungs and infection", "lungs and infection"], ["lesion classes", "lesion classes"],
  ["both branches, attention", "COVID-19 or CAP"], ["write report", "report"], ["write viewer", "viewer"],
  ["write DICOM", "DICOM objects"],
];
const WORDS = {
  uploading: "being sent", waiting: "waits for its turn", done: "finished", failed: "failed", cancelled: "cancelled",
};

function element(tag, attributes = {}, ...children) {
  const made = Object.assign(document.createElement(tag), attributes);
  made.append(...children);
  return made;
}

function say(text) {
  if (byId("status").textContent !== text) byId("status").textContent = text;
}

function complain(error) {
  if (!(error instanceof Refusal)) console.error(error);
  byId("alert").querySelector("p").textContent = error instanceof Refusal ? error.message : `The page has an error: ${error.message}`;
  byId("alert").hidden = false;
}

const tried = (action) => (...given) => Promise.resolve().then(() => action(...given)).catch(complain).then(refresh);

// Uploads

async function upload(files) {
  const found = await files;
  const label = byId("label").value;
  byId("label").value = "";
  byId("alert").hidden = true;
  let own = "";
  try {
    await send(found, label, state.limits, (id, sent, total) => {
      own = id;
      sending.set(id, total ? sent / total : 1);
      show();
      return !stopped.has(id);
    });
  } catch (error) {
    if (!stopped.has(own)) throw error;
  } finally {
    sending.delete(own);
  }
}

function stageOf(job) {
  const at = STAGES.findLastIndex(([name]) => job.stages.includes(name));
  return at < 0 ? ["starting", 0] : [STAGES[at][1], at + 1];
}

function wordsOf(job) {
  if (job.state !== "running") return WORDS[job.state];
  const which = job.scans > 1 ? `scan ${Math.max(1, job.number)} of ${job.scans}: ` : "";
  const [stage, step] = stageOf(job);
  return `${which}${stage}${step ? `, step ${step} of ${STAGES.length}` : ""}`;
}

function shareOf(job) {
  if (job.state === "uploading") return sending.get(job.id) ?? null;
  if (job.state !== "running") return null;
  const scans = Math.max(1, job.scans), before = Math.max(1, job.number) - 1;
  return (before + stageOf(job)[1] / (STAGES.length + 1)) / scans;
}

function titleOf(job) {
  const time = new Date(job.created).toLocaleString([], { dateStyle: "medium", timeStyle: "short" });
  return job.label ? `${job.label}, ${time}` : `Upload of ${time}`;
}

function sizeOf(job) {
  const left = job.left_out ? `; ${job.left_out} that are neither NIfTI nor DICOM were left out` : "";
  return `${job.files} ${job.files === 1 ? "file" : "files"}, ${(job.bytes / 1e6).toFixed(1)} MB${left}`;
}

const ACTIONS = {
  Cancel: (job) => {
    stopped.add(job.id);
    return ask("POST", `/api/jobs/${job.id}/cancel`);
  },
  "Start again": (job) => ask("POST", `/api/jobs/${job.id}/repeat`),
  Delete: async (job) => {
    if (await confirmed("Delete the uploaded files of this scan, and unfinished results? Finished cases are kept.")) {
      await ask("DELETE", `/api/jobs/${job.id}`);
    }
  },
};

function actionsOf(job) {
  if (["uploading", "waiting", "running"].includes(job.state)) return ["Cancel"];
  return job.state === "done" ? ["Delete"] : ["Start again", "Delete"];
}

function newRow(job) {
  const row = element("li");
  row.dataset.job = job.id;
  row.append(
    element("span", { className: "title" }), element("span", { className: "buttons" }), element("span", { className: "words" }),
    element("progress", { max: 1 }), element("span", { className: "quiet" }), element("span", { className: "error" }),
  );
  row.querySelector("progress").setAttribute("aria-label", "Progress");
  return row;
}

function setText(row, selector, text) {
  const place = row.querySelector(selector);
  if (place.textContent !== text) place.textContent = text;
  place.hidden = !text;
}

function showJob(job) {
  const row = document.querySelector(`[data-job="${job.id}"]`) ?? newRow(job);
  row.dataset.state = job.state;
  setText(row, ".title", titleOf(job));
  setText(row, ".words", wordsOf(job));
  setText(row, ".quiet", sizeOf(job));
  setText(row, ".error", job.errors.join("\n"));
  const bar = row.querySelector("progress"), share = shareOf(job);
  bar.hidden = !["uploading", "running"].includes(job.state);
  if (share === null) bar.removeAttribute("value"); else bar.value = share;
  const actions = actionsOf(job), buttons = row.querySelector(".buttons");
  if (buttons.dataset.for !== job.state) {
    buttons.dataset.for = job.state;
    buttons.replaceChildren(...actions.map((name) => {
      const button = element("button", { type: "button", textContent: name });
      button.setAttribute("aria-label", `${name}: ${titleOf(job)}`);
      if (name === "Delete") button.className = "danger";
      button.addEventListener("click", tried(() => ACTIONS[name](job)));
      return button;
    }));
  }
  return row;
}

function show() {
  const jobs = state.jobs.filter((job) => job.state !== "done" || !job.cases.length);  // the others are in the list of cases
  const list = byId("jobs"), rows = jobs.map(showJob);
  for (const old of [...list.children]) if (!rows.includes(old)) old.remove();
  rows.forEach((row, place) => { if (list.children[place] !== row) list.insertBefore(row, list.children[place] ?? null); });
  byId("jobs-section").hidden = !rows.length;
  const running = state.jobs.find((job) => job.state === "running");
  if (running) say(`${titleOf(running)}: ${wordsOf(running)}`);
}

// Cases

const TITLES = ["", "Case", "Look first"];

function showCases() {
  const words = byId("search").value.toLowerCase().split(/\s+/).filter(Boolean);
  const textOf = (row) => [row.name, row.label, ...row.why].join(" ").toLowerCase();
  const rows = cases.filter((row) => words.every((word) => textOf(row).includes(word)));
  const names = cases.length ? cases[0].numbers.map(([title]) => title) : [];
  byId("cases").querySelector("thead tr").replaceChildren(...[...TITLES, ...names, "Open, save, delete"].map((title, place) => {
    const cell = element("th", { textContent: title, scope: "col" });
    if (place < TITLES.length || place === names.length + TITLES.length) cell.className = "text";
    return cell;
  }));
  const body = byId("cases").querySelector("tbody"), opened = new Set([...body.querySelectorAll("details[open]")].map((one) => one.dataset.key));
  body.replaceChildren(...rows.map((row) => caseRow(row, opened.has(row.key))));
  byId("cases").hidden = !rows.length;
  byId("nothing").hidden = Boolean(rows.length);
  byId("nothing").textContent = cases.length ? "No case has all of these words." : "There are no finished cases yet.";
  byId("found").textContent = words.length ? `${rows.length} of ${cases.length} cases` : `${cases.length} ${cases.length === 1 ? "case" : "cases"}`;
}

function caseRow(row, isOpen) {
  const made = element("tr", { className: row.why.length ? "first" : "" });
  made.dataset.name = row.name;
  const has = (name) => row.files.some((file) => file.path === name);
  const picture = element("td");
  if (has("thumbnail.png")) {
    picture.append(element("img", { src: fileAddress(row, "thumbnail.png"), alt: "Lungs and infection, axial and coronal", loading: "lazy" }));
  }
  const name = element("th", { scope: "row" });
  if (row.label) name.append(element("strong", { textContent: row.label }));
  name.append(element("span", { className: "name", textContent: row.name }), element("br"), element("span", { className: "quiet", textContent: new Date(row.time_ms).toLocaleString([], { dateStyle: "medium", timeStyle: "short" }) }));
  made.append(picture, name, element("td", { className: "text why", textContent: row.why.join(" ") }));
  for (const [title, value] of row.numbers) {
    const cell = element("td", { textContent: value ?? "–" });
    cell.dataset.title = title;
    made.append(cell);
  }
  made.append(actionsCell(row, has, isOpen));
  return made;
}

function actionsCell(row, has, isOpen) {
  const cell = element("td", { className: "text actions" });
  for (const [file, title] of [["viewer.html", "Viewer"], ["report.html", "Report"]]) {
    if (!has(file)) continue;
    const link = element("a", { href: `/view/${row.key}/${file}`, target: "_blank", rel: "noopener", textContent: title });
    link.setAttribute("aria-label", `${title} of ${row.label || row.name}, opens another tab`);
    cell.append(link);
  }
  const everything = element("a", { href: `/cases/${row.key}/all.zip`, download: "", textContent: "Everything as zip" });
  const list = row.files.map((file) => element("li", {}, element("a", { href: fileAddress(row, file.path), download: "", textContent: shortName(row, file.path) }), ` ${kindOf(file.path)}, ${(file.bytes / 1e6).toFixed(2)} MB`));
  const button = element("button", { type: "button", className: "danger", textContent: "Delete" });
  button.setAttribute("aria-label", `Delete: ${row.label || row.name}`);
  button.addEventListener("click", tried(() => removeCase(row)));
  const downloads = element("details", { open: isOpen }, element("summary", { textContent: "Downloads" }), element("ul", {}, element("li", {}, everything), ...list));
  downloads.dataset.key = row.key;
  cell.append(downloads, button);
  return cell;
}

const fileAddress = (row, path) => `/cases/${row.key}/files/${path.split("/").map(encodeURIComponent).join("/")}`;
const shortName = (row, path) => path.startsWith(`${row.name}_`) ? path.slice(row.name.length + 1) : path;
const kindOf = (path) => path.endsWith(".nii.gz") ? "NIfTI" : path.endsWith(".dcm") ? "DICOM" : path.split(".").pop().toUpperCase();

async function removeCase(row) {
  const shared = state.jobs.find((job) => job.cases.includes(row.key) && job.cases.length > 1);
  const rest = shared ? "Its upload has other cases, and is deleted with the last of them." : "This includes the uploaded files, if it was uploaded here.";
  if (await confirmed(`Delete case ${row.label || row.name} with all its results? ${rest} The original scan is not touched.`)) {
    await ask("DELETE", `/api/cases/${row.key}`);
    byId("search").focus();  // the button is gone
  }
}

function confirmed(question) {
  byId("question-text").textContent = question;
  const dialog = byId("question");
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((done) => dialog.addEventListener("close", () => done(dialog.returnValue === "yes"), { once: true }));
}

// Events

let timer = 0;

async function refresh() {
  clearTimeout(timer);
  try {
    const before = state;
    state = await ask("GET", "/api/state");
    byId("notice").textContent = state.notice;
    byId("software").textContent = state.software;
    byId("rules").textContent = `At most ${state.limits.bytes / 1e9} GB and ${state.limits.files.toLocaleString("en")} files at a time. The files stay on this computer: copies are kept in the output folder of the program until you delete them. File and folder names are not kept.`;
    show();
    for (const job of state.jobs) {
      const earlier = before?.jobs.find((one) => one.id === job.id);
      if (earlier && earlier.state !== job.state && job.state !== "running") say(`${titleOf(job)}: ${wordsOf(job)}`);
    }
    if (state.version !== version) {
      cases = await ask("GET", "/api/cases");
      version = state.version;
      showCases();
    }
    document.body.dataset.ready = "yes";
  } catch (error) {
    complain(error);
  }
  const isBusy = state?.jobs.some((job) => ["uploading", "waiting", "running"].includes(job.state));
  clearTimeout(timer);
  timer = setTimeout(refresh, isBusy ? 500 : 3000);
}

const drop = byId("drop");
for (const name of ["dragover", "drop"]) document.addEventListener(name, (event) => event.preventDefault());  // a file beside the field does not replace the page
drop.addEventListener("dragover", () => drop.classList.add("over"));
drop.addEventListener("dragleave", () => drop.classList.remove("over"));
drop.addEventListener("drop", (event) => {
  drop.classList.remove("over");
  tried(upload)(droppedFiles(event.dataTransfer));
});
for (const id of ["folder", "files"]) {
  byId(id).addEventListener("change", () => {
    const files = chosenFiles(byId(id));
    byId(id).value = "";
    tried(upload)(files);
  });
}
byId("search").addEventListener("input", showCases);
byId("yes").addEventListener("click", () => byId("question").close("yes"));
byId("no").addEventListener("click", () => byId("question").close("no"));
byId("alert").querySelector("button").addEventListener("click", () => { byId("alert").hidden = true; });
refresh();
