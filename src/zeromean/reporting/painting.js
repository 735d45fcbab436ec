/* Pens and landscapes: everything that paints without knowing what the race is about. */
const painting = (() => {
  /* A canvas of this shape, sharp on this screen; lengths are CSS pixels. */
  function sheet(canvas, aspect, font) {
    const width = canvas.clientWidth || 300, height = Math.round(width * aspect);
    const scale = window.devicePixelRatio || 1;
    canvas.style.height = `${height}px`;
    if (canvas.width !== Math.round(width * scale) || canvas.height !== Math.round(height * scale)) {
      canvas.width = Math.round(width * scale);
      canvas.height = Math.round(height * scale);
    }
    const pen = canvas.getContext("2d");
    pen.setTransform(scale, 0, 0, scale, 0, 0);
    pen.clearRect(0, 0, width, height);
    pen.font = `12px ${font}`;
    pen.lineJoin = "round";
    return { pen, width, height };
  }

  /* The loss above the optimum's over a square of weights, as powers of ten. */
  const CELLS = 72;
  function landscape(side, view) {
    const floor = neuron.loss(side, ...side.optimum), grid = new Float64Array((CELLS + 1) ** 2);
    for (let j = 0; j <= CELLS; j++) {
      for (let i = 0; i <= CELLS; i++) {
        const w1 = view.left + (view.size * i) / CELLS, w2 = view.top - (view.size * j) / CELLS;
        grid[j * (CELLS + 1) + i] = Math.log10(Math.max(neuron.loss(side, w1, w2) - floor, 1e-7));
      }
    }
    return grid;
  }

  function mix(from, to, share) {
    const parse = (hex) => [1, 3, 5].map((k) => parseInt(hex.slice(k, k + 2), 16));
    const [a, b] = [parse(from), parse(to)];
    return a.map((v, k) => Math.round(v + (b[k] - v) * share));
  }

  const LEVELS = Array.from({ length: 11 }, (_, k) => -4 + k * 0.5);
  function terrain(pen, width, grid, colors) {
    const side = CELLS + 1;
    const image = document.createElement("canvas");
    image.width = image.height = side;
    const ink = image.getContext("2d"), pixels = ink.createImageData(side, side);
    grid.forEach((value, k) => {
      const share = Math.min(1, Math.max(0, (value + 3.2) / 4.4));
      pixels.data.set([...mix(colors.valley, colors.hill, share), 255], 4 * k);
    });
    ink.putImageData(pixels, 0, 0);
    const cell = width / CELLS;
    pen.imageSmoothingEnabled = true;
    pen.drawImage(image, -cell / 2, -cell / 2, width + cell, width + cell);
    pen.strokeStyle = colors.contour;
    pen.lineWidth = 0.7;
    pen.globalAlpha = 0.55;
    pen.beginPath();
    for (const level of LEVELS) contour(pen, grid, level, cell);
    pen.stroke();
    pen.globalAlpha = 1;
  }

  /* One contour by marching squares. */
  function contour(pen, grid, level, cell) {
    const side = CELLS + 1;
    for (let j = 0; j < CELLS; j++) {
      for (let i = 0; i < CELLS; i++) {
        const k = j * side + i, crossings = [];
        const corners = [[i, j, grid[k]], [i + 1, j, grid[k + 1]], [i + 1, j + 1, grid[k + side + 1]], [i, j + 1, grid[k + side]]];
        for (let e = 0; e < 4; e++) {
          const [x0, y0, v0] = corners[e], [x1, y1, v1] = corners[(e + 1) % 4];
          if (v0 < level === v1 < level) continue;
          const t = (level - v0) / (v1 - v0);
          crossings.push([cell * (x0 + t * (x1 - x0)), cell * (y0 + t * (y1 - y0))]);
        }
        for (let c = 0; c + 1 < crossings.length; c += 2) {
          pen.moveTo(...crossings[c]);
          pen.lineTo(...crossings[c + 1]);
        }
      }
    }
  }

  function star(pen, x, y, radius, edge) {
    pen.beginPath();
    for (let k = 0; k < 10; k++) {
      const r = k % 2 ? radius * 0.42 : radius, angle = (k * Math.PI) / 5 - Math.PI / 2;
      pen.lineTo(x + r * Math.cos(angle), y + r * Math.sin(angle));
    }
    pen.closePath();
    pen.strokeStyle = edge;
    pen.lineWidth = 2.5;
    pen.stroke();
    pen.fill();
  }

  function rule(pen, color, dashes, from, to) {
    pen.strokeStyle = color;
    pen.lineWidth = 1.2;
    pen.setLineDash(dashes);
    pen.beginPath();
    pen.moveTo(...from); pen.lineTo(...to);
    pen.stroke();
    pen.setLineDash([]);
  }

  return { sheet, landscape, terrain, star, rule };
})();
