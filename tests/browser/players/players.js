/**
 * The players of the matrix and their limits. An exclusion fails as soon as the player plays the case.
 */
import assert from 'node:assert/strict';
import {playFile, playHls, playShaka} from './chromium.js';
import {ffmpeg, ffprobe, gpac, has, mp4boxjs, mpv, remux} from './tools.js';

/** Seconds by which a duration may differ from what was sent. */
export const DURATION = 0.5;
/** Media seconds that a browser plays in one. */
const RATE = 2;

/**
 * `{name, kind, play}`. A file is `{url, path, bytes}`, a playlist `{url}`; `page` is one of Chromium's with the libraries. GPAC's programs
 * take part where they are installed.
 */
export async function players() {
  const all = [
    {name: 'ffprobe', kind: 'file', play: ({path}) => ffprobe(path)},
    {name: 'ffmpeg', kind: 'file', play: ({path}) => ffmpeg(path)},
    {name: 'ffmpeg -c copy', kind: 'file', play: ({path}) => remux(path)},
    {name: 'mpv', kind: 'file', play: ({url}) => mpv(url)},
    {name: 'mp4box.js', kind: 'file', play: ({bytes}) => mp4boxjs(bytes)},
    {name: 'Chromium', kind: 'file', play: ({url}, page) => playFile(page, url, RATE)},
    {name: 'ffprobe', kind: 'playlist', play: ({url}) => ffprobe(url)},
    {name: 'ffmpeg', kind: 'playlist', play: ({url}) => ffmpeg(url)},
    {name: 'mpv', kind: 'playlist', play: ({url}) => mpv(url)},
    {name: 'hls.js', kind: 'playlist', play: ({url}, page) => playHls(page, url, RATE)},
    {name: 'Shaka Player', kind: 'playlist', play: ({url}, page) => playShaka(page, url, RATE)},
  ];
  if (await has('MP4Box')) all.push({name: 'MP4Box', kind: 'file', play: ({path}) => gpac(path)});
  return all;
}

const FFMPEG = ['ffprobe', 'ffmpeg', 'mpv'];

/** Cases that players cannot play: by player, and by `{kind, codecs, change}` of the case. */
const EXCLUDED = [
  {players: ['hls.js', 'Shaka Player'], reason: 'Chromium has no VP8 in segments of MP4', when: ({codecs}) => codecs.includes('vp8')},
  {players: FFMPEG, reason: 'FFmpeg keeps the codec of the first segment of a playlist', when: ({kind, change}) => kind === 'playlist' && change === 'codec'},
  {players: FFMPEG, reason: 'FFmpeg does not follow timestamps that begin again behind EXT-X-DISCONTINUITY', when: ({kind, change}) => kind === 'playlist' && change === 'rotation'},
  {players: ['Shaka Player'], reason: 'Shaka Player keeps the codec of the first segment of a playlist', when: ({change}) => change === 'codec'},
];

/** Complaints that do not keep players from playing every frame. */
const TOLERATED = [
  {players: FFMPEG, reason: 'FFmpeg reads each init segment of a playlist as a part of one file', complaint: /Found duplicated MOOV Atom|Last message repeated/,
    when: ({kind, change}) => kind === 'playlist' && change === 'size'},
  {players: ['hls.js'], reason: 'the first segment has sound only', complaint: /bufferAppendNoProgress/, when: ({change}) => change === 'late'},
];

/** FFmpeg, and Chromium with it, adds the start of an indexed track to the duration of a file: `late` seconds. */
const ADDS_START = ['ffprobe', 'Chromium'];

/**
 * Plays a source to the end in all players of its kind: no complaint, every frame, the duration of the stream. `case_`: `{kind, codecs,
 * change}`. `sent`: `{frames, seconds}`; without `frames` they are not counted. All players run before the test fails.
 */
export async function playAll(all, case_, source, page, sent) {
  const failures = [];
  for (const player of all.filter(({kind}) => kind === case_.kind)) {
    const exclusion = EXCLUDED.find(({players, when}) => players.includes(player.name) && when(case_));
    const played = await Promise.resolve().then(() => player.play(source, page)).catch((error) => ({complaints: [error.message]}));
    const {complaint} = TOLERATED.find(({players, when}) => players.includes(player.name) && when(case_)) ?? {};
    const complaints = played.complaints.filter((text) => !complaint?.test(text));
    const late = case_.kind === 'file' && ADDS_START.includes(player.name) ? sent.late ?? 0 : 0;
    const wrong = faults({...played, complaints}, {...sent, seconds: sent.seconds + late});
    console.log(`    ${player.name}: ${exclusion ? `excluded, ${exclusion.reason}: ${wrong[0]}` : figures(played, sent)}${exclusion || wrong.length === 0 ? '' : ` FAULTS ${JSON.stringify(wrong)}`}`);
    if (exclusion && wrong.length === 0) failures.push(`${player.name} plays this now: remove its exclusion (${exclusion.reason})`);
    if (!exclusion) failures.push(...wrong.map((fault) => `${player.name}: ${fault}`));
  }
  assert.deepEqual(failures, []);
}

function figures({frames, duration, dropped}, sent) {
  const told = [frames !== undefined && `${frames} of ${sent.frames ?? 'some'} frames`, dropped > 0 && `${dropped} dropped`, duration !== undefined && `${duration.toFixed(2)} of ${sent.seconds.toFixed(2)} s`];
  return told.filter(Boolean).join(', ') || 'nothing to complain of';
}

function faults({complaints, frames, duration, end}, sent) {
  const wrong = [...complaints];
  if (frames !== undefined && sent.frames !== undefined && frames !== sent.frames) wrong.push(`${frames} frames of ${sent.frames} sent`);
  if (duration !== undefined && !(Math.abs(duration - sent.seconds) <= DURATION)) wrong.push(`${duration} s long, ${sent.seconds} s sent`);
  // The last frame lasts for a while after its time.
  if (end !== undefined && !(end >= sent.seconds - DURATION)) wrong.push(`ends at ${end} s of ${sent.seconds} s`);
  return wrong;
}
