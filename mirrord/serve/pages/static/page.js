// A page is whole without this script: it keeps times right, filters while one types, and shows changes as they happen.
"use strict";

(() => {
  const root = document.documentElement;
  const skew = Date.parse(root.dataset.now) - Date.now();
  const texts = JSON.parse(root.dataset.texts);
  root.classList.add("live");

  // Times, in the words that the server uses.
  const UNITS = [["year", 31536000, 2], ["month", 2592000, 2], ["day", 86400, 1], ["hour", 3600, 1], ["minute", 60, 1]];

  function text(key, values) {
    let form = texts[key];
    if (Array.isArray(form)) form = form[values.count === 1 ? 0 : 1];
    return form.replace(/\{(\w+)\}/g, (_, name) => values[name]);
  }

  function span(seconds) {
    const whole = Math.max(0, Math.floor(seconds));
    const [unit, length] = UNITS.find(([, length, enough]) => whole >= length * enough) || ["second", 1];
    return text(`span.${unit}`, {count: Math.floor(whole / length)});
  }

  function said(way, at) {
    const seconds = (at - Date.now() - skew) / 1000 * (way === "ago" ? -1 : 1);
    if (way === "ago") return seconds < 10 ? text("time.now", {}) : text("time.ago", {span: span(seconds)});
    return seconds < 1 ? text("time.due", {}) : text("time.in", {span: span(seconds)});
  }

  setInterval(() => {
    for (const time of document.querySelectorAll("time[data-rel]")) {
      const at = Date.parse(time.dateTime);
      if (time.dataset.rel === "ago" && at - Date.now() - skew > 3600000) continue;  // the clock was wrong: it is exact
      const words = said(time.dataset.rel, at);
      if (time.textContent !== words) time.textContent = words;
    }
  }, 5000);

  // Call `begun` with the serial of a page at each connection, and `changed` with each change.
  // A page that nobody looks at holds no connection: a browser has six for a server.
  function follow(path, begun, changed) {
    const notes = { lost: document.getElementById("lost"), busy: document.getElementById("busy") };
    let events = null;
    let again = 0;

    function note(which) {
      for (const [name, text] of Object.entries(notes)) text.hidden = name !== which;
    }

    // A stream that was refused does not say why. Readers that wait come back one by one, not all at once.
    async function refused() {
      const answer = await fetch(path, { method: "HEAD" }).catch(() => null);
      note(answer?.status === 503 ? "busy" : "lost");
      const seconds = Number(answer?.headers.get("Retry-After")) || 60;
      clearTimeout(again);
      again = setTimeout(listen, seconds * 1000 * (1 + Math.random() / 2));
    }

    function listen() {
      clearTimeout(again);
      events?.close();
      events = null;
      if (document.hidden) return;
      events = new EventSource(`${path}?lang=${root.lang.slice(0, 2)}`);
      events.addEventListener("page", (event) => {
        note("");
        begun(event.data);
      });
      events.addEventListener("message", (event) => changed(JSON.parse(event.data)));
      events.addEventListener("error", () => {
        if (events?.readyState === EventSource.CLOSED) refused();
        else note("lost");
      });
    }
    document.addEventListener("visibilitychange", listen);
    listen();
  }

  // Copy buttons
  function copied(button) {
    const label = button.querySelector("span");
    const before = label.textContent;
    if (button.classList.contains("copied")) return;
    button.classList.add("copied");
    label.textContent = button.dataset.copied;
    document.getElementById("said").textContent = button.dataset.copied;
    setTimeout(() => {
      button.classList.remove("copied");
      label.textContent = before;
      document.getElementById("said").textContent = "";
    }, 2000);
  }

  // Copy the command beside a button. Browsers have a clipboard for pages only with TLS or on this machine.
  async function copy(button) {
    const command = button.parentElement.querySelector("code");
    try {
      await navigator.clipboard.writeText(command.textContent);
      return copied(button);
    } catch {
      // There is none, or it is refused.
    }
    getSelection().selectAllChildren(command);
    if (document.execCommand("copy")) copied(button);
  }

  document.addEventListener("click", (event) => {
    const button = event.target.closest?.("button.copy");
    if (button) copy(button);
  });

  // The page of a mirror: what changes meanwhile.
  const mirror = document.getElementById("mirror");
  if (mirror) {
    const offer = () => mirror.querySelectorAll("button.copy").forEach((button) => { button.hidden = false; });
    offer();
    let serial = null;
    const refresh = async () => {
      const answer = await fetch(location.href);
      if (answer.status === 404) return location.reload();
      if (!answer.ok) return;
      const other = new DOMParser().parseFromString(await answer.text(), "text/html");
      for (const id of ["head", "errors", "uses", "days", "items", "changes"]) {
        const old = document.getElementById(id);
        const fresh = other.getElementById(id);
        if (old && fresh && old.innerHTML !== fresh.innerHTML && !old.contains(document.activeElement)) {
          old.replaceWith(fresh);
        }
      }
      offer();
    };
    follow("/events", (now) => {
      if (serial !== null && serial !== now) refresh();
      serial = now;
    }, (change) => {
      serial = change.to;
      if (change.moved || mirror.dataset.name in change.rows) refresh();
    });
  }

  // The page of the front: its numbers. A table that somebody scrolls by keys keeps the focus.
  const front = document.getElementById("front");
  if (front) {
    const show = (html) => {
      const fresh = new DOMParser().parseFromString(html, "text/html").getElementById("front");
      const label = front.contains(document.activeElement) ? document.activeElement.getAttribute("aria-label") : null;
      front.replaceChildren(...fresh.childNodes);
      front.dataset.serial = fresh.dataset.serial;
      if (label) [...front.querySelectorAll("[tabindex]")].find((one) => one.getAttribute("aria-label") === label)?.focus();
    };
    follow("/front/events", async (serial) => {
      if (serial === front.dataset.serial) return;
      const answer = await fetch(location.href);
      if (answer.ok) show(await answer.text());
    }, (change) => show(change.page));
  }

  const overview = document.getElementById("overview");
  if (!overview) return;
  const filter = document.getElementById("filter");
  let loading = null;

  // Load the page at an address, and show it in place of this one.
  async function load(address) {
    loading?.abort();
    loading = new AbortController();
    try {
      const answer = await fetch(address, {signal: loading.signal});
      if (!answer.ok) return;
      const other = new DOMParser().parseFromString(await answer.text(), "text/html");
      const fresh = other.getElementById("overview");
      if (!fresh || !filter || !fresh.querySelector("#list")) return location.reload();
      overview.dataset.serial = fresh.dataset.serial;
      document.title = other.title;
      for (const id of ["warnings", "verdict", "found", "list", "replicas"]) {
        const old = document.getElementById(id);
        const now = other.getElementById(id);
        if (old && now) swap(old, now);
        else if (now) overview.append(now);
        else old?.remove();
      }
      filter.elements.state.value = other.getElementById("filter").elements.state.value;
    } catch (error) {
      if (error.name !== "AbortError") throw error;
    }
  }

  // Replace an element; a link that had the focus has it again.
  function swap(old, fresh) {
    const focused = old.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
    old.replaceWith(fresh);
    if (focused) [...fresh.querySelectorAll("a")].find((link) => link.getAttribute("href") === focused)?.focus();
  }

  // Filters
  let typing = 0;

  function chosen() {
    const query = new URLSearchParams();
    for (const [key, value] of new FormData(filter)) if (value.trim()) query.set(key, value.trim());
    return `/?${query}`.replace(/\?$/, "");
  }

  function choose() {
    const address = chosen();
    history.replaceState(null, "", address);
    load(address);
  }

  filter?.addEventListener("input", (event) => {
    clearTimeout(typing);
    typing = setTimeout(choose, event.target.type === "search" ? 150 : 0);
  });
  document.addEventListener("keydown", (event) => {
    if (event.key !== "/" || event.ctrlKey || event.metaKey || event.target.closest("input, select, textarea")) return;
    event.preventDefault();
    filter?.elements.q.focus();
  });
  filter?.addEventListener("submit", (event) => {
    event.preventDefault();
    choose();
  });
  document.addEventListener("click", (event) => {
    const tile = event.target.closest?.("a[data-state]");
    if (!tile || event.metaKey || event.ctrlKey || event.shiftKey || event.button) return;
    event.preventDefault();
    filter.elements.state.value = tile.dataset.state;
    choose();
  });

  // The command that pulls from the nearest healthy target, as the page of the mirror has it: show it, and copy it.
  const pulled = document.getElementById("pulled");

  async function pull(link) {
    const answer = await fetch(link.href);
    const other = new DOMParser().parseFromString(await answer.text(), "text/html");
    const command = other.querySelector(".use .command");
    if (!command) return location.assign(link.href);
    const use = command.closest(".use");
    pulled.className = use.className;
    pulled.replaceChildren(use.querySelector("h3"), command);
    const button = command.querySelector("button");
    pulled.hidden = button.hidden = false;
    copy(button);
  }

  document.addEventListener("click", (event) => {
    if (!pulled.contains(event.target)) pulled.hidden = true;
    const link = event.target.closest?.("a.pull");
    if (!link || event.metaKey || event.ctrlKey || event.shiftKey || event.button) return;
    event.preventDefault();
    pull(link);
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") pulled.hidden = true;
  });

  // What changes meanwhile
  function show(change) {
    const here = new URLSearchParams(location.search);
    const filtered = ["q", "state", "kind", "target"].some((key) => here.get(key));
    const rows = Object.entries(change.rows);
    if (change.from !== overview.dataset.serial || change.moved || (filtered && rows.length)) return load(location.href);
    overview.dataset.serial = change.to;
    total(change);
    for (const [name, html] of rows) put(document.getElementById(`m-${name}`), html);
    if (change.replicas) put(document.getElementById("replicas"), change.replicas);
  }

  function put(old, html) {
    const holder = document.createElement("template");
    holder.innerHTML = html;
    if (old) swap(old, holder.content.firstElementChild);
  }

  function total(change) {
    document.getElementById("verdict").className = `verdict ${change.health}`;
    document.getElementById("sentence").textContent = change.sentence;
    document.title = `${change.sentence} · mirrord`;
    document.querySelector("#verdict h1 use").setAttribute("href", `#${change.health}`);
    let x = 0;
    for (const [state, count] of Object.entries(change.totals)) {
      const number = document.querySelector(`[data-total="${state}"]`);
      number.textContent = count.toLocaleString("en");
      number.parentElement.classList.toggle("zero", !count);
      const part = document.querySelector(`#bar .${state}`);
      part?.setAttribute("x", x);
      part?.setAttribute("width", count);
      x += count;
    }
  }

  follow("/events", (serial) => {
    if (serial !== overview.dataset.serial) load(location.href);
  }, show);
})();
