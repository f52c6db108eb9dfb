/**
 * Players outside the browser, each to the end of a file or playlist: `{complaints, duration}` and, where it counts them, `{frames}`,
 * decoded pictures. A message of a program is a complaint.
 */
import {execFile} from 'node:child_process';
import {mkdtemp, readFile, rm} from 'node:fs/promises';
import {tmpdir} from 'node:os';
import {join} from 'node:path';
import {promisify} from 'node:util';
import {createFile, DataStream, MP4BoxBuffer} from 'mp4box';

/** Seconds for one program. */
const TIMEOUT = 60;
/** Media seconds that mpv plays in one. */
const SPEED = 4;

/** mpv's notice that a machine is slower than that. */
const SLOW = /^(Audio device underrun|Audio\/Video desynchronisation detected|hardware, temporary CPU spikes|position will not match)/;

/** Runs a program: what it wrote, and its exit code. */
async function run(program, args, options = {}) {
  const ran = await promisify(execFile)(program, args, {timeout: TIMEOUT * 1000, maxBuffer: 64 << 20, ...options}).catch((error) => error);
  if (ran.code === 'ENOENT') throw new Error(`there is no ${program}; install it`);
  return {stdout: ran.stdout, stderr: ran.stderr, code: ran.killed ? `none after ${TIMEOUT} s` : ran.code ?? 0};
}

const lines = (text) => text.split(/[\r\n]+/).map((line) => line.trim()).filter((line) => line !== '');
const failed = (program, {code}) => (code === 0 ? [] : [`${program} ends with exit code ${code}`]);

/** Whether there is such a program. */
export async function has(program) {
  return run('sh', ['-c', `command -v ${program}`]).then(({code}) => code === 0);
}

/** FFmpeg's reader and decoders count every picture. */
export async function ffprobe(source) {
  const ran = await run('ffprobe', ['-v', 'warning', '-count_frames', '-show_entries', 'format=duration:stream=codec_type,nb_read_frames', '-of', 'json', source]);
  const {streams = [], format = {}} = JSON.parse(ran.stdout || '{}');
  const frames = streams.filter((stream) => stream.codec_type === 'video').reduce((sum, stream) => sum + Number(stream.nb_read_frames), 0);
  return {complaints: [...lines(ran.stderr), ...failed('ffprobe', ran)], duration: Number(format.duration), frames};
}

/** FFmpeg decodes all, as fast as it can. */
export async function ffmpeg(source) {
  // Frames keep their own times: the null muxer would complain of jitter that it rounds to a frame rate.
  const ran = await run('ffmpeg', ['-nostdin', '-v', 'warning', '-xerror', '-i', source, '-map', '0', '-fps_mode', 'passthrough', '-enc_time_base', '-1', '-progress', 'pipe:1', '-f', 'null', '-']);
  const last = (name) => Number(lines(ran.stdout).findLast((line) => line.startsWith(`${name}=`))?.split('=')[1]);
  return {complaints: [...lines(ran.stderr), ...failed('ffmpeg', ran)], frames: last('frame')};
}

/** FFmpeg copies all into another container, which refuses decoding times that do not grow. */
export async function remux(source) {
  const ran = await run('ffmpeg', ['-nostdin', '-v', 'warning', '-i', source, '-map', '0', '-c', 'copy', '-y', '-f', 'matroska', '/dev/null']);
  return {complaints: [...lines(ran.stderr), ...failed('ffmpeg', ran)]};
}

