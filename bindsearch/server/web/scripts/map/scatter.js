/** A scatter plot on a canvas: a colour and a shape for each kind, zoom and pan. */

import { KINDS } from "../format.js";

const RADIUS_PX = 5;
const MARGIN_PX = 28;
const MAX_ZOOM = 60;
const REACH_PX = 14;

/** @typedef {{x: number, y: number, modality: string, index: number}} Point */

/** Outlines of kinds around (0, 0), of about the same area, so that colour is not the only sign. */
const SHAPES = Object.freeze({
  text: polygon(4, 1.15, Math.PI / 4),
  image: (path, r) => path.arc(0, 0, r, 0, 2 * Math.PI),
  video: polygon(3, 1.3, Math.PI / 6),
  audio: polygon(4, 1.25, 0),
  depth: polygon(6, 1.1, 0),
  thermal: polygon(3, 1.3, -Math.PI / 6),
  imu: star(4),
});

function polygon(corners, scale, turn) {
  return (path, r) => {
    for (let index = 0; index < corners; index += 1) {
      const angle = turn + (index * 2 * Math.PI) / corners;
      path.lineTo(scale * r * Math.cos(angle), scale * r * Math.sin(angle));
    }
    path.closePath();
  };
}

function star(corners) {
  return (path, r) => {
    for (let index = 0; index < 2 * corners; index += 1) {
      const angle = (index * Math.PI) / corners;
      const radius = (index % 2 ? 0.5 : 1.5) * r;
      path.lineTo(radius * Math.cos(angle), radius * Math.sin(angle));
    }
    path.closePath();
  };
}

/** Draw the sign of a kind at a place. @param {CanvasRenderingContext2D} context */
export function drawSign(context, modality, x, y, radius, fill, line) {
  context.save();
  context.translate(x, y);
  context.beginPath();
  (SHAPES[modality] ?? SHAPES.image)(context, radius);
  context.fillStyle = fill;
  context.fill();
  context.strokeStyle = line;
  context.lineWidth = 1;
  context.stroke();
  context.restore();
}

/** Return the colours of the page as it is now. */
export function colours() {
  const style = getComputedStyle(document.documentElement);
  const value = (name) => style.getPropertyValue(name).trim();
  return {
    line: value("--surface"),
    ring: value("--text"),
    ...Object.fromEntries(Object.keys(KINDS).map((kind) => [kind, value(`--kind-${kind}`)])),
  };
}

/**
 * Return a plot on a canvas.
 * @param {HTMLCanvasElement} canvas
 */
export function createScatter(canvas) {
  /** @type {Point[]} */
  let points = [];
  let bounds = { left: -1, right: 1, top: -1, bottom: 1 };
  let zoom = 1;
  let centre = { x: 0, y: 0 };
  /** @type {Point | null} */
  let chosen = null;
  let frame = 0;

  const width = () => canvas.clientWidth;
  const height = () => canvas.clientHeight;
  const scale = () =>
    zoom * Math.min((width() - 2 * MARGIN_PX) / (bounds.right - bounds.left || 1), (height() - 2 * MARGIN_PX) / (bounds.bottom - bounds.top || 1));
  const toScreen = (point) => ({
    x: width() / 2 + (point.x - centre.x) * scale(),
    y: height() / 2 - (point.y - centre.y) * scale(),
  });

  function fit() {
    const xs = points.map((one) => one.x);
    const ys = points.map((one) => one.y);
    const least = (values) => values.reduce((a, b) => Math.min(a, b), Infinity);
    const most = (values) => values.reduce((a, b) => Math.max(a, b), -Infinity);
    if (points.length) bounds = { left: least(xs), right: most(xs), top: least(ys), bottom: most(ys) };
    centre = { x: (bounds.left + bounds.right) / 2, y: (bounds.top + bounds.bottom) / 2 };
    zoom = 1;
    draw();
  }

  function draw() {
    cancelAnimationFrame(frame);
    frame = requestAnimationFrame(paint);
  }

  function paint() {
    const ratio = devicePixelRatio || 1;
    const [w, h] = [Math.round(width() * ratio), Math.round(height() * ratio)];
    if (!w || !h) return;
    if (canvas.width !== w || canvas.height !== h) [canvas.width, canvas.height] = [w, h];
    const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
    const palette = colours();
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, width(), height());
    for (const point of points) {
      const { x, y } = toScreen(point);
      if (x < -9 || y < -9 || x > width() + 9 || y > height() + 9) continue;
      drawSign(context, point.modality, x, y, RADIUS_PX, palette[point.modality], palette.line);
    }
    if (!chosen) return;
    const { x, y } = toScreen(chosen);
    drawSign(context, chosen.modality, x, y, RADIUS_PX * 1.5, palette[chosen.modality], palette.line);
    context.beginPath();
    context.arc(x, y, RADIUS_PX * 2.6, 0, 2 * Math.PI);
    context.strokeStyle = palette.ring;
    context.lineWidth = 2;
    context.stroke();
  }

  function zoomBy(factor, x = width() / 2, y = height() / 2) {
    const before = scale();
    const next = Math.max(1, Math.min(MAX_ZOOM, zoom * factor));
    const [dx, dy] = [x - width() / 2, y - height() / 2];
    const place = { x: centre.x + dx / before, y: centre.y - dy / before };
    zoom = next;
    centre = zoom === 1 && factor < 1 ? { x: (bounds.left + bounds.right) / 2, y: (bounds.top + bounds.bottom) / 2 }
      : { x: place.x - dx / scale(), y: place.y + dy / scale() };
    draw();
  }

  new ResizeObserver(draw).observe(canvas);
  return {
    fit,
    draw,
    zoomBy,
    toScreen,
    /** @param {Point[]} given @param {boolean} [isNew] */
    setPoints(given, isNew = false) {
      points = given;
      if (chosen && !points.includes(chosen)) chosen = null;
      if (isNew) fit();
      else draw();
    },
    pan(dx, dy) {
      centre = { x: centre.x - dx / scale(), y: centre.y + dy / scale() };
      draw();
    },
    /** @param {Point | null} point */
    choose(point) {
      chosen = point;
      if (point) {
        const { x, y } = toScreen(point);
        if (x < 0 || y < 0 || x > width() || y > height()) centre = { x: point.x, y: point.y };
      }
      draw();
    },
    chosen: () => chosen,
    /** Return the point at a place of the canvas, or null. */
    at(x, y) {
      let best = null;
      let least = REACH_PX ** 2;
      for (const point of points) {
        const place = toScreen(point);
        const distance = (place.x - x) ** 2 + (place.y - y) ** 2;
        if (distance < least) [best, least] = [point, distance];
      }
      return best;
    },
    /** Return the nearest point in a direction: distance along it counts once, beside it twice. */
    next(dx, dy) {
      if (!chosen) return points[0] ?? null;
      const here = toScreen(chosen);
      let best = null;
      let least = Infinity;
      for (const point of points) {
        const place = toScreen(point);
        const along = (place.x - here.x) * dx + (place.y - here.y) * dy;
        const beside = Math.abs((place.x - here.x) * dy - (place.y - here.y) * dx);
        if (along <= 0.5 || point === chosen || beside > 4 * along) continue;
        const distance = along + 2 * beside;
        if (distance < least) [best, least] = [point, distance];
      }
      return best;
    },
  };
}
