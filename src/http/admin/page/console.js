// The operator's console. Every figure is read off /metrics, so that it is what Prometheus reads; rates are of the time since
// the page was opened, the last ten minutes at most.
"use strict";

const EVERY = 2000, KEPT = 300;
const samples = [];
const $ = (id) => document.getElementById(id);

// The text format of Prometheus, as this server writes it: name{labels} value.
function parse(text) {
  const series = new Map();
  for (const line of text.split("\n")) {
    const found = /^([a-z_]+)(?:\{(.*)\})? (\S+)$/.exec(line);
    if (!found) continue;
    const labels = {};
    for (const [, key, value] of (found[2] || "").matchAll(/(\w+)="((?:[^"\\]|\\.)*)"/g)) labels[key] = value;
    if (!series.has(found[1])) series.set(found[1], []);
    series.get(found[1]).push({ labels, value: Number(found[3].replace("+Inf", "Infinity")) });
  }
  return series;
}

const fits = (labels, wanted) => Object.entries(wanted).every(([key, value]) => labels[key] === value);
const of = (sample, name, wanted = {}) => (sample.series.get(name) || []).filter((one) => fits(one.labels, wanted));
const sum = (sample, name, wanted) => of(sample, name, wanted).reduce((all, one) => all + one.value, 0);
const last = () => samples[samples.length - 1];
const values = (name, label, wanted) => [...new Set(of(last(), name, wanted).map((one) => one.labels[label]))];

// Per second, between each two readings.
function rates(name, wanted) {
  const points = [];
  for (let at = 1; at < samples.length; at++) {
    const grown = sum(samples[at], name, wanted) - sum(samples[at - 1], name, wanted);
    points.push(Math.max(0, grown) / ((samples[at].at - samples[at - 1].at) / 1000));
  }
  return points;
}
const levels = (name, wanted) => samples.map((sample) => sum(sample, name, wanted));

// The length below which a share of what was counted lies, of the last minute or of all.
function quantile(share, name, wanted, all) {
  const from = all ? null : samples[Math.max(0, samples.length - 31)];
  const counted = new Map();
  for (const { labels, value } of of(last(), `${name}_bucket`, wanted)) {
    const bound = Number(labels.le.replace("+Inf", "Infinity"));
    counted.set(bound, (counted.get(bound) || 0) + value);
  }
  if (from && from !== last()) {
    for (const { labels, value } of of(from, `${name}_bucket`, wanted)) {
      const bound = Number(labels.le.replace("+Inf", "Infinity"));
      counted.set(bound, (counted.get(bound) || 0) - value);
    }
  }
  const bounds = [...counted.keys()].sort((a, b) => a - b);
  const count = counted.get(Infinity) || 0;
  if (!count) return null;
  let [below, before] = [0, 0];
  for (const bound of bounds) {
    const within = counted.get(bound);
    if (within >= share * count) {
      if (bound === Infinity) return below;
      return below + (bound - below) * ((share * count - before) / Math.max(1e-9, within - before));
    }
    [below, before] = [bound, within];
  }
  return below;
}

