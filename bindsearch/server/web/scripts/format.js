/** Numbers, times and names of kinds as texts. */

/** Kinds in display order, and how the page names them. */
export const KINDS = Object.freeze({
  text: "Text",
  image: "Image",
  video: "Video",
  audio: "Audio",
  depth: "Depth",
  thermal: "Thermal",
  imu: "Motion",
});

/** @param {string} modality */
export const kindName = (modality) => KINDS[modality] ?? modality;

/** Return a text with a capital at its start and a full stop at its end. @param {string} text */
export const sentence = (text) => `${text.slice(0, 1).toUpperCase()}${text.slice(1)}${/[.!?]$/.test(text) ? "" : "."}`;

/** Return seconds as m:ss or h:mm:ss, with tenths if there are some. @param {number} seconds */
export function clock(seconds) {
  const tenths = Math.round(seconds * 10);
  const whole = Math.floor(tenths / 10);
  const parts = [Math.floor(whole / 60) % 60, whole % 60];
  const hours = Math.floor(whole / 3600);
  const [minutes, rest] = parts;
  const tail = `${String(rest).padStart(2, "0")}${tenths % 10 ? `.${tenths % 10}` : ""}`;
  return hours ? `${hours}:${String(minutes).padStart(2, "0")}:${tail}` : `${minutes}:${tail}`;
}

/** Return a span of time, or "" if there is none. @param {number | null} start @param {number | null} end */
export function span(start, end) {
  if (start === null || start === undefined) return "";
  return end === null || end === undefined ? clock(start) : `${clock(start)}–${clock(end)}`;
}

/** @param {number} bytes */
export function size(bytes) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let value = bytes;
  let unit = 0;
  while (value >= 999.5 && unit < units.length - 1) {
    value /= 1000;
    unit += 1;
  }
  return `${unit && value < 10 ? value.toFixed(1) : Math.round(value)} ${units[unit]}`;
}

/** Return a probability in percent. @param {number} probability */
export function percent(probability) {
  const value = probability * 100;
  if (value > 0 && value < 1) return "< 1 %";
  return `${Math.round(value)} %`;
}

/** Return a weight with its sign. @param {number} weight */
export const signed = (weight) => `${weight < 0 ? "−" : "+"}${Math.abs(weight).toFixed(2)}`;

/** @param {number} n @param {string} one @param {string} [many] */
export const plural = (n, one, many = `${one}s`) => `${n.toLocaleString("en")} ${n === 1 ? one : many}`;

/** Return a name as folder and last part. @param {string} name */
export function splitName(name) {
  const at = name.lastIndexOf("/");
  return { folder: name.slice(0, at + 1), last: name.slice(at + 1) };
}
