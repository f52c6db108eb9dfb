/** Chromium for the tests: Debian's, headless, without its background traffic, with a fake camera when one is asked for. */
import {execFile} from 'node:child_process';
import {mkdir, mkdtemp, readFile, rm, writeFile} from 'node:fs/promises';
import {tmpdir} from 'node:os';
import {join} from 'node:path';
import {promisify} from 'node:util';
import {chromium} from 'playwright-core';

const run = promisify(execFile);
const FLAGS = ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update',
  '--disable-sync', '--autoplay-policy=no-user-gesture-required', '--use-fake-ui-for-media-stream', '--use-fake-device-for-media-stream'];

/** `camera` is an MJPEG file that the fake camera plays over and over; `without` names flags of Playwright's to leave out. */
export function launch({camera = null, flags = [], without = []} = {}) {
  return chromium.launch({
    executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
    headless: true,
    ignoreDefaultArgs: without,
    args: [...FLAGS, ...(camera ? [`--use-file-for-fake-video-capture=${camera}`] : []), ...flags],
  });
}

/** A temporary folder that goes away with `clean()`. */
export async function folder() {
  const path = await mkdtemp(join(tmpdir(), 'browser-tests-'));
  return {path, clean: () => rm(path, {recursive: true, force: true})};
}

/** A moving picture for the fake camera: four seconds, 640 × 360, 30 frames/s. */
export async function movingPicture(directory) {
  const path = join(directory, 'camera.mjpeg');
  await run('ffmpeg', ['-v', 'error', '-f', 'lavfi', '-i', 'testsrc2=size=640x360:rate=30,rotate=t/2:fillcolor=gray', '-t', '4', '-q:v', '4', '-f', 'mjpeg', path]);
  return path;
}

/** A short MP4 with picture and sound, its index in front. */
export async function clip(directory) {
  const path = join(directory, 'clip.mp4');
  await run('ffmpeg', ['-v', 'error', '-f', 'lavfi', '-i', 'testsrc2=size=640x360:rate=30', '-f', 'lavfi', '-i', 'sine=440', '-t', '6', '-c:v', 'libx264',
    '-preset', 'ultrafast', '-pix_fmt', 'yuv420p', '-c:a', 'libopus', '-movflags', '+faststart', path]);
  return path;
}

/**
 * A directory with a recording that still grows: segments of 10 s and a playlist without an end. Its picture has its time: the
 * brightness of the left half rises over all `seconds`, that of the right half within each minute.
 */
export async function growing(directory, {seconds}) {
  const path = join(directory, 'growing');
  await mkdir(path);
  await run('ffmpeg', ['-v', 'error', '-f', 'lavfi', '-i', `color=black:size=64x36:rate=5,format=yuv420p,geq=lum='16+219*if(lt(X,32),T/${seconds},mod(T,60)/60)':cb=128:cr=128`,
    '-f', 'lavfi', '-i', 'sine=440:sample_rate=48000', '-t', String(seconds), '-c:v', 'libx264', '-preset', 'ultrafast', '-crf', '4', '-g', '50', '-keyint_min', '50', '-sc_threshold', '0', '-c:a', 'libopus', '-b:a', '16k',
    '-f', 'hls', '-hls_time', '10', '-hls_list_size', '0', '-hls_segment_type', 'fmp4', '-hls_flags', 'program_date_time', '-hls_fmp4_init_filename', 'init-1.mp4',
    '-hls_segment_filename', join(path, 'segment-%06d.m4s'), join(path, 'index.m3u8')]);
  const playlist = join(path, 'index.m3u8');
  await writeFile(playlist, (await readFile(playlist, 'utf8')).replace('#EXT-X-ENDLIST\n', ''));
  return path;
}

/** Files for the headless camera: `{video, audio}`, 640 × 360, 30 frames/s, a keyframe every 2 s; h264, vp8 or vp9. */
export async function encoded(directory, {codec, seconds}) {
  const encoders = {
    h264: ['-c:v', 'libx264', '-preset', 'veryfast', '-tune', 'zerolatency', '-profile:v', 'baseline', '-sc_threshold', '0', '-bf', '0', '-f', 'h264'],
    vp8: ['-c:v', 'libvpx', '-deadline', 'realtime', '-cpu-used', '8', '-f', 'ivf'],
    vp9: ['-c:v', 'libvpx-vp9', '-deadline', 'realtime', '-cpu-used', '8', '-row-mt', '1', '-f', 'ivf'],
  };
  const video = join(directory, `${codec}-${seconds}.${codec === 'h264' ? 'h264' : 'ivf'}`);
  const audio = join(directory, `${seconds}.ogg`);
  await run('ffmpeg', ['-v', 'error', '-y', '-f', 'lavfi', '-i', 'testsrc2=size=640x360:rate=30', '-t', String(seconds), '-pix_fmt', 'yuv420p', '-g', '60',
    '-keyint_min', '60', '-b:v', '1000k', ...encoders[codec], video]);
  await run('ffmpeg', ['-v', 'error', '-y', '-f', 'lavfi', '-i', 'sine=440:sample_rate=48000', '-t', String(seconds), '-c:a', 'libopus', '-b:a', '48k', '-ac', '2', audio]);
  return {video, audio};
}

/** Sound with another tone in each channel: `left` and `right` in Hz, whole numbers, so that it loops without a jump. */
export async function tones(directory, {left, right, seconds}) {
  const path = join(directory, `${left}-${right}.ogg`);
  const wave = (frequency) => `sin(2*PI*${frequency}*t)/4`;
  await run('ffmpeg', ['-v', 'error', '-y', '-f', 'lavfi', '-i', `aevalsrc='${wave(left)}|${wave(right)}':s=48000:c=stereo`, '-t', String(seconds), '-c:a', 'libopus',
    '-b:a', '128k', path]);
  return path;
}

/** Polls `probe` (may be async) until it gives something truthy; throws with `what` after `seconds`. */
export async function eventually(what, probe, seconds = 10) {
  const deadline = Date.now() + seconds * 1000;
  let last;
  for (;;) {
    try {
      last = await probe();
      if (last) return last;
    } catch (error) {
      last = error;
    }
    if (Date.now() > deadline) throw new Error(`not within ${seconds} s: ${what}; last: ${last instanceof Error ? last.message : JSON.stringify(last)}`);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

/** Collects what a page complains of: errors, refused sources (CSP), failed modules. */
export function complaints(page) {
  const found = [];
  page.on('pageerror', (error) => found.push(`error: ${error.message}`));
  page.on('console', (message) => {
    if (message.type() === 'error' && !/Failed to load resource/.test(message.text())) found.push(`console: ${message.text()}`);
  });
  return found;
}
