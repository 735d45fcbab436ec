"use strict";
/* The two-weight sigmoid neuron: the same sums as neuron.py, which a test compares. */
const neuron = (() => {
  const POINTS = 200, TEACHER = 3, MOST = 600, STAY = 5, TARGET = 0.01;
  const RATES = Array.from({ length: 23 }, (_, k) => 2 ** ((k - 10) / 2));

  /* A linear congruential generator modulo 2^32, with the constants of Numerical Recipes. */
  function generator(seed) {
    let state = seed >>> 0;
    return () => {
      state = (Math.imul(1664525, state) + 1013904223) >>> 0;
      return state / 4294967296;
    };
  }

  /* Centered points of a square as x1, x2; soft labels; the order in which they are drawn. */
  function sample(seed, orderSeed) {
    const draw = generator(seed), x1 = new Float64Array(POINTS), x2 = new Float64Array(POINTS);
    for (let i = 0; i < POINTS; i++) {
      x1[i] = 2 * draw() - 1;
      x2[i] = 2 * draw() - 1;
    }
    for (const x of [x1, x2]) {
      const mean = x.reduce((sum, v) => sum + v, 0) / POINTS;
      for (let i = 0; i < POINTS; i++) x[i] -= mean;
    }
    const labels = x1.map((v, i) => 1 / (1 + Math.exp(-TEACHER * (v - x2[i]))));
    const next = generator(orderSeed);
    const order = Array.from({ length: 8 * MOST }, () => Math.floor(next() * POINTS));
    return { x1, x2, labels, order };
  }

  /* One side of the race: the points with this mean, and where the optimum lies. */
  function side(data, mean, flip) {
    const sign = flip ? -1 : 1;
    return {
      x1: data.x1.map((v) => v + mean),
      x2: data.x2.map((v) => (v + mean) * sign),
      labels: data.labels, order: data.order, optimum: [TEACHER, -TEACHER * sign],
    };
  }

  /* Mean cross entropy. */
  function loss(points, w1, w2) {
    let sum = 0;
    for (let i = 0; i < POINTS; i++) {
      const z = points.x1[i] * w1 + points.x2[i] * w2;
      sum += Math.max(z, 0) + Math.log1p(Math.exp(-Math.abs(z))) - points.labels[i] * z;
    }
    return sum / POINTS;
  }

  function lambda1(points) {
    let a = 0, b = 0, c = 0;
    for (let i = 0; i < POINTS; i++) {
      a += points.x1[i] ** 2;
      b += points.x1[i] * points.x2[i];
      c += points.x2[i] ** 2;
    }
    return ((a + c) / 2 + Math.hypot((a - c) / 2, b)) / POINTS;
  }

  /* Gradient descent from zero until the target has been kept, or for `most` updates; after the
     target on to `least` updates, for the picture. */
  function train(points, rate, batch, most, least) {
    const floor = loss(points, ...points.optimum), size = batch || POINTS;
    let w1 = 0, w2 = 0, kept = 0, reached = null;
    const path = [[0, 0]], gradients = [], excess = [loss(points, 0, 0) - floor];
    while (gradients.length < most && (reached === null || gradients.length < least)) {
      let g1 = 0, g2 = 0;
      const first = gradients.length * batch;
      for (let k = 0; k < size; k++) {
        const i = batch ? points.order[(first + k) % points.order.length] : k;
        const error = 1 / (1 + Math.exp(-(points.x1[i] * w1 + points.x2[i] * w2))) - points.labels[i];
        g1 += error * points.x1[i];
        g2 += error * points.x2[i];
      }
      w1 -= (rate * g1) / size;
      w2 -= (rate * g2) / size;
      gradients.push([g1 / size, g2 / size]);
      path.push([w1, w2]);
      excess.push(loss(points, w1, w2) - floor);
      kept = excess[excess.length - 1] <= TARGET * excess[0] ? kept + 1 : 0;
      if (kept === STAY && reached === null) reached = gradients.length - STAY + 1;
    }
    return { rate, path, excess, gradients, reached };
  }

  /* The rate of the grid with the fewest updates; of equals the smallest. Tried from the likely
     ones outward, so that a run can be given up as soon as it is too long. */
  function bestRate(points, batch) {
    const likely = Math.log(12 / lambda1(points)), far = (rate) => Math.abs(Math.log(rate) - likely);
    let best = MOST + 1, found = Infinity, fallback = [Infinity, RATES[0]];
    for (const rate of [...RATES].sort((a, b) => far(a) - far(b))) {
      const limit = best + STAY - 1 - (rate > found ? 1 : 0);
      const run = train(points, rate, batch, Math.min(MOST, limit), 0);
      if (run.reached !== null && (run.reached < best || (run.reached === best && rate < found))) {
        [best, found] = [run.reached, rate];
      }
      const last = run.excess[run.excess.length - 1];
      if (last < fallback[0]) fallback = [last, rate];
    }
    return found === Infinity ? fallback[1] : found;
  }

  /* The three zig-zag numbers, over the updates until the target. */
  function zigzag(run) {
    const counted = run.reached === null ? run.gradients.length : run.reached;
    let same = 0, turns = 0, length = 0;
    for (let t = 0; t < counted; t++) {
      const [a, b] = [run.path[t], run.path[t + 1]], step = [b[0] - a[0], b[1] - a[1]];
      if (run.gradients[t][0] * run.gradients[t][1] > 0) same++;
      length += Math.hypot(...step);
      if (t > 0) {
        const before = [a[0] - run.path[t - 1][0], a[1] - run.path[t - 1][1]];
        if (step[0] * before[0] + step[1] * before[1] < 0) turns++;
      }
    }
    return {
      sameSign: counted ? same / counted : NaN,
      turns: counted > 1 ? turns / (counted - 1) : 0,
      pathRatio: length / Math.hypot(...run.path[counted]),
    };
  }

  /* Both sides, each at its own best rate times a factor. `known` keeps best rates for later. */
  function race(data, mean, batch, { flip = false, factor = 1, sameRate = false, known = {} } = {}) {
    const means = [mean, 0], sides = means.map((m) => side(data, m, flip));
    const best = means.map((m, k) => {
      const key = `${m}/${batch}`; // negating an input mirrors the path and changes no rate
      if (!(key in known)) known[key] = bestRate(sides[k], batch);
      return known[key];
    });
    const used = [best[0] * factor, (sameRate ? best[0] : best[1]) * factor];
    let runs = sides.map((points, k) => train(points, used[k], batch, MOST, 0));
    const lambda = sides.map(lambda1), reached = runs.map((run) => run.reached ?? MOST);
    const expected = batch === 0 && !sameRate ? (reached[1] * lambda[0]) / lambda[1] : 0;
    const longest = Math.max(1.25 * reached[0], 1.25 * reached[1], 1.1 * expected, 20);
    const shown = Math.min(MOST, Math.ceil(longest));
    runs = sides.map((points, k) => train(points, used[k], batch, shown, shown));
    return { sides, best, used, runs, shown, expected, lambda, numbers: runs.map(zigzag) };
  }

  return { POINTS, MOST, TARGET, RATES, generator, sample, side, loss, lambda1, train, bestRate, race };
})();
if (typeof module !== "undefined") module.exports = neuron;
