/** A recording from the microphone, with its level. */

import { byId } from "../dom.js";
import { clock } from "../format.js";

const MAX_S = 60;
/** Types to record, best first, and names of files that the server takes for sounds. */
const TYPES = Object.freeze({
  "audio/webm;codecs=opus": "recording.weba",
  "audio/ogg;codecs=opus": "recording.ogg",
  "audio/mp4": "recording.m4a",
});

/**
 * Listen for the button; the recording is given to `onSound`.
 * @param {{onSound: (blob: Blob, name: string) => void, onError: (message: string) => void}} handlers
 */
export function listenForRecording({ onSound, onError }) {
  const panel = byId("recorder");
  const button = byId("record");
  /** @type {(() => void) | null} */
  let stop = null;

  button.addEventListener("click", async () => {
    if (stop) stop();
    else await start();
  });

  async function start() {
    const type = globalThis.MediaRecorder && Object.keys(TYPES).find((one) => MediaRecorder.isTypeSupported(one));
    if (!type || !navigator.mediaDevices) {
      onError("this browser cannot record here: open the page as localhost or over HTTPS, or drop a sound file");
      return;
    }
    let stream;
    try {
      stream = await navigator.mediaDevices.getUserMedia({ audio: true });
    } catch (error) {
      onError(`the microphone cannot be used: ${/** @type {Error} */ (error).message || "permission was not given"}`);
      return;
    }
    record(stream, type);
  }

  function record(stream, type) {
    const recorder = new MediaRecorder(stream, { mimeType: type });
    const level = showLevel(stream);
    const began = performance.now();
    const chunks = /** @type {Blob[]} */ ([]);
    let isWanted = true;
    const finish = () => recorder.state !== "inactive" && recorder.stop();
    const timer = setInterval(() => {
      const seconds = (performance.now() - began) / 1000;
      byId("record-time").textContent = clock(Math.floor(seconds));
      if (seconds >= MAX_S) finish();
    }, 200);

    recorder.addEventListener("dataavailable", (event) => chunks.push(event.data));
    recorder.addEventListener("stop", () => {
      clearInterval(timer);
      level.close();
      for (const track of stream.getTracks()) track.stop();
      panel.hidden = true;
      button.setAttribute("aria-pressed", "false");
      stop = null;
      button.focus();
      if (isWanted) onSound(new Blob(chunks, { type }), TYPES[type]);
    });
    stop = finish;
    byId("record-stop").onclick = finish;
    byId("record-cancel").onclick = () => {
      isWanted = false;
      finish();
    };
    byId("record-time").textContent = "0:00";
    panel.hidden = false;
    button.setAttribute("aria-pressed", "true");
    byId("record-stop").focus();
    recorder.start();
  }
}

/** Show the level of a stream: the root mean square, from -60 to 0 dB of full scale. */
function showLevel(stream) {
  const meter = /** @type {HTMLMeterElement} */ (byId("record-level"));
  const context = new AudioContext();
  const analyser = new AnalyserNode(context, { fftSize: 1024 });
  const samples = new Float32Array(analyser.fftSize);
  let frame = 0;
  context.createMediaStreamSource(stream).connect(analyser);
  const draw = () => {
    analyser.getFloatTimeDomainData(samples);
    const power = samples.reduce((sum, one) => sum + one * one, 0) / samples.length;
    meter.value = Math.max(0, Math.min(1, 1 + Math.log10(power + 1e-9) / 6));
    frame = requestAnimationFrame(draw);
  };
  draw();
  return {
    close() {
      cancelAnimationFrame(frame);
      context.close();
    },
  };
}
