// Shows the document of this server and sends what people ask it to send. Whatever an answer holds is set as text,
// never as markup, and the credential stays in its field: no storage, no address, no log.

const MOST = 1 << 20; // bytes of an answer that are shown
const METHODS = ["get", "post", "put", "patch", "delete"];

const at = (id) => document.getElementById(id);

/** An element: its name, its properties, its children as elements or texts. */
function make(name, properties = {}, ...children) {
  const element = document.createElement(name);
  Object.assign(element, properties);
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

let spec;
let serial = 0;

/** A text in which backticks mark code, as in the document. */
function prose(text) {
  return text.split("`").map((part, place) => (place % 2 === 1 ? make("code", {}, part) : part));
}

/** What a reference leads to; the object itself where it is none. */
function follow(object) {
  if (!object?.$ref) return object ?? {};
  return object.$ref.split("/").slice(1).reduce((found, key) => found?.[key], spec) ?? {};
}

// ---- schemas

function typeOf(schema) {
  if (schema === true) return "anything";
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  if (schema.enum) return schema.enum.map((value) => JSON.stringify(value)).join(" | ");
  const types = [schema.type ?? (schema.properties ? "object" : "anything")].flat();
  return types.join(" or ") + (schema.format ? ` (${schema.format})` : "");
}

/** All properties of a schema, with those of the ones it is composed of. */
function properties(schema) {
  const parts = (schema.allOf ?? []).map(follow).map(properties);
  return {
    all: Object.assign({}, ...parts.map((part) => part.all), schema.properties),
    required: [...parts.flatMap((part) => part.required), ...(schema.required ?? [])],
  };
}

function schemaView(given, depth = 0) {
  const schema = follow(given);
  const name = given?.$ref?.split("/").pop();
  const line = make("span", {}, name ? `${name}: ` : "", typeOf(schema));
  const about = given?.description ?? schema.description;
  if (about) line.append(" ", make("span", { className: "about" }, ...prose(about)));
  const view = make("div", {}, line);
  if (depth > 6) return view;
  const { all, required } = properties(schema);
  const list = make("ul");
  for (const [key, value] of Object.entries(all)) {
    const mark = required.includes(key) ? "" : "?";
    list.append(make("li", {}, `${key}${mark} `, schemaView(value, depth + 1)));
  }
  for (const choice of schema.oneOf ?? schema.anyOf ?? []) list.append(make("li", {}, "either ", schemaView(choice, depth + 1)));
  if (schema.items) list.append(make("li", {}, "each ", schemaView(schema.items, depth + 1)));
  if (list.childElementCount > 0) view.append(list);
  return view;
}

function schemaPart(title, schema) {
  const view = make("details", {}, make("summary", {}, title));
  // Made when it is looked at: there are hundreds.
  view.addEventListener("toggle", () => {
    if (view.open && view.childElementCount === 1) view.append(make("div", { className: "schema" }, schemaView(schema)));
  });
  return view;
}

const pretty = (value) => (typeof value === "string" ? value : JSON.stringify(value, null, 2));

// ---- an operation

function field(parameter) {
  const { schema = {} } = parameter;
  const kind = follow(schema);
  const choices = kind.enum ?? (kind.type === "boolean" ? ["true", "false"] : null);
  const control = choices
    ? make("select", {}, make("option", { value: "" }, ""), ...choices.map((value) => make("option", {}, String(value))))
    : make("input", { type: "text", spellcheck: false });
  control.required = parameter.required === true;
  control.dataset.name = parameter.name;
  control.dataset.in = parameter.in;
  const about = [parameter.in, typeOf(kind), parameter.description].filter(Boolean).join(" · ");
  const star = parameter.required ? " *" : "";
  return make("label", {}, parameter.name + star, control, make("small", {}, ...prose(about)));
}

function examplesOf(operation) {
  const found = new Map();
  const note = (examples, set) => {
    for (const [name, { value }] of Object.entries(examples ?? {})) {
      if (!found.has(name)) found.set(name, { parameters: {} });
      set(found.get(name), value);
    }
  };
  for (const parameter of operation.parameters ?? []) {
    note(parameter.examples, (example, value) => { example.parameters[parameter.name] = value; });
  }
  for (const content of Object.values(operation.requestBody?.content ?? {})) {
    note(content.examples, (example, value) => { example.body = value; });
  }
  for (const [status, response] of Object.entries(operation.responses)) {
    for (const content of Object.values(follow(response).content ?? {})) {
      note(content.examples, (example, value) => { Object.assign(example, { status, answer: value }); });
    }
  }
  return found;
}

function details(method, path, operation) {
  const body = make("div");
  for (const paragraph of (operation.description ?? "").split("\n\n")) body.append(make("p", {}, ...prose(paragraph)));
  const { fields, form } = tryOut(method, path, operation);
  body.append(form);
  const content = Object.values(operation.requestBody?.content ?? {})[0];
  if (content) body.append(schemaPart("Schema of the body", content.schema));
  body.append(make("h4", {}, "Answers"));
  for (const [status, given] of Object.entries(operation.responses)) {
    const response = follow(given);
    const part = make("div", {}, make("p", {}, make("strong", {}, status), " ", ...prose(response.description)));
    for (const [media, { schema }] of Object.entries(response.content ?? {})) part.append(schemaPart(media, schema));
    body.append(part);
  }
  const examples = examplesOf(operation);
  if (examples.size > 0) body.append(make("h4", {}, "Examples"));
  for (const [name, example] of examples) {
    const use = make("button", { type: "button" }, "Fill in");
    use.addEventListener("click", () => fill(fields, example));
    const view = make("details", {}, make("summary", {}, name));
    if (Object.keys(example.parameters).length > 0) view.append(make("p", {}, "With"), make("pre", {}, pretty(example.parameters)));
    if (example.body !== undefined) view.append(make("p", {}, "Body"), make("pre", {}, pretty(example.body)));
    if (example.status) view.append(make("p", {}, `Answer ${example.status}`), make("pre", {}, pretty(example.answer)));
    view.append(use);
    body.append(view);
  }
  return body;
}

function fill(fields, example) {
  for (const control of fields) {
    const value = control.dataset.in === "body" ? example.body : example.parameters[control.dataset.name];
    control.value = value === undefined ? "" : pretty(value);
  }
  fields[0]?.focus();
}

function tryOut(method, path, operation) {
  const form = make("form", { autocomplete: "off" }, make("h4", {}, "Try it"));
  const fields = [];
  const grid = make("div", { className: "fields" });
  for (const parameter of operation.parameters ?? []) grid.append(field(parameter));
  if (grid.childElementCount > 0) form.append(grid);
  fields.push(...grid.querySelectorAll("input, select"));
  if (operation.requestBody) {
    const text = make("textarea", { spellcheck: false, required: operation.requestBody.required === true });
    text.dataset.in = "body";
    const first = [...examplesOf(operation).values()].find((example) => example.body !== undefined);
    text.value = first ? pretty(first.body) : "";
    form.append(make("label", {}, "Body", text));
    fields.push(text);
  }
  const send = make("button", { type: "submit" }, "Send");
  const cancel = make("button", { type: "button", disabled: true }, "Cancel");
  const answer = make("div", { className: "answer", hidden: true });
  answer.setAttribute("role", "status");
  form.append(make("div", { className: "buttons" }, send, cancel), answer);
  let running;
  cancel.addEventListener("click", () => running?.abort());
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    running = new AbortController();
    send.disabled = true;
    cancel.disabled = false;
    try {
      await ask(method, path, fields, answer, running.signal);
    } finally {
      send.disabled = false;
      cancel.disabled = true;
    }
  });
  return { fields, form };
}

