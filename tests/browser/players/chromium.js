/**
 * Players in Chromium, each to the end: `{complaints, duration, end, frames, dropped, times}`. `frames`: decoded pictures; `times`:
 * media times of the presented ones.
 */
import {readFile} from 'node:fs/promises';
import {createRequire} from 'node:module';
import {join} from 'node:path';
import {fileURLToPath} from 'node:url';

const require = createRequire(import.meta.url);
const CLIENTS = process.env.CLIENTS ?? fileURLToPath(new URL('../../../target/tools/clients', import.meta.url));
/** Shaka Player, one of the foreign clients. */
export const SHAKA = join(CLIENTS, 'node_modules/shaka-player/dist/shaka-player.compiled.js');
/** Seconds without progress after which a player has stopped. */
const STALLED = 10;

/** A page of the server's origin with the libraries of the players. `shaka`: the path of Shaka Player, if it is used. */
export async function playerPage(browser, url, {shaka = null} = {}) {
  const context = await browser.newContext({bypassCSP: true});
  const page = await context.newPage();
  await page.goto(url);
  await page.evaluate(() => document.body.replaceChildren());
  await page.addScriptTag({content: await readFile(require.resolve('hls.js/dist/hls.min.js'), 'utf8')});
  if (shaka) await page.addScriptTag({content: await readFile(shaka, 'utf8')});
  await page.addScriptTag({content: `window.watchToEnd = ${watchToEnd}`});
  page.leave = () => context.close();
  return page;
}

/** `<video src>`. */
export function playFile(page, url, rate = 1) {
  return page.evaluate(async ({url, rate, stalled}) => window.watchToEnd({rate, stalled, start: (video) => {
    video.src = url;
    return () => {};
  }}), {url, rate, stalled: STALLED});
}

/** hls.js with its defaults. */
export function playHls(page, url, rate = 1) {
  return page.evaluate(async ({url, rate, stalled}) => window.watchToEnd({rate, stalled, start: (video, complain) => {
    const hls = new Hls();
    hls.on(Hls.Events.ERROR, (_, {type, details, fatal, error}) => complain(`${fatal ? 'fatal ' : ''}${type}: ${details}: ${error?.message}`));
    hls.loadSource(url);
    hls.attachMedia(video);
    return () => hls.destroy();
  }}), {url, rate, stalled: STALLED});
}

/** Shaka Player with its defaults. */
export function playShaka(page, url, rate = 1) {
  return page.evaluate(async ({url, rate, stalled}) => window.watchToEnd({rate, stalled, start: async (video, complain) => {
    const player = new shaka.Player();
    const told = ({code, category, data}) => complain(`shaka ${category}.${code}: ${JSON.stringify(data)?.slice(0, 300)}`);
    player.addEventListener('error', ({detail}) => told(detail));
    await player.attach(video);
    await player.load(url).catch(told);
    return () => player.destroy();
  }}), {url, rate, stalled: STALLED});
}

/**
 * Seeks a paused file to the middle of each frame, and returns the media times of the presented frames. `times`: starts of the frames,
 * seconds after the first.
 */
export function step(page, url, times) {
  return page.evaluate(async ({url, times}) => {
    const video = document.body.appendChild(document.createElement('video'));
    let last;
    const note = (_, {mediaTime}) => {
      last = mediaTime;
      video.requestVideoFrameCallback(note);
    };
    const shows = async (expected) => {
      for (const deadline = performance.now() + 3000; performance.now() < deadline && !expected();) await new Promise((resolve) => setTimeout(resolve, 5));
      return last;
    };
    video.muted = true;
    video.preload = 'auto';
    video.requestVideoFrameCallback(note);
    video.src = url;
    const first = await shows(() => last !== undefined);
    const shown = [first];
    for (const [index, time] of times.entries()) {
      if (index === 0) continue;
      const next = times[index + 1] ?? time + (time - times[index - 1]);
      video.currentTime = first + (time + next) / 2;
      // Not as far as the frame before, which is still presented.
      shown.push(await shows(() => Math.abs(last - first - time) < Math.min(next - time, time - times[index - 1]) / 2));
    }
    video.remove();
    return shown;
  }, {url, times});
}

/** Decodes samples `{type, timestamp, data}` (microseconds; base64) with WebCodecs: the timestamps that come out, in order. */
export function decode(page, {codec, description, samples}) {
  return page.evaluate(async ({codec, description, samples}) => {
    const bytes = (text) => Uint8Array.from(atob(text), (each) => each.charCodeAt(0));
    const out = [];
    const complaints = [];
    const decoder = new VideoDecoder({
      output: (frame) => {
        out.push(frame.timestamp);
        frame.close();
      },
      error: (error) => complaints.push(error.message),
    });
    decoder.configure({codec, ...(description && {description: bytes(description)})});
    for (const {type, timestamp, data} of samples) decoder.decode(new EncodedVideoChunk({type, timestamp, data: bytes(data)}));
    await decoder.flush().catch((error) => complaints.push(error.message));
    return {out, complaints};
  }, {codec, description, samples});
}

/** Runs in the page: plays from the start to the end. `start` attaches a source to the element and returns how to end it. */
async function watchToEnd({rate, stalled, start}) {
  const video = document.body.appendChild(document.createElement('video'));
  const complaints = [];
  const times = [];
  const complain = (text) => complaints.push(`at ${video.currentTime.toFixed(2)} s: ${text}`);
  video.muted = true;
  video.preload = 'auto';
  video.addEventListener('error', () => complain(video.error.message));
  const note = (_, {mediaTime}) => {
    times.push(mediaTime);
    video.requestVideoFrameCallback(note);
  };
  video.requestVideoFrameCallback(note);
  const finish = await start(video, complain);
  video.playbackRate = rate;
  const ended = new Promise((resolve) => video.addEventListener('ended', () => resolve(true)));
  // Pending as long as nothing can be played.
  video.play().catch((error) => complain(error.message));
  let seen = {time: -1, at: performance.now()};
  const stuck = new Promise((resolve) => {
    const timer = setInterval(() => {
      if (video.currentTime > seen.time) seen = {time: video.currentTime, at: performance.now()};
      if (video.ended || video.error || performance.now() - seen.at > stalled * 1000) {
        clearInterval(timer);
        resolve(false);
      }
    }, 200);
  });
  if (!await Promise.race([ended, stuck]) && !video.ended) complain('playback stops before the end');
  // The last frame is presented after the end.
  await new Promise((resolve) => setTimeout(resolve, 300));
  const {totalVideoFrames: frames, droppedVideoFrames: dropped} = video.getVideoPlaybackQuality();
  const {duration, currentTime: end, videoWidth: width} = video;
  await finish();
  video.remove();
  return {complaints, duration, end, width, frames, dropped, times};
}
