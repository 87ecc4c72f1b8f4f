// Keeps a page live: when the stream says that something has changed, the page is asked for again, and its regions marked
// data-live are replaced where they differ. A region in which somebody types, or has opened something, is left alone.
"use strict";
(() => {
  const url = document.body.dataset.liveStream;
  if (!url || !window.EventSource || !document.querySelector("[data-live]")) return;
  const note = document.getElementById("live");
  let busy = false, again = false, tag = null;

  const inUse = (region) => {
    const focused = document.activeElement;
    const types = focused && region.contains(focused) && focused.matches("input:not([type=checkbox]), select, textarea");
    return types || region.querySelector("dialog[open]") !== null;
  };

  const swap = (old, fresh) => {
    const focused = old.contains(document.activeElement) ? document.activeElement : null;
    const mark = focused && (focused.id || focused.getAttribute("href"));
    const open = new Set([...old.querySelectorAll("details[open][id]")].map((one) => one.id));
    old.replaceWith(fresh);
    open.forEach((id) => { const one = document.getElementById(id); if (one) one.open = true; });
    if (mark) {
      const same = document.getElementById(mark) || fresh.querySelector(`[href="${CSS.escape(mark)}"]`);
      if (same) same.focus({ preventScroll: true });
    }
  };

  // What no commit tells of, as bytes that move: a region says how often it wants to be looked at again.
  let timer = null;
  const pace = () => {
    clearTimeout(timer);
    const every = document.querySelector("[data-every]");
    if (every) timer = setTimeout(refresh, Math.max(250, Number(every.dataset.every) || 1000));
  };

  const refresh = async () => {
    if (busy) { again = true; return; }
    busy = true;
    try {
      const headers = tag ? { "If-None-Match": tag } : {};
      const answer = await fetch(location.href, { headers, cache: "no-store", redirect: "manual" });
      if (answer.type === "opaqueredirect") { location.reload(); return; }
      if (answer.status === 200) {
        tag = answer.headers.get("ETag");
        const page = new DOMParser().parseFromString(await answer.text(), "text/html");
        for (const old of document.querySelectorAll("[data-live]")) {
          const fresh = page.getElementById(old.id);
          if (fresh && fresh.outerHTML !== old.outerHTML && !inUse(old)) swap(old, document.adoptNode(fresh));
        }
      } else if (answer.status === 404) {
        note.textContent = "This is not there any more.";
      }
    } catch {
      note.textContent = "The daemon does not answer; trying again.";
    } finally {
      busy = false;
      pace();
      if (again) { again = false; setTimeout(refresh, 300); }
    }
  };

  let stream = null;
  const connect = () => {
    stream = new EventSource(url);
    stream.addEventListener("open", () => { note.textContent = ""; refresh(); });
    stream.addEventListener("changed", refresh);
    stream.addEventListener("error", () => {
      note.textContent = "The daemon does not answer; trying again.";
      if (stream.readyState === EventSource.CLOSED) setTimeout(connect, 2000);
    });
  };
  connect();
  addEventListener("pagehide", () => { stream.close(); clearTimeout(timer); });
  addEventListener("pageshow", (event) => { if (event.persisted) connect(); });
})();
