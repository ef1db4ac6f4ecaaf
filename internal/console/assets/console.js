"use strict";
// The pages work without this script. It adds local times, copy buttons, passkeys and
// charts.
(() => {
  const ready = (root) => {
    localTimes(root);
    copyButtons(root);
    charts(root);
  };

  function localTimes(root) {
    const format = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });
    for (const time of root.querySelectorAll("time[datetime]:not([data-local])")) {
      time.dataset.local = "";
      if (new Date(time.dateTime).getTimezoneOffset() === 0) {
        continue;
      }
      const local = document.createElement("span");
      local.className = "local";
      local.textContent = format.format(new Date(time.dateTime)) + " here";
      time.append(local);
    }
  }

  // showCurrent scrolls the menu, which is wider than a phone, to its current entry.
  function showCurrent() {
    document.querySelector(".menu [aria-current]")?.scrollIntoView({ block: "nearest", inline: "center" });
  }

  function copyButtons(root) {
    for (const button of root.querySelectorAll("[data-copy]")) {
      if (!navigator.clipboard) {
        button.hidden = true;
        continue;
      }
      button.addEventListener("click", async () => {
        await navigator.clipboard.writeText(document.getElementById(button.dataset.copy).textContent);
        const label = button.textContent;
        button.textContent = "Copied";
        setTimeout(() => { button.textContent = label; }, 2000);
      });
    }
  }

  const token = () => document.querySelector("meta[name=farebox-token]")?.content ?? "";

  async function post(url, body) {
    const response = await fetch(url, {
      method: "POST",
      headers: { Accept: "application/json", "Content-Type": "application/json", "X-Farebox-Token": token() },
      body: JSON.stringify(body ?? {}),
    });
    const answer = await response.json();
    if (!response.ok) {
      throw new Error(answer.error);
    }
    return answer;
  }

  function passkeys() {
    if (!window.PublicKeyCredential?.parseCreationOptionsFromJSON) {
      return;
    }
    for (const element of document.querySelectorAll("[data-passkeys]")) {
      element.hidden = false;
    }
    for (const button of document.querySelectorAll("[data-passkey]")) {
      button.addEventListener("click", () => passkey(button));
    }
  }

  // passkey runs one ceremony: the server's options, the authenticator, the server's
  // check.
  async function passkey(button) {
    const problem = document.querySelector("[data-passkey-problem]");
    problem.hidden = true;
    button.disabled = true;
    try {
      const form = button.closest("form");
      const profile = form && { Email: form.elements.email?.value ?? "", Name: form.elements.name?.value ?? "" };
      if (form?.elements.email && !form.elements.email.reportValidity()) {
        return;
      }
      const { publicKey } = await post(button.dataset.begin, profile);
      let credential;
      if (button.dataset.passkey === "create") {
        credential = await navigator.credentials.create({ publicKey: PublicKeyCredential.parseCreationOptionsFromJSON(publicKey) });
      } else {
        credential = await navigator.credentials.get({ publicKey: PublicKeyCredential.parseRequestOptionsFromJSON(publicKey) });
      }
      const to = button.dataset.to ? "?to=" + encodeURIComponent(button.dataset.to) : "";
      const answer = await post(button.dataset.finish + to, credential.toJSON());
      location.assign(answer.to);
    } catch (error) {
      problem.textContent = error.name === "NotAllowedError" ? "The passkey was not used. Try again, or use a password." : error.message;
      problem.hidden = false;
    } finally {
      button.disabled = false;
    }
  }

  // charts draws each element with data-chart: {"labels": [seconds], "series": [{"name",
  // "values"}], "unit"}. The table beside the chart has the same figures.
  function charts(root) {
    for (const box of root.querySelectorAll("[data-chart]")) {
      const data = JSON.parse(box.dataset.chart);
      if (!data.labels.length || !window.uPlot) {
        continue;
      }
      const style = getComputedStyle(document.documentElement);
      const ink = style.getPropertyValue("--soft").trim();
      const line = style.getPropertyValue("--line").trim();
      const colours = [style.getPropertyValue("--accent").trim(), style.getPropertyValue("--bad").trim()];
      const axis = { stroke: ink, grid: { stroke: line, width: 1 }, ticks: { stroke: line, width: 1 } };
      const day = 86400;
      const daily = !(data.labels[1] - data.labels[0] < day);
      const when = (seconds) => new Date(seconds * 1e3).toISOString().slice(0, daily ? 10 : 16).replace("T", " ");
      const times = { ...axis, size: 36, space: daily ? 90 : 130, values: (_, splits) => splits.map(when) };
      if (daily) {
        times.incrs = [1, 2, 5, 7, 14, 30, 60, 90, 180, 365, 730].map((days) => days * day);
      }
      const options = {
        width: box.clientWidth - 24, height: 240, tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1e3), "UTC"),
        padding: [null, daily ? 40 : 60, null, null],
        scales: { x: { range: (_, low, high) => data.labels.length > 1 ? [low, high] : [data.labels[0] - day, data.labels[0] + day] }, y: { range: (_, low, high) => [Math.min(0, low), high > 0 ? high * 1.1 : 1] } },
        axes: [times, { ...axis, size: 70 }],
        series: [{ label: "Time", value: (_, seconds) => seconds == null ? "--" : when(seconds) }, ...data.series.map((s, i) => ({ label: s.name, stroke: colours[i % 2], fill: i ? undefined : colours[0] + "33", width: 2, points: { show: data.labels.length < 40 } }))],
      };
      const chart = new uPlot(options, [data.labels, ...data.series.map((s) => s.values)], box);
      new ResizeObserver(() => chart.setSize({ width: box.clientWidth - 24, height: 240 })).observe(box);
    }
  }

  document.addEventListener("DOMContentLoaded", () => {
    ready(document);
    passkeys();
    showCurrent();
    document.body.addEventListener("htmx:afterSwap", (event) => ready(event.detail.elt.parentElement ?? document));
  });
})();