/** mpv plays picture and sound against each other, faster than they are. */
export async function mpv(source) {
  const status = '--term-status-msg=at ${=time-pos} of ${=duration}';
  const ran = await run('mpv', ['--no-config', '--vo=null', '--ao=null', '--framedrop=no', `--speed=${SPEED}`, '--terminal=yes', '--msg-level=all=warn,statusline=status', status, source]);
  // Escape sequences clear the line of the status.
  const said = lines(ran.stdout + ran.stderr).map((line) => line.replace(/^(\x1b\[[^A-Z]*[A-Z])+/, '')).filter((line) => line !== '');
  const [, at, duration] = said.findLast((line) => line.startsWith('at '))?.match(/^at (\S+) of (\S+)$/) ?? [];
  const complaints = said.filter((line) => !line.startsWith('at ') && !SLOW.test(line));
  return {complaints: [...complaints, ...failed('mpv', ran)], duration: Number(duration), end: Number(at)};
}

/** GPAC's reader: `MP4Box -info`, and its table of every sample's times. Pictures are the samples of the first track. */
export async function gpac(path) {
  const place = await mkdtemp(join(tmpdir(), 'gpac-'));
  try {
    const table = join(place, 'times.txt');
    const info = await run('MP4Box', ['-info', path]);
    const times = await run('MP4Box', ['-dtsx', path, '-out', table]);
    const wrong = [...lines(info.stderr), ...lines(times.stderr)].filter((line) => /warn|error|invalid|corrupt|negative|overlap|\bnot\b/i.test(line));
    const [first = ''] = (await readFile(table, 'utf8')).split(/^#dumping track .*$/m).slice(1);
    const samples = [...first.matchAll(/^Sample \d+\tDTS (\d+)\tCTS (-?\d+)/gm)].map(([, dts, cts]) => ({dts: Number(dts), cts: Number(cts)}));
    samples.forEach(({dts, cts}, n) => {
      if (cts < dts || samples[n + 1]?.dts <= dts) wrong.push(`sample ${n + 1} is decoded at ${dts} and presented at ${cts}`);
    });
    const duration = /^Fragmented: yes - duration (.*)$/m.exec(info.stderr) ?? /^Duration (\S+)/m.exec(info.stderr);
    const [hours, minutes, seconds] = (duration?.[1] ?? '').split(':').map(Number);
    return {
      complaints: [...wrong, ...failed('MP4Box -info', info), ...failed('MP4Box -dtsx', times)],
      frames: samples.length,
      duration: hours * 3600 + minutes * 60 + seconds,
    };
  } finally {
    await rm(place, {recursive: true});
  }
}

/**
 * mp4box.js reads every sample of a file: decoding times grow, and no two pictures are presented at the same time. Its tracks are
 * for [`decoderInput`].
 */
export function mp4boxjs(bytes) {
  const file = createFile();
  const complaints = [];
  let movie;
  const samples = {};
  file.onError = (module, message) => complaints.push(`${module}: ${message}`);
  file.onReady = (info) => {
    movie = info;
    for (const {id} of info.tracks) file.setExtractionOptions(id, null, {nbSamples: 100});
    file.start();
  };
  file.onSamples = (id, _, some) => { (samples[id] ??= []).push(...some); };
  file.appendBuffer(MP4BoxBuffer.fromArrayBuffer(Uint8Array.from(bytes).buffer, 0), true);
  file.flush();
  const tracks = (movie?.tracks ?? []).map((track) => ({...track, samples: samples[track.id] ?? []}));
  if (tracks.length === 0) complaints.push('there are no tracks');
  for (const {id, samples} of tracks) {
    for (const [index, {dts, duration}] of samples.entries()) {
      if (duration <= 0 || samples[index + 1]?.dts <= dts) complaints.push(`track ${id}: sample ${index} lasts ${duration} from ${dts}`);
    }
    if (new Set(samples.map(({cts}) => cts)).size !== samples.length) complaints.push(`track ${id}: samples are presented at the same time`);
  }
  const timed = tracks.flatMap(({samples, timescale}) => samples.map(({cts, duration}) => ({from: cts / timescale, to: (cts + duration) / timescale})));
  const span = Math.max(...timed.map(({to}) => to)) - Math.min(...timed.map(({from}) => from));
  return {complaints, tracks, frames: tracks.find(({type}) => type === 'video')?.samples.length ?? 0, duration: span};
}

/** What WebCodecs decodes of these tracks: the configuration of the picture's decoder, and its samples. */
export function decoderInput(tracks) {
  const {codec, samples, timescale} = tracks.find(({type}) => type === 'video');
  const {avcC} = samples[0].description;
  const chunk = ({is_sync: sync, cts, data}) => ({type: sync ? 'key' : 'delta', timestamp: Math.round(cts * 1e6 / timescale), data: Buffer.from(data).toString('base64')});
  return {codec, description: avcC && payload(avcC).toString('base64'), samples: samples.map(chunk)};
}

/** A box without its header. */
function payload(box) {
  const stream = new DataStream();
  box.write(stream);
  return Buffer.from(stream.buffer, 8);
}