function number(value) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  if (value >= 1e6) return `${(value / 1e6).toFixed(1)} M`;
  if (value >= 1e4) return `${(value / 1e3).toFixed(1)} k`;
  return Number.isInteger(value) ? String(value) : value.toFixed(value < 10 ? 2 : 1);
}
function length(seconds) {
  if (seconds === null) return "–";
  if (seconds < 0.001) return `${Math.round(seconds * 1e6)} µs`;
  if (seconds < 1) return `${(seconds * 1000).toFixed(seconds < 0.01 ? 1 : 0)} ms`;
  if (seconds < 120) return `${seconds.toFixed(seconds < 10 ? 1 : 0)} s`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`;
  if (seconds < 172800) return `${Math.round(seconds / 3600)} h`;
  return `${Math.round(seconds / 86400)} days`;
}
const bytes = (count) => `${(count / 1048576).toFixed(0)} MB`;

// Elements, with text that is never read as HTML: a stranger may have chosen it.
function make(tag, attributes = {}, ...children) {
  const svg = tag === "svg" || tag === "path";
  const element = svg ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children.filter((child) => child !== null));
  return element;
}
const show = (id, ...children) => $(id).replaceChildren(...children);
const pairs = (id, list) => show(id, ...list.flatMap(([term, value]) => [make("dt", {}, term), make("dd", {}, value)]));

// Lines over time: [name, points]; the numbers in the legend are the newest.
function plot(id, lines, unit = "/s", format = number) {
  const peak = Math.max(0, ...lines.flatMap(([, points]) => points));
  const svg = make("svg", { viewBox: "0 0 300 60", preserveAspectRatio: "none", role: "img", "aria-label": lines.map(([name, points]) => `${name}: ${format(points.at(-1) || 0)}${unit}`).join(", ") });
  lines.forEach(([, points], line) => {
    if (points.length < 2 || peak === 0) return;
    const step = 300 / (points.length - 1);
    const path = points.map((value, at) => `${at ? "L" : "M"}${(at * step).toFixed(1)} ${(58 - 56 * (value / peak)).toFixed(1)}`).join("");
    svg.append(make("path", { d: path, class: `c${line % 8}` }));
  });
  const legend = make("ul", { class: "legend" }, ...lines.map(([name, points], line) => make("li", { class: `c${line % 8}` }, `${name} `, make("b", {}, `${format(points.at(-1) ?? 0)}${unit}`))));
  show(id, make("p", { class: "peak" }, `peak ${format(peak)}${unit}`), svg, legend);
}

// Columns of figures stand to the right.
function table(heads, rows) {
  const isFigure = (value) => typeof value === "string" && /^(–|\d[\d.]*( (M|k|µs|ms|s|min|h|days))?)$/.test(value);
  const kinds = heads.map((_, at) => (at && rows.every((row) => isFigure(row[at])) ? { class: "n" } : {}));
  const line = (tag, cells) => make("tr", {}, ...cells.map((cell, at) => make(tag, kinds[at], cell)));
  return make("div", { class: "scroll" }, make("table", {}, make("thead", {}, line("th", heads)), make("tbody", {}, ...rows.map((row) => line("td", row)))));
}

function draw() {
  const now = last();
  const issued = sum(now, "dfp_device_codes_total", { result: "issued" });
  const event = (name) => sum(now, "dfp_session_events_total", { event: name });
  const stages = [["codes issued", issued], ["pages opened", event("opened")], ["confirmed", event("confirmed")], ["consented", event("approved")], ["delivered", event("redeemed")]];
  const most = Math.max(1, ...stages.map(([, count]) => count));
  const funnel = make("div", { class: "funnel" }, ...stages.flatMap(([name, count]) => [make("span", {}, name), make("progress", { max: most, value: count, "aria-label": name }), make("b", { "data-stage": name }, number(count))]));
  show("funnel", funnel);
  const consent = (share) => length(quantile(share, "dfp_time_to_consent_seconds", {}, true));
  pairs("consent", [["time to consent, half", consent(0.5)], ["nine of ten", consent(0.9)], ["refused by the person", number(event("denied"))], ["sessions", number(sum(now, "dfp_sessions"))]]);

  plot("polls", values("dfp_polls_total", "answer").map((answer) => [answer, rates("dfp_polls_total", { answer })]).filter(([answer]) => sum(now, "dfp_polls_total", { answer })));

  const requests = "dfp_http_request_duration_seconds";
  const routes = values(`${requests}_count`, "route");
  plot("requests", routes.map((route) => [route, rates(`${requests}_count`, { route })]));
  pairs("latency", routes.map((route) => [route, `half ${length(quantile(0.5, requests, { route }))}, 99 % ${length(quantile(0.99, requests, { route }))}`]));

  const errors = [
    ...routes.map((route) => [`5xx ${route}`, `${requests}_count`, { route, code: "5xx" }]),
    // What a poll is told is in the plot of polls.
    ...routes.filter((route) => route !== "/device/token").map((route) => [`4xx ${route}`, `${requests}_count`, { route, code: "4xx" }]),
    ["codes refused: no room or store", "dfp_device_codes_total", { result: "refused" }],
    ["codes refused: one address", "dfp_device_codes_total", { result: "limited" }],
    ["wrong user codes", "dfp_wrong_user_codes_total", {}],
    ["connections refused", "dfp_connections_refused_total", {}],
    ...values("dfp_consents_total", "end").filter((end) => end !== "approved").map((end) => [`return: ${end}`, "dfp_consents_total", { end }]),
    ["store errors", "dfp_store_errors_total", {}],
    ["client rejected by Enedis", "dfp_enedis_client_rejected_total", {}],
    ["clock jumps", "dfp_clock_jumps_total", {}],
  ].map(([name, metric, wanted]) => [name, sum(now, metric, wanted), rates(metric, wanted).slice(-30)]).filter(([, count]) => count > 0);
  const lately = (list) => (list.length ? (list.reduce((all, one) => all + one, 0) / list.length) * 60 : 0);
  show("errors", errors.length ? table(["", "since the start", "a minute, lately"], errors.map(([name, count, list]) => [name, number(count), number(lately(list))])) : make("p", { class: "said good" }, "none since the start"));

  const quota = sum(now, "dfp_enedis_calls_per_hour");
  show("enedis", table(["", "this hour", "queue", "90 %", ""], values("dfp_enedis_used_this_hour", "api").map((api) => {
    const queue = api.startsWith("data_") ? "data" : api;
    const open = sum(now, "dfp_enedis_breaker_open", { api }) > 0;
    return [api, make("div", { class: "quota" }, make("progress", { max: quota, value: sum(now, "dfp_enedis_used_this_hour", { api }), "aria-label": `quota of ${api}` }), `${number(sum(now, "dfp_enedis_used_this_hour", { api }))} of ${number(quota)}`), `${number(sum(now, "dfp_enedis_queue", { api: queue }) + sum(now, "dfp_enedis_in_flight", { api: queue }))}`, length(quantile(0.9, "dfp_enedis_call_duration_seconds", { api })), open ? make("b", {}, "held back") : "answers"];
  })));
  const calls = "dfp_enedis_call_duration_seconds_count";
  plot("calls", values(calls, "result").map((result) => [result, rates(calls, { result })]));

  $("data-section").hidden = $("token-section").hidden = !now.series.has("dfp_data_waiting");
  if (now.series.has("dfp_data_waiting")) {
    plot("data", values("dfp_data_answers_total", "answer").filter((answer) => sum(now, "dfp_data_answers_total", { answer })).map((answer) => [answer, rates("dfp_data_answers_total", { answer })]));
    pairs("prefetch", [["prefetch: meters' resources", number(sum(now, "dfp_prefetch_active"))], ["that lack the day", number(sum(now, "dfp_prefetch_lacking"))], ["asked by itself", number(sum(now, "dfp_prefetch_calls_total"))], ...["memory", "call", "refusal"].map((by) => [`days heard of by ${by}`, number(sum(now, "dfp_prefetch_days_total", { by }))]), ["waiting for Enedis", number(sum(now, "dfp_data_waiting"))], ["cache", `${number(sum(now, "dfp_data_memory_entries"))} values, ${bytes(sum(now, "dfp_data_memory_bytes"))}`]]);
  }

  const store = "dfp_store_operation_duration_seconds";
  plot("store", [["writes", rates("dfp_store_writes_total")], ...["commit", "find"].map((operation) => [operation, rates(`${store}_count`, { operation })])]);
  pairs("operations", [...values(`${store}_count`, "operation").filter((operation) => sum(now, `${store}_count`, { operation })).map((operation) => [operation, `half ${length(quantile(0.5, store, { operation }))}, 99 % ${length(quantile(0.99, store, { operation }))}`]), ["waiting writes", number(sum(now, "dfp_writer_queue"))]]);

  const build = of(now, "dfp_build_info")[0];
  pairs("process", [["version", build ? build.labels.version : "–"], ["up for", length(now.at / 1000 - sum(now, "process_start_time_seconds"))], ["instances", number(sum(now, "dfp_instances"))], ["memory", bytes(sum(now, "process_resident_memory_bytes"))], ["descriptors", `${number(sum(now, "process_open_fds"))} of ${number(sum(now, "process_max_fds"))}`], ["connections", `${number(sum(now, "dfp_connections"))} of ${number(sum(now, "dfp_connections_max"))}`], ["poll interval", length(sum(now, "dfp_poll_interval_seconds"))], ["audit lines not written", number(sum(now, "dfp_audit_unwritten"))]]);
  plot("load", [["cores busy", rates("process_cpu_seconds_total")]], "");

  const leaving = sum(now, "dfp_draining") > 0;
  const trouble = sum(now, "dfp_clock_reliable") === 0 ? " · the clock is not relied on yet" : "";
  say($("state"), leaving ? `drained: not ready, goes on answering${trouble}` : `ready · ${number(sum(now, "dfp_requests_in_flight"))} requests under way${trouble}`, leaving);
  $("drain").hidden = false;
  $("drain").textContent = leaving ? "Take work again" : "Drain";
  $("drain").dataset.to = leaving ? "" : "yes";
}

function say(element, text, bad) {
  if (element.textContent !== text) element.textContent = text;
  element.classList.toggle("bad", Boolean(bad));
}

async function read() {
  try {
    const answer = await fetch("metrics", { headers: { accept: "text/plain" }, cache: "no-store" });
    if (!answer.ok) throw new Error(`/metrics answers ${answer.status}`);
    samples.push({ at: Date.now(), series: parse(await answer.text()) });
    if (samples.length > KEPT) samples.shift();
    draw();
  } catch (error) {
    say($("state"), `not reached: ${error.message}`, true);
  }
  setTimeout(read, document.hidden ? 5 * EVERY : EVERY);
}

async function ask(path, body = {}) {
  try {
    const answer = await fetch(path, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) });
    const text = await answer.text();
    try { return { ok: answer.ok, ...JSON.parse(text) }; } catch { return { ok: false, error: text.trim() || `${answer.status}` }; }
  } catch (error) {
    return { ok: false, error: error.message };
  }
}
const told = (text, bad) => make("p", { class: `said ${bad ? "bad" : "good"}` }, text);
function button(text, act) {
  const it = make("button", { type: "button", class: "end" }, text);
  it.addEventListener("click", async () => {
    // Asks once more, in the same place.
    if (!it.dataset.sure) { it.dataset.sure = "yes"; it.textContent = `${text}: sure?`; return; }
    it.disabled = true;
    await act();
  });
  return it;
}
const ago = (seconds) => (seconds === null ? "–" : seconds < 0 ? `in ${length(-seconds)}` : `${length(seconds)} ago`);
const lines = (list) => table(["when", "act", "how", "id", "network", "meters", "client"], list.map((line) => [line.at, line.act, line.how, line.id || "–", line.network || "–", String(line.meters), line.client_id || "–"]));

async function find(code, note) {
  const session = await ask("api/session", { code });
  if (!session.ok) return show("session", note ?? null, told(session.error, true));
  const open = ["waiting", "at Enedis", "failed"].includes(session.state);
  const list = make("dl", {}, ...[["id", session.id], ["stands at", session.state], ["client", session.client_id], ["user agent", session.agent || "–"], ["network", session.network || "–"], ["asked", ago(session.requested)], ["confirmed", ago(session.confirmed)], ["expires", ago(session.expires)], ["forgotten", ago(session.forgotten)], ["events", String(session.events)]].flatMap(([term, value]) => [make("dt", {}, term), make("dd", {}, value)]));
  const end = open ? button("End this session", async () => {
    const ended = await ask("api/session/end", { code });
    await find(code, told(ended.ok ? "ended: the box hears access_denied" : ended.error, !ended.ok));
  }) : null;
  show("session", ...[note, list, end, session.audit.length ? lines(session.audit) : null].filter(Boolean));
}

async function search(sought, after, note) {
  const page = await ask("api/tokens", { sought, after });
  if (!page.ok) return show("tokens", told(page.error, true));
  const rows = page.grants.map((grant) => [grant.id, grant.origin, grant.consented_at, grant.used_at || "–", grant.used_from || "–", grant.meters.join(" ") + (grant.two_places ? " (two places)" : ""), grant.client_id || "any", button("Revoke", async () => {
    const ended = await ask("api/tokens/revoke", { key: grant.key });
    await search(sought, after, told(ended.ok ? `revoked ${grant.id}, with every token of its` : ended.error, !ended.ok));
  })]);
  const more = page.next ? make("button", { type: "button" }, "More") : null;
  if (more) more.addEventListener("click", () => search(sought, page.next));
  show("tokens", ...[note, rows.length ? table(["id", "origin", "consented", "used", "from", "meters", "client", ""], rows) : make("p", { class: "said" }, "none"), more].filter(Boolean));
}

function on(id, act) {
  $(id).addEventListener("submit", (event) => { event.preventDefault(); act(); });
}
on("find", () => find($("code").value));
on("search", () => search($("sought").value.trim(), null));
on("record", async () => {
  const record = await ask("api/audit");
  show("audit", record.ok ? (record.lines.length ? lines(record.lines) : make("p", { class: "said" }, "none")) : told(record.error, true));
});
$("drain").addEventListener("click", async () => {
  const done = await ask("api/drain", { drain: $("drain").dataset.to === "yes" });
  if (!done.ok) say($("state"), done.error, true);
});
read();