// ---- a request

function request(method, path, fields) {
  const query = new URLSearchParams();
  const headers = new Headers({ "X-Requested-With": "runbookd" });
  let address = path;
  let body;
  for (const control of fields) {
    const { name, in: place } = control.dataset;
    const value = control.value;
    if (place === "path") address = address.replace(`{${name}}`, encodeURIComponent(value));
    else if (place === "query" && value !== "") query.append(name, value);
    else if (place === "header" && value !== "") headers.set(name, value);
    else if (place === "body" && value !== "") body = value;
  }
  if (body !== undefined) headers.set("Content-Type", "application/json");
  const secret = at("secret").value.trim();
  if (secret !== "" && at("scheme").value === "bearer") headers.set("Authorization", `Bearer ${secret}`);
  else if (secret !== "") headers.set("X-API-KEY", secret);
  const search = query.size > 0 ? `?${query}` : "";
  return [address + search, { method: method.toUpperCase(), headers, body, redirect: "error", cache: "no-store" }];
}

async function ask(method, path, fields, view, signal) {
  view.hidden = false;
  view.className = "answer";
  view.replaceChildren(make("p", {}, "Asking …"));
  try {
    const [address, options] = request(method, path, fields);
    const response = await fetch(address, { ...options, signal });
    const title = make("p", {}, make("strong", { className: "status" }, `${response.status} ${response.statusText}`));
    const headers = [...response.headers].map(([name, value]) => `${name}: ${value}`).join("\n");
    const text = make("pre", { tabIndex: 0, className: "body" });
    view.className = `answer ${response.ok ? "good" : "bad"}`;
    view.replaceChildren(title, make("p", {}, "Headers"), make("pre", {}, headers), make("p", {}, "Body"), text);
    await show(response, text);
  } catch (error) {
    const why = signal.aborted ? "Cancelled." : `No answer: ${error.message}`;
    view.classList.add("bad");
    view.append(make("p", { className: "failure" }, why));
  }
}

