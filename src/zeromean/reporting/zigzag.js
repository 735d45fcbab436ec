/* The interactive race: reads the controls, runs `neuron`, draws three pictures, fills the table. */
(() => {
  const $ = (id) => document.getElementById(id);
  const config = JSON.parse($("race-config").textContent), words = config.texts;
  const root = $("race");
  root.hidden = false;

  const start = { mean: config.mean, factor: 1, batch: 0, flip: false, same: false };
  const state = { ...start, seed: 0, time: Infinity, playing: false };
  let data, known, race, grid, colors, pending = 0;

  /* ---------- words ---------- */

  const say = (key, values = {}) =>
    words[key].replace(/\{(\w+)\}/g, (whole, name) => (name in values ? values[name] : whole));
  const minus = (text) => text.replace("-", "−");
  const percent = (share) => config.percent.replace("{number}", (100 * share).toFixed(0));
  const digits = (x) => (x >= 99.95 ? x.toFixed(0) : x >= 9.995 ? x.toFixed(1) : x.toFixed(2));
  const times = (x) => config.times.replace("{number}", digits(x));
  const updates = (run) => (run.reached === null ? say("more_than", { count: neuron.MOST }) : `${run.reached}`);

  /* ---------- running ---------- */

  function resample() {
    data = neuron.sample(config.seed + state.seed, config.order + state.seed);
    known = {};
  }

  function run() {
    race = neuron.race(data, state.mean, state.batch, {
      flip: state.flip, factor: state.factor, sameRate: state.same, known,
    });
    if (Object.keys(known).length > 500) known = {};
    grid = null;
    $("race-time").max = race.shown;
    if (!state.playing) state.time = race.shown;
  }

  /* ---------- the sentence ---------- */

  const oneSign = () => {
    const { x1, x2 } = race.sides[0], sign = Math.sign(x1[0]);
    return [x1, x2].every((inputs) => inputs.every((v) => v * sign > 0));
  };

  function sentence() {
    const [a, b] = race.runs, numbers = race.numbers[0];
    const values = {
      a: updates(a), b: updates(b), most: neuron.MOST,
      same: percent(numbers.sameSign), turns: percent(numbers.turns),
      batch: state.batch, sds: digits(Math.abs(state.mean) / config.std),
      ceiling: digits(race.best[1] / race.best[0]),
    };
    if (a.reached === null && b.reached === null) return say("say_both_lost", values);
    if (Math.abs(state.mean) < 0.005 && a.reached !== null) return say("say_zero", values);
    if (state.same && a.reached === null) return say(state.factor > 1 ? "say_same_lost" : "say_lost", values);
    if (state.same) {
      if (race.best[1] < 1.5 * race.best[0]) return say("say_same_even", values);
      const late = b.reached === null || (a.reached !== null && b.reached >= a.reached);
      return say(late ? "say_same_slower" : "say_same_faster", values);
    }
    if (a.reached === null) return say("say_lost", values);
    if (state.factor <= 0.6 && numbers.turns < 0.15 && a.reached > 1.3 * b.reached) return say("say_timid", values);
    if (state.flip) return say(numbers.sameSign < 0.3 ? "say_flip" : "say_flip_some", values);
    const shared = numbers.sameSign >= 0.6 ? say("not_the_cause", values) : "";
    if (state.batch === 1) return oneSign() ? say("say_single_all", values) : say("say_single", values) + shared;
    if (state.batch === 8) return say("say_batch", values) + shared;
    if (isSmall()) return say("say_small", values);
    return say(numbers.sameSign >= 0.7 && numbers.turns >= 0.5 ? "say_zigzag" : "say_drift", values) + shared;
  }

  /* Whether the mean is too near zero for a story: nothing predicted, nothing gained by the rate. */
  function isSmall() {
    const [a, b] = race.runs, [la, lb] = race.lambda;
    return la < 1.3 * lb || race.best[0] === race.best[1] || a.reached < 1.5 * b.reached;
  }

  /* The sentence; where the slider stands at the reader's own mean, with whose points these are. */
  const told = () =>
    sentence() + (state.mean === config.mean && config.mean !== 0 ? say("made_up", { points: neuron.POINTS }) : "");

  /* Of few updates no ratio: it would look finer than it is. */
  function slowdown(a, b) {
    if (a.reached === null || b.reached === null) return words.none;
    return b.reached < config.few ? say("few", { a: a.reached, b: b.reached }) : times(a.reached / b.reached);
  }

  /* ---------- the table and the controls ---------- */

  function put(id, text) {
    const node = $(id);
    if (node.textContent !== text) node.textContent = text;
  }

  /* λ₁ predicts a race at best rates, of all points at once, and no other. */
  function predicted() {
    if (state.batch !== 0) return words.full_only;
    return state.same ? words.own_rates : times(race.lambda[0] / race.lambda[1]);
  }

  function tell() {
    const [a, b] = race.runs, [la, lb] = race.lambda;
    const full = state.batch === 0;
    const few = race.runs.map((run) => run.reached !== null && run.reached < config.few); // shares of nothing
    const rows = {
      updates: [updates(a), updates(b)],
      slowdown: [slowdown(a, b), "1"],
      predicted: [predicted(), full && !state.same ? "1" : words.none],
      lambda: [digits(la), digits(lb)],
      best: race.best.map(digits), used: race.used.map(digits),
      same: race.numbers.map((n, k) => (few[k] ? words.none : percent(n.sameSign))),
      turns: race.numbers.map((n, k) => (few[k] ? words.none : percent(n.turns))),
      path: race.numbers.map((n) => digits(n.pathRatio)),
    };
    for (const [key, cells] of Object.entries(rows)) cells.forEach((text, k) => put(`race-${key}-${k}`, text));
    put("race-sentence", told());
    put("race-loss-caption", words[full && !state.same ? "loss_caption_predicted" : "loss_caption"]);
    const mean = minus(state.mean.toFixed(2));
    put("race-mean-value", say("mean_value", { mean, sds: minus((state.mean / config.std).toFixed(2)) }));
    put("race-factor-value", say("factor_value", { factor: state.factor.toFixed(2) }));
    $("race-mean").value = state.mean;
    $("race-mean").setAttribute("aria-valuetext", $("race-mean-value").textContent);
    $("race-factor").value = state.factor;
    $("race-factor").setAttribute("aria-valuetext", $("race-factor-value").textContent);
    $("race-flip").setAttribute("aria-pressed", state.flip);
    $("race-timid").setAttribute("aria-pressed", state.factor === config.timid);
    $("race-same").checked = state.same;
    root.querySelector(`input[name="race-batch"][value="${state.batch}"]`).checked = true;
    for (const button of root.querySelectorAll("[data-story]")) {
      const wanted = stories[button.dataset.story];
      const same = Object.keys(wanted).every((key) => wanted[key] === state[key]);
      button.setAttribute("aria-pressed", same);
    }
    $("race-data").setAttribute("aria-label", say("data_alt", { mean }));
    $("race-weights").setAttribute("aria-label", words.weights_alt);
    $("race-loss").setAttribute("aria-label", words.loss_alt);
  }

  /* ---------- drawing ---------- */

  function readColors() {
    const style = getComputedStyle(document.documentElement), found = {};
    for (const name of ["paper", "ink", "soft", "line", "shifted", "centered", "valley", "hill", "contour"]) {
      found[name] = style.getPropertyValue(`--${name}`).trim();
    }
    found.font = getComputedStyle(document.body).fontFamily;
    colors = found;
  }

  function drawData() {
    const { pen, width } = painting.sheet($("race-data"), 1, colors.font), end = 4.3;
    const at = (v) => (width * (v + end)) / (2 * end), radius = Math.max(1.7, width / 95);
    pen.strokeStyle = colors.line;
    pen.beginPath();
    pen.moveTo(at(0), 0); pen.lineTo(at(0), width); pen.moveTo(0, at(0)); pen.lineTo(width, at(0));
    pen.stroke();
    pen.fillStyle = colors.soft;
    pen.fillText("x₁", width - 18, at(0) - 5);
    pen.fillText("x₂", at(0) + 5, 13);
    for (const [side, color] of [[race.sides[1], colors.centered], [race.sides[0], colors.shifted]]) {
      pen.strokeStyle = pen.fillStyle = color;
      pen.lineWidth = 1;
      for (let i = 0; i < neuron.POINTS; i++) {
        pen.beginPath();
        pen.arc(at(side.x1[i]), at(-side.x2[i]), radius, 0, 7);
        if (side.labels[i] > 0.5) pen.fill(); else pen.stroke();
      }
    }
  }

  function drawWeights() {
    const { pen, width } = painting.sheet($("race-weights"), 1, colors.font);
    const view = { left: -2, size: 7.4, top: state.flip ? 5.4 : 2 };
    const at = ([w1, w2]) => [(width * (w1 - view.left)) / view.size, (width * (view.top - w2)) / view.size];
    grid = grid || painting.landscape(race.sides[0], view);
    painting.terrain(pen, width, grid, colors);
    const [zero0, zero1] = at([0, 0]);
    pen.strokeStyle = colors.soft;
    pen.globalAlpha = 0.35;
    pen.lineWidth = 1;
    pen.beginPath();
    pen.moveTo(zero0, 0); pen.lineTo(zero0, width); pen.moveTo(0, zero1); pen.lineTo(width, zero1);
    pen.stroke();
    pen.globalAlpha = 1;
    pen.fillStyle = colors.ink;
    pen.fillText("w₁", width - 20, zero1 - 6);
    pen.fillText("w₂", zero0 + 6, 14);
    drawPath(pen, at, race.runs[0], colors.shifted, []);
    drawPath(pen, at, race.runs[1], colors.centered, [6, 3]);
    pen.fillStyle = colors.ink;
    pen.beginPath();
    pen.arc(zero0, zero1, 4.5, 0, 7);
    pen.fill();
    painting.star(pen, ...at(race.sides[0].optimum), 9, colors.paper);
  }

  function drawPath(pen, at, run, color, dashes) {
    const last = Math.min(state.time, run.path.length - 1), dotted = last < 150;
    pen.strokeStyle = pen.fillStyle = color;
    pen.lineWidth = 1.8;
    pen.setLineDash(dashes);
    pen.beginPath();
    for (let t = 0; t <= last; t++) pen[t ? "lineTo" : "moveTo"](...at(run.path[t]));
    pen.stroke();
    pen.setLineDash([]);
    for (let t = 1; dotted && t <= last; t++) {
      const [x, y] = at(run.path[t]);
      pen.fillRect(x - 1.7, y - 1.7, 3.4, 3.4);
    }
    const [x, y] = at(run.path[last]);
    pen.beginPath();
    pen.arc(x, y, 4.5, 0, 7);
    pen.fill();
    pen.strokeStyle = colors.paper;
    pen.lineWidth = 1.2;
    pen.stroke();
  }

  const SUPERS = ["⁻⁵", "⁻⁴", "⁻³", "⁻²", "⁻¹", "⁰", "¹"];
  function drawLoss() {
    const { pen, width, height } = painting.sheet($("race-loss"), 1, colors.font);
    const box = { left: 44, right: width - 10, top: 28, bottom: height - 48 };
    const high = 1, low = -5, span = race.shown;
    const x = (t) => box.left + ((box.right - box.left) * t) / span;
    const y = (v) => box.top + ((high - Math.log10(Math.max(v, 1e-9))) / (high - low)) * (box.bottom - box.top);
    pen.textAlign = "right";
    pen.textBaseline = "middle";
    pen.lineWidth = 1;
    for (let power = high; power >= low; power--) {
      pen.strokeStyle = colors.line;
      pen.beginPath();
      pen.moveTo(box.left, y(10 ** power)); pen.lineTo(box.right, y(10 ** power));
      pen.stroke();
      pen.fillStyle = colors.soft;
      pen.fillText(`10${SUPERS[power - low]}`, box.left - 6, y(10 ** power));
    }
    pen.textAlign = "center";
    pen.textBaseline = "top";
    const step = [1, 2, 5, 10, 20, 50, 100, 200].find((s) => span / s <= 6);
    for (let t = 0; t <= span; t += step) pen.fillText(`${t}`, x(t), box.bottom + 6);
    pen.fillText(words.updates_axis, (box.left + box.right) / 2, box.bottom + 24);
    pen.textAlign = "left";
    pen.fillText(words.loss_axis, 8, 6);
    pen.textBaseline = "alphabetic";
    const target = neuron.TARGET * race.runs[0].excess[0];
    painting.rule(pen, colors.ink, [6, 4], [box.left, y(target)], [box.right, y(target)]);
    const [a, b] = race.runs, { expected } = race;
    if (b.reached !== null && expected > 1.2 * b.reached && expected <= span) {
      painting.rule(pen, colors.shifted, [2, 4], [x(expected), box.top], [x(expected), box.bottom]);
      pen.fillStyle = colors.shifted;
      pen.textAlign = x(expected) > (box.left + box.right) / 2 ? "right" : "left";
      pen.fillText("λ₁", x(expected) + (pen.textAlign === "right" ? -5 : 5), box.top + 12);
      pen.textAlign = "left";
    }
    pen.save();
    pen.beginPath();
    pen.rect(box.left, box.top, box.right - box.left, box.bottom - box.top);
    pen.clip();
    for (const [run, color, dashes] of [[a, colors.shifted, []], [b, colors.centered, [6, 3]]]) {
      curve(pen, run, color, dashes, x, y);
    }
    pen.restore();
  }

  function curve(pen, run, color, dashes, x, y) {
    const last = Math.min(state.time, run.excess.length - 1);
    pen.strokeStyle = pen.fillStyle = color;
    pen.lineWidth = 2;
    pen.setLineDash(dashes);
    pen.beginPath();
    for (let t = 0; t <= last; t++) pen[t ? "lineTo" : "moveTo"](x(t), y(run.excess[t]));
    pen.stroke();
    pen.setLineDash([]);
    const marks = run.reached !== null && run.reached <= last ? [run.reached, last] : [last];
    for (const t of marks) {
      pen.beginPath();
      pen.arc(x(t), y(run.excess[t]), t === run.reached ? 5 : 3, 0, 7);
      pen.fill();
    }
  }

  function draw() {
    put("race-time-value", `${Math.min(state.time, race.shown)} / ${race.shown}`);
    $("race-time").value = Math.min(state.time, race.shown);
    drawData();
    drawWeights();
    drawLoss();
  }

  /* ---------- doing ---------- */

  function update() {
    run();
    tell();
    draw();
  }

  /* At most once a frame, however fast the slider moves. */
  function change(part) {
    Object.assign(state, part);
    if (pending) return;
    pending = requestAnimationFrame(() => {
      pending = 0;
      update();
    });
  }

  function play(on) {
    state.playing = on;
    put("race-play", words[on ? "pause" : "play"]);
    if (!on) return;
    if (state.time >= race.shown) state.time = 0;
    const wait = Math.max(25, Math.min(250, 6000 / race.shown));
    let before = 0;
    requestAnimationFrame(function frame(now) {
      if (!state.playing) return;
      if (now - before >= wait) {
        before = now;
        state.time = Math.min(race.shown, Math.floor(state.time) + 1);
        draw();
      }
      if (state.time >= race.shown) play(false);
      else requestAnimationFrame(frame);
    });
  }

  const calm = { factor: 1, batch: 0, flip: false, same: false };
  const stories = {
    zigzag: { ...calm, mean: config.story },
    flip: { ...calm, mean: config.story, flip: true },
    timid: { ...calm, mean: config.story, factor: config.timid },
    single: { ...calm, mean: config.story, batch: 1 },
    yours: { ...calm, mean: config.mean },
    zero: { ...calm, mean: 0 },
  };

  const toggles = {
    p: () => play(!state.playing),
    f: () => change({ flip: !state.flip }),
    t: () => change({ factor: state.factor === config.timid ? 1 : config.timid }),
    s: () => change({ same: !state.same }),
    1: () => change({ batch: 1 }),
    8: () => change({ batch: 8 }),
    a: () => change({ batch: 0 }),
    0: () => change({ mean: 0 }),
  };

  $("race-mean").addEventListener("input", (event) => change({ mean: Number(event.target.value) }));
  $("race-factor").addEventListener("input", (event) => change({ factor: Number(event.target.value) }));
  $("race-same").addEventListener("change", (event) => change({ same: event.target.checked }));
  $("race-flip").addEventListener("click", toggles.f);
  $("race-timid").addEventListener("click", toggles.t);
  $("race-play").addEventListener("click", toggles.p);
  $("race-time").addEventListener("input", (event) => {
    play(false);
    state.time = Number(event.target.value);
    draw();
  });
  $("race-another").addEventListener("click", () => {
    state.seed += 1;
    resample();
    change({});
  });
  for (const radio of root.querySelectorAll('input[name="race-batch"]')) {
    radio.addEventListener("change", () => change({ batch: Number(radio.value) }));
  }
  for (const button of root.querySelectorAll("[data-story]")) {
    button.addEventListener("click", () => {
      play(false);
      if (state.seed) {
        state.seed = 0;
        resample();
      }
      change(stories[button.dataset.story]);
    });
  }
  root.addEventListener("keydown", (event) => {
    const action = toggles[event.key.toLowerCase()];
    if (!action || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    action();
  });

  function repaint() {
    readColors();
    if (race) draw();
  }
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", repaint);
  window.addEventListener("afterprint", () => {
    document.documentElement.classList.remove("printing");
    repaint();
  });
  window.addEventListener("beforeprint", () => {
    play(false);
    document.documentElement.classList.add("printing"); // paper is white
    state.time = race.shown;
    for (const details of document.querySelectorAll("details")) details.open = true;
    repaint();
  });
  new ResizeObserver(() => race && draw()).observe(root);

  readColors();
  resample();
  update();
})();

/* Buttons that copy code, where the browser lets a page do so. */
(() => {
  if (!navigator.clipboard) return;
  for (const button of document.querySelectorAll(".copy")) {
    const label = button.textContent;
    button.hidden = false;
    button.addEventListener("click", async () => {
      await navigator.clipboard.writeText(button.parentNode.querySelector("code").textContent);
      button.textContent = button.dataset.done;
      setTimeout(() => (button.textContent = label), 1500);
    });
  }
})();
