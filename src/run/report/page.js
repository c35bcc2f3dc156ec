// The report's behaviour: reads the data, filters the files, and shows a page of them at a time.
//
// File names, labels and reasons come from outside: they become text nodes and attribute values, never HTML.
"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  // An event is a list, since there may be hundreds of thousands.
  const [CLASS, START, END, FRAMES, MOST, CONFIDENCE, BEST, PICTURE, THUMBNAIL, BOX] = Array(10).keys();
  const FIRST_CLASSES = 12, FIRST_PROBLEMS = 4, FIRST_LANES = 12, FIRST_STRETCHES = 8;
  const MAX_BARS = 500;

  const byId = (id) => document.getElementById(id);
  const filters = { classes: new Set(), confidence: 0, name: "", show: "found", sort: "order", size: 25, reason: null };
  let page = 0, shown = [], hasAllClasses = false, hasAllProblems = false;

  // ---- texts

  /** Returns `text` with characters that are not visible, or change the direction of others, as escapes. */
  const visible = (text) => text.replace(/[\p{Cc}\u200e\u200f\u2028-\u202e\u2066-\u2069]/gu,
    (character) => `\\u{${character.codePointAt(0).toString(16)}}`);
  const number = (value) => value.toLocaleString("en");
  const counted = (value, noun, plural = noun + "s") => `${number(value)} ${value === 1 ? noun : plural}`;
  const hue = (index) => (250 + index * 137.5) % 360;

  /** Returns seconds as 1:02:03 or 2:03. */
  function time(seconds) {
    if (seconds === null) return "?";
    const whole = Math.floor(Math.abs(seconds)), two = (value) => String(value).padStart(2, "0");
    const [hours, minutes] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60];
    const text = hours ? `${hours}:${two(minutes)}:${two(whole % 60)}` : `${minutes}:${two(whole % 60)}`;
    return seconds < 0 ? "-" + text : text;
  }

  /** Returns a length of time in words: 2 h 5 min, 12 min, 3 min 20 s, 34 s. */
  function length(seconds) {
    const whole = Math.round(seconds), minutes = Math.round(seconds / 60);
    if (whole < 60) return `${whole} s`;
    if (whole < 600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
    return minutes < 60 ? `${minutes} min` : `${number(Math.floor(minutes / 60))} h ${minutes % 60} min`;
  }

  function range(event) {
    if (event[START] === null) return counted(event[FRAMES], "frame");
    const [start, end] = [time(event[START]), time(event[END])];
    return start === end ? start : `${start} to ${end}`;
  }

  /** Creates an element. `options` are properties; `children` are elements or texts. */
  function element(tag, options = {}, ...children) {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(options)) {
      if (name === "hue") made.style.setProperty("--hue", hue(value));
      else if (name === "style") for (const [key, text] of Object.entries(value)) made.style.setProperty(key, text);
      else if (name in made) made[name] = value;
      else made.setAttribute(name, value);
    }
    made.append(...children);
    return made;
  }

  /** Returns a text from outside, whose direction does not affect what is around it. */
  const outside = (text, options) => element("bdi", options, visible(text));

  // ---- data

  const nameOf = (file) => file.name || "(a file that the records do not name)";
  const passes = (event) => (!filters.classes.size || filters.classes.has(event[CLASS])) && confident(event);
  const confident = (event) => (event[CONFIDENCE] ?? 1) >= filters.confidence;
  const seconds = (event) => (event[END] ?? 0) - (event[START] ?? 0);
  const isBad = (file) => file.status === "failed" || file.status === "damaged";

  /** Whether a file passes all filters but those of events. */
  function isWanted(file) {
    if (filters.name && !file.name.toLowerCase().includes(filters.name)) return false;
    if (filters.reason !== null) return reasonsOf(file).some((reason) => kindOf(reason) === filters.reason);
    return filters.show !== "bad" || isBad(file);
  }

  /** Returns the files that pass the filters, each with its events that do. */
  function filtered() {
    const found = [];
    for (const file of data.files) {
      if (!isWanted(file)) continue;
      const events = file.events.filter(passes);
      const isFiltered = filters.classes.size > 0 || filters.confidence > 0;
      if (filters.reason === null) {
        if (filters.show === "found" && !events.length) continue;
        if (filters.show === "empty" && events.length) continue;
        if (filters.show === "bad" && isFiltered && !events.length) continue;
      }
      found.push({ file, events });
    }
    const sum = (entry) => entry.events.reduce((all, event) => all + seconds(event), 0);
    const best = (entry) => entry.events.reduce((all, event) => Math.max(all, event[CONFIDENCE] ?? 0), 0);
    const falling = (key) => {
      const keys = new Map(found.map((entry) => [entry, key(entry)]));
      found.sort((one, other) => keys.get(other) - keys.get(one));
    };
    if (filters.sort === "name") found.sort((one, other) => one.file.name < other.file.name ? -1 : 1);
    if (filters.sort === "events") falling((entry) => entry.events.length);
    if (filters.sort === "time") falling(sum);
    if (filters.sort === "confidence") falling(best);
    return found;
  }

  // ---- overview

  function showFigures() {
    const files = data.files, withEvents = files.filter((file) => file.events.length).length;
    const of = (status) => files.filter((file) => file.status === status).length;
    const total = (field) => files.reduce((all, file) => all + (file[field] ?? 0), 0);
    const figures = [
      ["files", number(files.length)],
      ["files with detections", number(withEvents)],
      ["of video", length(total("duration"))],
      ["frames analysed", number(total("frames"))],
      ["detections", number(total("detections"))],
      ["events", number(files.reduce((all, file) => all + file.events.length, 0))],
      ["failed", number(of("failed")), of("failed") && "problem"],
      ["damaged", number(of("damaged")), of("damaged") && "warning"],
    ];
    byId("figures").replaceChildren(...figures.map(([name, value, kind]) =>
      element("div", { className: kind || "" }, element("dt", {}, name), element("dd", {}, value))));
    const models = data.runs.map((run) => visible(run.model.name)).filter((name, index, all) => all.indexOf(name) === index);
    const sources = data.sources.map((source) => source === "-" ? "standard input" : visible(source));
    byId("about").textContent = `Results in ${sources.join(", ")}` + (models.length ? `, detected with ${models.join(", ")}` : "");
    const settings = new Set(data.runs.flatMap((run) => Object.entries(run.settings).map(([key, value]) => `${key}=${value}`)));
    const made = `Made by vx ${data.version} on ${new Date(data.made_ms).toLocaleString()}.`;
    byId("made").textContent = settings.size ? `${made} Settings of the run: ${visible([...settings].join(", "))}.` : made;
  }

  function showClasses() {
    const sums = data.classes.map((_, index) => ({ index, files: 0, events: 0, seconds: 0, most: 0 }));
    for (const file of data.files) {
      if (!isWanted(file)) continue;
      const seen = new Set();
      for (const event of file.events) {
        if (!confident(event)) continue;
        const sum = sums[event[CLASS]];
        if (!seen.has(event[CLASS])) sum.files++;
        seen.add(event[CLASS]);
        sum.events++;
        sum.seconds += seconds(event);
        sum.most = Math.max(sum.most, event[MOST]);
      }
    }
    const most = Math.max(1, ...sums.map((sum) => sum.files));
    sums.sort((one, other) => other.files - one.files || other.seconds - one.seconds || one.index - other.index);
    const limit = hasAllClasses ? sums.length : FIRST_CLASSES;
    // A selected class stays visible.
    const rows = sums.filter((sum, place) => place < limit || filters.classes.has(sum.index));
    const focused = document.activeElement?.dataset?.class;
    byId("classes").tBodies[0].replaceChildren(...rows.map((sum) => {
      const toggle = element("button", { type: "button", hue: sum.index, "aria-pressed": String(filters.classes.has(sum.index)) },
        outside(data.classes[sum.index].name),
        element("span", { className: "share", "aria-hidden": "true", style: { width: `${100 * sum.files / most}%` } }));
      toggle.dataset.class = sum.index;
      toggle.addEventListener("click", () => {
        if (!filters.classes.delete(sum.index)) filters.classes.add(sum.index);
        update();
      });
      const cells = [number(sum.files), number(sum.events), length(sum.seconds), number(sum.most)];
      return element("tr", {}, element("th", { scope: "row" }, toggle), ...cells.map((text) => element("td", {}, text)));
    }));
    if (!rows.length) byId("classes").tBodies[0].append(element("tr", {}, element("td", { colSpan: 5 }, "Nothing was detected.")));
    if (focused !== undefined) document.querySelector(`#classes [data-class="${Number(focused)}"]`)?.focus();
    const more = byId("more-classes");
    more.hidden = hasAllClasses || sums.length <= FIRST_CLASSES;
    more.textContent = `Show all ${counted(sums.length, "class", "classes")}`;
  }

  function showHistogram() {
    const selected = data.classes.filter((_, index) => !filters.classes.size || filters.classes.has(index));
    const bars = Array.from({ length: 20 }, (_, bar) => selected.reduce((all, one) => all + one.confidences[bar], 0));
    const most = Math.max(1, ...bars), total = bars.reduce((all, bar) => all + bar, 0);
    const step = (bar) => (bar / 20).toFixed(2);
    byId("histogram").replaceChildren(...bars.map((bar, index) => element("span", {
      title: `${step(index)} to ${step(index + 1)}: ${counted(bar, "detection")}`,
      className: index / 20 + 1e-9 < filters.confidence ? "below" : "",
      style: { height: `${100 * bar / most}%` },
    })));
    const peak = bars.indexOf(Math.max(...bars));
    byId("histogram").setAttribute("aria-label", total
      ? `Histogram of ${counted(total, "detection")}; the most, ${number(bars[peak])}, have a confidence from ${step(peak)} to ${step(peak + 1)}`
      : "No detections");
    byId("confidence-value").textContent = filters.confidence.toFixed(2);
  }

  /** Returns a reason without its numbers, which reasons of the same kind differ in. */
  const kindOf = (reason) => reason.replace(/(?<![\w.-])\d+(?:\.\d+)?(?![.-]?\w)/g, "…");
  const reasonsOf = (file) => [...file.problems, ...file.warnings];

  function showProblems() {
    const kinds = new Map();
    for (const file of data.files) {
      for (const reason of reasonsOf(file)) {
        const status = file.problems.includes(reason) ? file.status ?? "warning" : "warning";
        const kind = kinds.get(kindOf(reason)) ?? { status, files: new Set(), reasons: new Set() };
        kind.files.add(file);
        kind.reasons.add(reason);
        kinds.set(kindOf(reason), kind);
      }
    }
    const rank = { failed: 0, damaged: 1, warning: 2 };
    const rows = [...kinds].sort(([, one], [, other]) => rank[one.status] - rank[other.status] || other.files.size - one.files.size);
    byId("problems").hidden = !rows.length;
    const limit = hasAllProblems ? rows.length : FIRST_PROBLEMS;
    byId("problems").querySelector("tbody").replaceChildren(...rows.slice(0, limit).map(([kind, { status, files, reasons }]) => {
      const text = visible(reasons.size === 1 ? [...reasons][0] : kind);
      const button = element("button", { type: "button", "aria-label": `Show the files with: ${text}` }, "Show");
      button.addEventListener("click", () => {
        Object.assign(filters, { reason: kind, show: "all", name: "", confidence: 0 });
        filters.classes.clear();
        update();
        focusFiles();
      });
      const className = status === "failed" ? "problem" : "warning";
      return element("tr", {}, element("td", {}, number(files.size)),
        element("td", {}, element("span", { className }, status), " ", outside(text)), element("td", {}, button));
    }));
    const more = byId("more-problems");
    more.hidden = rows.length <= limit;
    more.textContent = `Show all ${counted(rows.length, "reason")}`;
  }

  // ---- files

  /** Returns the address of a file at a time in seconds. */
  const linkAt = (file, at) => at > 0 && file.frames > 1 ? `${file.link}#t=${at}` : file.link;
  const isLink = (address) => /^(file:\/\/\/|https?:\/\/)/.test(address ?? "");

  function link(address, options, ...children) {
    return isLink(address) ? element("a", { href: address, ...options }, ...children) : element("span", options, ...children);
  }

  function timeline(file, events) {
    const timed = events.filter((event) => event[START] !== null);
    if (!timed.length || file.frames < 2) return [];
    let [from, to] = [0, file.duration ?? 0];
    for (const event of file.events) {
      if (event[START] === null) continue;
      [from, to] = [Math.min(from, event[START]), Math.max(to, event[END])];
    }
    // Broadcast recordings and cameras count from some time of the day.
    const first = Math.min(...timed.slice(0, 1000).map((event) => event[START]));
    if (file.duration && to > 2 * file.duration && first > file.duration) from = first;
    const span = Math.max(to - from, 0.001), place = (at) => 100 * (at - from) / span;
    const lanes = new Map();
    timed.forEach((event) => (lanes.get(event[CLASS]) ?? lanes.set(event[CLASS], []).get(event[CLASS])).push(event));
    const rows = [...lanes].slice(0, FIRST_LANES).map(([index, all]) => {
      const label = data.classes[index].name, total = all.reduce((sum, event) => sum + seconds(event), 0);
      // Bars that would cover each other become one.
      const bars = [];
      for (const event of all) {
        const [left, right] = [place(event[START]), place(event[END])], last = bars.at(-1);
        if (last && all.length > MAX_BARS && left - last.right < 100 / MAX_BARS) last.right = Math.max(last.right, right);
        else bars.push({ left, right, event });
      }
      const track = element("div", { className: "track", hue: index, "aria-hidden": "true" }, ...bars.map(({ left, right, event }) => link(
        file.link && linkAt(file, event[START]),
        { title: `${visible(label)} ${range(event)}`, tabIndex: -1, style: { left: `min(${left}%, 100% - 3px)`, width: `${right - left}%` } })));
      return element("div", { className: "lane" },
        element("span", { title: visible(label) }, outside(label),
          element("span", { className: "hidden" }, `: ${counted(all.length, "event", "events")}, ${length(total)} in all`)), track);
    });
    if (lanes.size > FIRST_LANES) rows.push(element("p", { className: "hint" }, `and ${counted(lanes.size - FIRST_LANES, "more class", "more classes")}`));
    const steps = [0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 21600, 43200, 86400];
    const step = steps.find((one) => span / one <= 8) ?? span / 8;
    const ticks = [];
    for (let at = Math.ceil(from / step) * step; at <= to && ticks.length < 10; at += step) {
      if (step >= 1) ticks.push(element("span", { style: { left: `${place(at)}%` } }, time(at)));
    }
    rows.push(element("div", { className: "lane", "aria-hidden": "true" }, element("span"), element("div", { className: "ticks" }, ...ticks)));
    return rows;
  }

  function eventItem(file, event) {
    const label = data.classes[event[CLASS]].name, confidence = event[CONFIDENCE];
    const picture = event[PICTURE] && file.pictures ? `${file.pictures}/${encodeURIComponent(event[PICTURE])}` : null;
    const parts = [];
    const thumbnail = data.thumbnails[event[THUMBNAIL]];
    if (thumbnail !== undefined) {
      const at = event[BEST] === null ? "" : ` at ${time(event[BEST])}`;
      const image = element("img", { src: `data:image/jpeg;base64,${thumbnail}`, loading: "lazy", alt: `${visible(label)}${at} in ${visible(nameOf(file))}` });
      const [x, y, width, height] = event[BOX];
      const box = element("span", { style: { left: `${x}%`, top: `${y}%`, width: `${width}%`, height: `${height}%` } });
      parts.push(link(picture ?? (file.link && linkAt(file, event[BEST])), { className: "thumbnail" }, image, box));
    }
    parts.push(element("span", { className: "dot", "aria-hidden": "true" }), outside(label), " ",
      link(file.link && linkAt(file, event[START]), {}, range(event)), ` · up to ${number(event[MOST])}`);
    if (confidence !== null) parts.push(` · ${confidence.toFixed(2)}`);
    if (picture && thumbnail === undefined) parts.push(" · ", link(picture, {}, "picture"));
    return element("li", { hue: event[CLASS] }, ...parts);
  }

  function eventList(file, events) {
    const list = element("ol", { className: "events" });
    const rank = (event) => (event[THUMBNAIL] === null ? 0 : 2) + (event[CONFIDENCE] ?? 0);
    const best = [...events].sort((one, other) => rank(other) - rank(one)).slice(0, FIRST_STRETCHES);
    const some = new Set(best);
    list.append(...events.filter((event) => some.has(event)).map((event) => eventItem(file, event)));
    if (events.length <= FIRST_STRETCHES) return [list];
    const more = element("button", { type: "button" }, `Show all ${number(events.length)} events`);
    more.addEventListener("click", () => {
      list.replaceChildren(...events.map((event) => eventItem(file, event)));
      more.remove();
      list.tabIndex = -1;
      list.focus();
    });
    return [list, more];
  }

  function fileCard({ file, events }, place) {
    const name = nameOf(file), cut = name.lastIndexOf("/") + 1;
    const title = element("h3", { id: `file-${place}` }, link(file.link, {}, outside(name.slice(cut) || name)));
    if (cut > 0 && cut < name.length) title.append(" ", outside(name.slice(0, cut), { className: "folder" }));
    const meta = [];
    if (file.duration) meta.push(time(file.duration));
    meta.push(counted(file.frames, "frame"), counted(file.detections, "detection"));
    if (file.gap && events.length) meta.push(`frames up to ${Number(file.gap.toFixed(1))} s apart are joined`);
    if (!file.link && file.name) meta.push("the file is not there any more");
    const card = element("article", { "aria-labelledby": title.id }, title, element("p", { className: "meta" }, meta.join(" · ")));
    const kind = file.status === "failed" ? "problem" : "warning";
    const word = { failed: "Failed", damaged: "Damaged" }[file.status] ?? "Warning";
    if (file.problems.length) card.append(element("p", { className: kind }, `${word}: `, outside(file.problems.join("; "))));
    else if (file.status === "failed") card.append(element("p", { className: kind }, "Failed"));
    if (file.warnings.length) card.append(element("p", { className: "warning" }, "Warning: ", outside(file.warnings.join("; "))));
    card.append(...timeline(file, events));
    if (events.length) card.append(...eventList(file, events));
    return card;
  }

  function showFiles() {
    const pages = Math.max(1, Math.ceil(shown.length / filters.size));
    page = Math.min(page, pages - 1);
    const from = page * filters.size, entries = shown.slice(from, from + filters.size);
    byId("list").replaceChildren(...entries.map((entry, index) => fileCard(entry, from + index)));
    const events = shown.reduce((all, entry) => all + entry.events.length, 0);
    const reason = filters.reason === null ? "" : ` with the reason "${visible(filters.reason)}"`;
    const part = pages > 1 ? `, ${number(from + 1)} to ${number(from + entries.length)} on this page` : "";
    byId("result").textContent =
      `${number(shown.length)} of ${counted(data.files.length, "file")}${reason}, ${counted(events, "event", "events")}${part}`;
    byId("page").textContent = `Page ${number(page + 1)} of ${number(pages)}`;
    byId("pages").hidden = pages === 1;
    byId("previous").disabled = page === 0;
    byId("next").disabled = page === pages - 1;
  }

  function focusFiles() {
    byId("files-title").focus({ preventScroll: true });
    byId("files-title").scrollIntoView();
  }

  // ---- filters

  /** Shows everything for the current filters, from the first page. */
  function update() {
    page = 0;
    byId("name").value = byId("name").value.toLowerCase() === filters.name ? byId("name").value : filters.name;
    byId("show").value = filters.show;
    byId("confidence").value = filters.confidence;
    shown = filtered();
    showClasses();
    showHistogram();
    showFiles();
  }

  const isFilteredBy = { name: (input) => input.value.toLowerCase(), confidence: (input) => Number(input.value), show: (input) => input.value,
    sort: (input) => input.value, size: (input) => Number(input.value) };
  for (const [id, value] of Object.entries(isFilteredBy)) {
    byId(id).addEventListener("input", () => {
      filters[id] = value(byId(id));
      if (id === "show") filters.reason = null;
      update();
    });
  }
  const turn = (step) => { page += step; showFiles(); focusFiles(); };
  byId("previous").addEventListener("click", () => turn(-1));
  byId("next").addEventListener("click", () => turn(1));
  byId("more-classes").addEventListener("click", () => { hasAllClasses = true; showClasses(); });
  byId("more-problems").addEventListener("click", () => { hasAllProblems = true; showProblems(); });
  byId("filters").addEventListener("submit", (event) => event.preventDefault());
  const initial = () => data.files.some((file) => file.events.length) ? "found" : "all";
  byId("clear").addEventListener("click", () => {
    Object.assign(filters, { confidence: 0, name: "", show: initial(), reason: null });
    filters.classes.clear();
    update();
  });

  // A browser may restore the fields of an earlier visit.
  filters.show = initial();
  for (const id of ["sort", "size"]) byId(id).selectedIndex = id === "size" ? 1 : 0;
  byId("name").value = "";
  showFigures();
  showProblems();
  update();
})();
