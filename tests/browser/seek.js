/**
 * Seeks in an MP4, for tests that are not in JavaScript: `{url, seeks}` is read as JSON from standard input. The duration, and
 * of each seek the wanted and the presented time in seconds and the milliseconds in between, are written as JSON to standard
 * output. Ends with 1 when a frame is not presented within 10 s.
 */
import {launch} from './browser.js';
import {text} from 'node:stream/consumers';

const {url, seeks} = JSON.parse(await text(process.stdin));
const browser = await launch();
try {
  const page = await browser.newPage();
  const result = await page.evaluate(async ({url, seeks}) => {
    const within = (what, promise) => Promise.race([promise,
      new Promise((_, reject) => setTimeout(() => reject(new Error(`not within 10 s: ${what}`)), 10_000))]);
    const video = document.createElement('video');
    const once = (name) => new Promise((resolve, reject) => {
      video.addEventListener(name, resolve, {once: true});
      video.addEventListener('error', () => reject(new Error(video.error.message)), {once: true});
    });
    video.muted = true;
    video.preload = 'auto';
    document.body.append(video);
    const loaded = once('loadeddata');
    video.src = url;
    await within('the first frame', loaded);
    const {duration} = video;
    const all = [];
    for (let number = 0; number < seeks; number++) {
      const wanted = Math.random() * (duration - 1);
      const started = performance.now();
      const seeked = once('seeked');
      const frame = new Promise((resolve) => {
        // The frame before the seek may be presented once more.
        const look = (_, {mediaTime}) => (Math.abs(mediaTime - wanted) < 2 ? resolve(mediaTime) : video.requestVideoFrameCallback(look));
        video.requestVideoFrameCallback(look);
      });
      video.currentTime = wanted;
      const [shown] = await within(`a frame at ${wanted} s`, Promise.all([frame, seeked]));
      all.push({wanted, shown, milliseconds: performance.now() - started});
    }
    return {duration, seeks: all};
  }, {url, seeks});
  console.log(JSON.stringify(result));
} catch (error) {
  console.error(error.message);
  process.exitCode = 1;
} finally {
  await browser.close();
}
