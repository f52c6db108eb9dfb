/** Encoded frames for the publisher: pictures by FFmpeg in each codec, at any times. */
import {execFile} from 'node:child_process';
import {readFile} from 'node:fs/promises';
import {join} from 'node:path';
import {promisify} from 'node:util';

const exec = promisify(execFile);

/** Frames per second of the encoder; their times are set afterwards. */
const RATE = 30;
/** The video codecs that the server records. */
export const CODECS = ['h264', 'vp8', 'vp9', 'av1'];

const H264 = ['-c:v', 'libx264', '-preset', 'veryfast', '-profile:v', 'high', '-f', 'mp4'];
const LIBVPX = ['-deadline', 'realtime', '-cpu-used', '8', '-lag-in-frames', '0', '-auto-alt-ref', '0', '-b:v', '400k', '-f', 'ivf'];
const ENCODERS = {
  h264: [...H264, '-x264-params', 'repeat-headers=1:scenecut=0:bframes=0'],
  'h264-b': [...H264, '-x264-params', 'repeat-headers=1:scenecut=0:bframes=2:b-adapt=0:b-pyramid=none'],
  'h264-pyramid': [...H264, '-x264-params', 'repeat-headers=1:scenecut=0:bframes=3:b-adapt=0:b-pyramid=normal'],
  vp8: ['-c:v', 'libvpx', ...LIBVPX],
  vp9: ['-c:v', 'libvpx-vp9', ...LIBVPX],
  av1: ['-c:v', 'libaom-av1', '-usage', 'realtime', '-cpu-used', '8', '-lag-in-frames', '0', '-b:v', '400k', '-f', 'ivf'],
};

/**
 * Encodes `frames` pictures, a keyframe every `interval`, in decoding order: `{codec, data, key, rank}`; `rank` counts in
 * presentation order. `codec`: a key of the encoders.
 */
export async function encode(directory, {codec, frames, interval = 30, size = '320x180'}) {
  const path = encodedPath(directory, {codec, frames, interval, size});
  await exec('ffmpeg', ['-v', 'error', '-y', '-f', 'lavfi', '-i', `testsrc2=size=${size}:rate=${RATE}`, '-frames:v', String(frames), '-pix_fmt', 'yuv420p',
    '-g', String(interval), '-keyint_min', String(interval), ...ENCODERS[codec], path]);
  const file = await readFile(path);
  const read = codec.startsWith('h264') ? await mp4(path, file) : ivf(file);
  if (read.length !== frames) throw new Error(`${read.length} of ${frames} frames are encoded`);
  const order = read.map(({pts}) => pts).sort((a, b) => a - b);
  return read.map(({pts, ...frame}) => ({codec: codec.split('-')[0], rank: order.indexOf(pts), ...frame}));
}

/** Where the frames of [`encode`] are, in a file. */
export const encodedPath = (directory, {codec, frames, interval = 30, size = '320x180'}) => join(directory, `${codec}-${frames}-${interval}-${size}`);

/** Returns a hash of each decoded picture in a file, in presentation order. */
export async function pictures(path) {
  const {stdout} = await exec('ffmpeg', ['-v', 'error', '-i', path, '-map', '0:v', '-fps_mode', 'passthrough', '-enc_time_base', '-1', '-f', 'framemd5', '-'], {maxBuffer: 64 << 20});
  return stdout.split('\n').filter((line) => line !== '' && !line.startsWith('#')).map((line) => line.split(',').at(-1).trim());
}

/** Opus packets of 20 ms for so many seconds: `{codec, data, key, pts, at}`. */
export async function sound(directory, {seconds}) {
  const path = join(directory, `sound-${seconds}.mp4`);
  await exec('ffmpeg', ['-v', 'error', '-y', '-f', 'lavfi', '-i', 'sine=440:sample_rate=48000', '-t', String(seconds), '-c:a', 'libopus', '-b:a', '32k', path]);
  const packets = await mp4(path, await readFile(path));
  return packets.map(({data}, index) => ({codec: 'opus', data, key: true, pts: index * 0.02, at: index * 0.02}));
}

/**
 * Sets the times of frames: `times` in presentation order, in seconds. They leave in decoding order, as from an encoder that returns a frame
 * for each picture: the n-th frame leaves when as many later pictures as the reordering spans are taken. The last ones leave at the rate of
 * the last pictures.
 */
export function timed(frames, times) {
  const delay = Math.max(...frames.map(({rank}, index) => rank - index), 0);
  const taken = (index) => times[index] ?? times.at(-1) + (index - times.length + 1) * (times.at(-1) - times.at(-2));
  return frames.map(({rank, ...frame}, index) => ({...frame, pts: times[rank], at: taken(index + delay)}));
}

/** Times of so many frames a second. */
export function steady(count, rate, from = 0) {
  return Array.from({length: count}, (_, index) => from + index / rate);
}

/** Seconds that pictures at these times last: the last one as long as the one before. */
export function lasting(times) {
  return 2 * times.at(-1) - times.at(-2) - times[0];
}

async function mp4(path, file) {
  const {stdout} = await exec('ffprobe', ['-v', 'error', '-show_entries', 'packet=pts,pos,size,flags', '-of', 'json', path], {maxBuffer: 64 << 20});
  return JSON.parse(stdout).packets.map(({pts, pos, size, flags}) => ({data: file.subarray(Number(pos), Number(pos) + Number(size)), key: flags.includes('K'), pts}));
}

function ivf(file) {
  const frames = [];
  const av1 = file.toString('latin1', 8, 12) === 'AV01';
  const vp8 = file.toString('latin1', 8, 12) === 'VP80';
  for (let at = 32; at < file.length;) {
    const size = file.readUInt32LE(at);
    const data = file.subarray(at + 12, at + 12 + size);
    frames.push({data, key: av1 ? data.includes(SEQUENCE_HEADER) : vp8 ? !(data[0] & 1) : !(data[0] & 0x04), pts: Number(file.readBigUInt64LE(at + 4))});
    at += 12 + size;
  }
  return frames;
}

/** Type 1 with a size, as encoders write it behind the temporal delimiter of a key frame. */
const SEQUENCE_HEADER = Buffer.of(0x12, 0x00, 0x0a);
