// What is dropped or chosen, and how it is sent: each file as the body of one request, one after the other.

/** Error whose message is for the user. */
export class Refusal extends Error {}

/** Files of a drop with their relative paths. Call it within the event: the browser forgets the entries after it. */
export function droppedFiles(transfer) {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  return Promise.all(entries.map(filesBelow)).then((lists) => lists.flat());
}

/** Files of an input with their relative paths. */
export function chosenFiles(input) {
  return [...input.files].map((file) => ({ path: file.webkitRelativePath || file.name, file }));
}

async function filesBelow(entry) {
  const path = entry.fullPath.replace(/^\//, "");
  if (entry.isFile) {
    return [{ path, file: await new Promise((done, failed) => entry.file(done, failed)) }];
  }
  const reader = entry.createReader(), found = [];
  for (;;) {
    const some = await new Promise((done, failed) => reader.readEntries(done, failed));  // at most 100 at a time
    if (!some.length) return found;
    for (const child of some) found.push(...await filesBelow(child));
  }
}

/** Send files as one upload. `told` gets the id, then the bytes that were sent, and stops the sending if it returns false. */
export async function send(files, label, limits, told) {
  const total = files.reduce((sum, { file }) => sum + file.size, 0);
  if (!files.length) throw new Refusal("There are no files in what was dropped.");
  if (total > limits.bytes) {
    throw new Refusal(`These files have ${(total / 1e9).toFixed(1)} GB, and an upload may have ${limits.bytes / 1e9} GB. ` +
      "Send fewer scans at a time, or start the program with a larger --max_upload_gb.");
  }
  const announced = new URLSearchParams({ label, bytes: total, files: files.length });
  const { id } = await ask("POST", `/api/jobs?${announced}`);
  let sent = 0;
  for (const { path, file } of files) {
    const goesOn = await put(`/api/jobs/${id}/files?${new URLSearchParams({ path })}`, file, (bytes) => told(id, sent + bytes, total));
    if (!goesOn) return;
    sent += file.size;
    if (!told(id, sent, total)) return;
  }
  await ask("POST", `/api/jobs/${id}/start`);
}

/** A request without a body; the answer as JSON. */
export async function ask(method, address) {
  let answer;
  try {
    answer = await fetch(address, { method });
  } catch {
    throw new Refusal("The program does not answer. Is it still running?");
  }
  const isJson = answer.headers.get("content-type")?.startsWith("application/json");
  const content = isJson ? await answer.json() : null;
  if (!answer.ok) throw new Refusal(content?.error ?? "This page has expired. Open the address that the program printed.");
  return content;
}

function put(address, file, told) {
  return new Promise((done, failed) => {
    const request = new XMLHttpRequest();  // fetch does not tell how much was sent
    request.open("PUT", address);
    request.upload.onprogress = (event) => { if (!told(event.loaded)) request.abort(); };
    request.onabort = () => done(false);
    request.onerror = () => failed(new Refusal("The upload was interrupted. A file may have been moved, or the program has ended."));
    request.onload = () => {
      if (request.status < 300) { done(true); return; }
      let reason = "The upload was refused.";
      try { reason = JSON.parse(request.responseText).error; } catch { /* no reason was given */ }
      failed(new Refusal(reason));
    };
    request.send(file);
  });
}