/** The body as it comes, so that a stream of events is seen live. */
async function show(response, text) {
  if (!response.body) return;
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let whole = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    whole += value;
    if (whole.length > MOST) {
      await reader.cancel();
      whole = `${whole.slice(0, MOST)}\n… the rest is not shown`;
      break;
    }
    text.textContent = whole;
  }
  if ((response.headers.get("content-type") ?? "").startsWith("application/json")) {
    try { whole = pretty(JSON.parse(whole)); } catch { /* Shown as it came. */ }
  }
  text.textContent = whole;
}

// ---- the page

function listed(method, path, operation) {
  const summary = make(
    "summary", {},
    make("span", { className: `method ${method}` }, method.toUpperCase()),
    make("span", { className: "path" }, path),
    make("span", { className: "summary" }, operation.summary),
    make("span", { className: "permission", title: "who may" }, operation["x-permission"]),
  );
  const view = make("details", { className: "operation", id: operation.operationId }, summary);
  view.dataset.words = [method, path, operation.summary, operation.operationId, operation["x-permission"]].join(" ").toLowerCase();
  view.addEventListener("toggle", () => {
    if (view.open && view.childElementCount === 1) view.append(details(method, path, operation));
  });
  return view;
}

function filter() {
  const words = at("filter").value.toLowerCase().split(/\s+/);
  let count = 0;
  for (const section of document.querySelectorAll("section")) {
    let here = 0;
    for (const view of section.querySelectorAll("details.operation")) {
      view.hidden = !words.every((word) => view.dataset.words.includes(word));
      if (!view.hidden) here += 1;
    }
    section.hidden = here === 0;
    count += here;
  }
  at("count").textContent = `${count} operations`;
}

async function start() {
  const main = at("operations");
  try {
    const response = await fetch("openapi.json", { cache: "no-store" });
    if (!response.ok) throw new Error(`openapi.json is answered ${response.status}`);
    spec = await response.json();
  } catch (error) {
    main.append(make("p", { className: "failure" }, `The description cannot be read: ${error.message}`));
    return;
  }
  at("version").textContent = `Version ${spec.info.version}.`;
  for (const { name, description } of spec.tags) {
    const heading = make("h2", { id: `tag-${(serial += 1)}` }, name);
    const section = make("section", {}, heading, make("p", {}, description));
    section.setAttribute("aria-labelledby", heading.id);
    for (const [path, item] of Object.entries(spec.paths)) {
      for (const method of METHODS.filter((known) => item[known]?.tags.includes(name))) {
        section.append(listed(method, path, item[method]));
      }
    }
    main.append(section);
  }
  at("filter").addEventListener("input", filter);
  at("credentials").addEventListener("submit", (event) => event.preventDefault());
  filter();
  const wanted = location.hash.slice(1);
  const linked = wanted ? document.getElementById(wanted) : null;
  if (linked?.matches("details")) {
    linked.open = true;
    linked.scrollIntoView();
  }
}

start();
