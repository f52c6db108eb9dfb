/** The command lines for other programs, as the README and the publish page print them. */
import {readFile} from 'node:fs/promises';

const README = new URL('../../../README.md', import.meta.url);

/** The README's line for FFmpeg, its continuation lines joined. */
export async function readmeLine() {
  const text = await readFile(README, 'utf8');
  const found = text.replaceAll(/ \\\n\s+/g, ' ').match(/^ +(ffmpeg .* -f whip \S+)$/m);
  if (!found) throw new Error('README.md has no line `ffmpeg … -f whip URL`');
  return found[1];
}

/** The lines of the publish page of a room: `{ffmpeg, gstreamer}`. */
export async function pageLines(page, url, room) {
  await page.goto(`${url}/publish/${room}`);
  const line = (label) => page.locator(`#programs code[aria-label="${label}"]`).textContent();
  return {ffmpeg: await line('ffmpeg 8 or newer'), gstreamer: await line('GStreamer')};
}
