/**
 * The console's recordings: a timeline, a list, and a player that reaches any recorded moment by a click, a typed time or a
 * link (`/?room=ROOM&t=2026-03-04T14:03:20Z`). Each gap is shown with its reason.
 */
import * as api from './api.js';
import {findMoment, findWindow} from './finder.js';
import {PlaylistPlayer, UnsupportedError} from './mse.js';
import {Timeline, end, reason} from './timeline.js';
import {announce, bytes, clock, copyButton, count, duration, fileLink, fromField, h, instant, list, pageUrl, request, setText, setTime,
  time, toField, withToken} from './common.js';

/** What to do about a recording's trouble, by its words. */
const REMEDIES = {
  'the disk is full': 'Free space, or delete recordings: then it goes on by itself.',
  'the disk cannot be written': 'Make the recordings folder writable: then it goes on by itself.',
  'the disk fails': 'Look at the disk and at the server’s log.',
};

/** Milliseconds that the timeline's window is unchanged before it is read. */
const STANDS_STILL = 200;
/** Milliseconds until a running recording that has nothing new is read again. */
const CLIP_RETRY = 2000;

const STATES = {
  recording: ['Recording', 'live'],
  finalising: ['Being finished', 'busy'],
  complete: ['Complete', 'good'],
  repaired: ['Repaired after a crash', 'warn'],
  failed: ['Failed', 'bad'],
};

export class Recordings {
  #parts;
  #failed;
  #timeline;
  #recordings = [];
  #manifests = new Map();
  #chosen = null;
  #playlist = null;
  #exports = [];
  #part = 0;
  #linked = false;
  /** Retries to read what a running recording has, and the bytes that it had the last time. */
  #clipTimer = 0;
  #clipBytes = 0;
  /** What the timeline shows of the time before the list. */
  #older = {from: Infinity, to: -Infinity, list: []};
  #olderTimer = 0;

  /** `parts`: timeline, list, empty, more, goto, room, moment, player, video, title, state, at, gaps, links, close, note. `failed(error)` tells. */
  constructor(parts, failed) {
    this.#parts = parts;
    this.#failed = failed;
    this.#timeline = new Timeline(parts.timeline, (room, date) => this.#goTo(room, date), () => this.#reach());
    parts.goto.addEventListener('submit', (event) => {
      event.preventDefault();
      const date = fromField(parts.moment.value);
      if (date) this.#goTo(parts.room.value, date);
    });
    parts.close.addEventListener('click', () => this.#close());
    parts.more.addEventListener('click', () => this.#more().catch(failed));
    parts.video.addEventListener('timeupdate', () => this.#follow());
    parts.video.addEventListener('ended', () => this.#ended());
    parts.video.addEventListener('error', () => this.#parts.video.getAttribute('src') && this.#say('This browser cannot play this recording. Download it instead.'));
    addEventListener('zone', () => {
      this.#timeline.draw();
      if (this.#chosen) this.#describe();
    });
  }

  /** Reads the newest recordings. Throws what the request throws. */
  async refresh() {
    const newest = await api.recordings();
    const ids = new Set(newest.map(({id}) => id));
    const oldest = newest.at(-1)?.startedAt ?? 0;
    const older = newest.length < 100 ? [] : this.#recordings.filter((each) => !ids.has(each.id) && each.startedAt < oldest);
    this.#recordings = [...newest, ...older];
    this.#parts.more.hidden = newest.length < 100;
    this.#show();
  }

  /** Opens what the address names, the first time it is called: after everything above the player has its height. */
  openLink() {
    if (this.#linked) return;
    this.#linked = true;
    const query = new URLSearchParams(location.search);
    const id = query.get('recording');
    if (id) return this.open(id);
    const at = query.get('t');
    const date = at && instant(/^\d+$/.test(at) ? Number(at) : at);
    const room = query.get('room') ?? this.#recordings[0]?.room;
    if (date && room) this.#goTo(room, date);
  }

  /** Whether the stream of that start is recorded. True also where the list does not go back so far. */
  has(stream, startedAt = null) {
    const oldest = this.#parts.more.hidden ? null : this.#recordings.at(-1)?.startedAt;
    return this.#recordings.some((each) => each.stream === stream) || Boolean(oldest && startedAt && startedAt < oldest);
  }

  /** Opens the newest recording of a stream in the list, or the recording that has this id. */
  async open(id) {
    const listed = this.#recordings.find((each) => each.stream === id) ?? this.#recordings.find((each) => each.id === id);
    const recording = listed ?? await api.recordingById(id).catch(() => null);
    if (recording) return this.#choose(recording, 0, {reveal: true});
    return this.#report('This recording does not exist, or is deleted.');
  }

  async #more() {
    const older = await api.recordings({before: this.#recordings.at(-1)?.id});
    this.#recordings.push(...older);
    this.#parts.more.hidden = older.length < 100;
    this.#show();
  }

  #show() {
    const {empty, room, goto: form, timeline, moment} = this.#parts;
    empty.hidden = this.#recordings.length > 0;
    form.hidden = timeline.hidden = this.#recordings.length === 0;
    const rooms = [...new Set([...this.#recordings, ...this.#older.list].map((each) => each.room))].sort();
    list(room, rooms, (name) => name, (name) => h('option', {value: name}, name));
    const [newest] = this.#recordings;
    if (!moment.value && newest) [room.value, moment.value] = [newest.room, toField(newest.startedAt)];
    list(this.#parts.list, this.#recordings, ({id}) => id, (each) => this.#row(each));
    this.#draw();
    this.#reach();
    this.#renew();
  }

  #draw() {
    const listed = new Set(this.#recordings.map(({id}) => id));
    this.#timeline.show([...this.#recordings, ...this.#older.list.filter(({id}) => !listed.has(id))]);
  }

  /** Reads what the timeline's window has of the time before the list, once it stands still. */
  #reach() {
    const oldest = this.#recordings.at(-1)?.startedAt;
    const {from, to} = this.#timeline.window;
    if (this.#parts.more.hidden || !oldest || from >= oldest) return;
    if (from >= this.#older.from && Math.min(to, oldest) <= this.#older.to) return;
    clearTimeout(this.#olderTimer);
    const timer = setTimeout(async () => {
      const window = this.#timeline.window;
      const list = await findWindow(window.from, window.to).catch(() => null);
      if (!list || timer !== this.#olderTimer) return;
      this.#older = {...window, list};
      this.#draw();
    }, STANDS_STILL);
    this.#olderTimer = timer;
  }

  /** What is known by now of the recording in the player. */
  #renew() {
    const old = this.#chosen;
    const fresh = this.#recordings.find(({id}) => id === old?.id);
    if (!fresh || fresh === old) return;
    this.#chosen = fresh;
    if (fresh.state === 'failed' && this.#playlist) {
      this.#stop();
      this.#say(`This recording failed: ${fresh.trouble ?? 'the server’s log says why'}.`);
    }
    if (['state', 'trouble', 'gapCount'].some((name) => fresh[name] !== old[name])) this.#describe();
  }

  #row(first) {
    const badge = h('span', {class: 'badge'});
    const when = time(null);
    const length = h('span', {class: 'number length'});
    const size = h('span', {class: 'number'});
    const gaps = h('span', {class: 'gap-count'});
    const trouble = h('p', {class: 'trouble'});
    const play = h('button', {type: 'button', class: 'small primary', onclick: () => this.#choose(row.recording, 0, {reveal: true})}, 'Play');
    const row = h('li', {class: 'row recording-row'},
      h('div', {class: 'row-main'}, h('strong', {}, first.room), badge),
      h('div', {class: 'row-facts'}, when, length, size, gaps, trouble),
      h('div', {class: 'actions'}, play));
    row.update = (recording) => {
      row.recording = recording;
      setState(badge, recording);
      setTime(when, recording.startedAt);
      setText(length, duration((end(recording) - recording.startedAt) / 1000));
      setText(size, recording.bytes ? bytes(recording.bytes) : '');
      setText(gaps, recording.gapCount ? count(recording.gapCount, 'gap') : '');
      setText(trouble, troubleOf(recording));
      play.setAttribute('aria-label', `Play the recording of ${recording.room} from ${clock(recording.startedAt)}`);
      play.hidden = recording.state === 'failed';
    };
    return row;
  }

  /** Plays a room from a moment on; where nothing is recorded then, what comes next, or else what came last. */
  async #goTo(room, date) {
    let found = null;
    try {
      found = await findMoment(room, date);
    } catch (error) {
      return this.#report(error.message);
    }
    if (!found) return this.#report(`Nothing is recorded of ${room}.`);
    const {recording, seconds, place} = found;
    const other = place === 'after' ? 'Showing the next recording' : 'Showing the end of the last recording before it';
    const note = place === 'at' ? '' : `Nothing is recorded at ${clock(date)}. ${other}, from ${clock(recording.startedAt)}.`;
    if (note) announce(`${room}: ${note}`);
    this.#choose(recording, seconds, {reveal: true, note});
  }

  /** Tells of a failure where no recording is open. */
  #report(text) {
    announce(text);
    this.#failed(new Error(text));
  }

  async #choose(recording, seconds, {reveal = false, note = ''} = {}) {
    const {player, video} = this.#parts;
    const same = this.#chosen?.id === recording.id;
    player.hidden = false;
    this.#say(note);
    if (reveal) this.#reveal();
    if (same && (this.#playlist || this.#exports.length)) {
      this.#seek(seconds);
      video.play().catch(() => {});
      return;
    }
    this.#stop();
    this.#chosen = recording;
    this.#describe();
    this.#timeline.position(recording.room, new Date(recording.startedAt.getTime() + seconds * 1000), {move: true});
    if (reveal) this.#parts.title.focus({preventScroll: true});
    const found = await this.#manifest(recording);
    if (this.#chosen?.id !== recording.id) return;
    this.#exports = found?.exports ?? [{file: 'recording.mp4', start: 0, duration: recording.seconds}];
    this.#describe();
    // Without room for an MP4 there are only segments.
    if (!recording.running && this.#exports.length) return this.#seek(seconds);
    // Browsers without MediaSource, as on an iPhone, play the playlist by themselves.
    this.#exports = globalThis.MediaSource ? [] : [{file: 'index.m3u8', start: 0, duration: recording.seconds}];
    if (this.#exports.length) return this.#seek(seconds);
    const playlist = new PlaylistPlayer(video, recording.urls.playlist, request);
    this.#playlist = playlist;
    playlist.addEventListener('error', ({detail}) => this.#say(detail.message));
    playlist.addEventListener('waiting', () => this.#say('The first seconds are being recorded. The picture starts by itself.'));
    try {
      await playlist.open(seconds);
      if (this.#playlist !== playlist) return;
      this.#say(note);
      video.play().catch(() => {});
    } catch (error) {
      if (this.#playlist !== playlist) return;
      playlist.close();
      this.#playlist = null;
      this.#refused(recording, seconds, error);
    }
  }

  /** Its segments cannot be played: then its MP4 can. */
  #refused(recording, seconds, error) {
    if (!(error instanceof UnsupportedError)) return this.#say(`${error.message}.`);
    if (recording.running) return this.#playClip(recording, seconds);
    this.#exports = [{file: 'recording.mp4', start: 0, duration: recording.seconds}];
    return this.#seek(seconds);
  }

  /** Plays what a running recording has by now as an MP4, and at its end what it has then. */
  async #playClip(recording, seconds) {
    const query = new URLSearchParams({from: recording.startedAt.toISOString(), to: new Date().toISOString()});
    const url = `/rooms/${encodeURIComponent(recording.room)}/clip.mp4?${query}`;
    const answer = await request(url, {method: 'HEAD'}).catch((error) => error);
    if (this.#chosen?.id !== recording.id) return;
    const size = Number(answer.headers?.get('content-length') ?? 0);
    if (answer.status !== 200 && answer.status !== 404) return this.#say(`${answer.message}.`);
    if (size <= this.#clipBytes) {
      if (size === 0) this.#say('The first seconds are being recorded. The picture starts by itself.');
      this.#clipTimer = setTimeout(() => this.#chosen?.id === recording.id && this.#playOn(seconds), CLIP_RETRY);
      return;
    }
    this.#say('');
    this.#clipBytes = size;
    this.#exports = [{url, start: 0, duration: recording.seconds}];
    this.#seek(seconds);
  }

  /** Plays on where the clip of a running recording ends. */
  #playOn(seconds) {
    const recording = this.#chosen;
    if (recording.running) return this.#playClip(recording, seconds);
    this.#exports = [];
    return this.#choose(recording, seconds);
  }

  #ended() {
    if (this.#exports[this.#part + 1]) return this.#load(this.#part + 1, 0);
    return this.#exports[0]?.url ? this.#playOn(this.#offset()) : this.#continue();
  }

  /** Scrolls to the player, unless all of it is seen. */
  #reveal() {
    const {player} = this.#parts;
    const {top, bottom} = player.getBoundingClientRect();
    if (top < 0 || bottom > innerHeight) player.scrollIntoView({block: 'start'});
  }

  async #manifest(recording) {
    if (recording.running) return null;
    if (!this.#manifests.has(recording.id)) {
      this.#manifests.set(recording.id, await api.manifest(recording).catch(() => null));
    }
    return this.#manifests.get(recording.id);
  }

  #seek(seconds) {
    if (this.#playlist) return void this.#playlist.seek(seconds);
    const index = this.#exports.findLastIndex(({start}) => start <= seconds);
    this.#load(Math.max(0, index), seconds - (this.#exports[index]?.start ?? 0));
  }

  /** One MP4 file for each codec and size; nearly always there is one. */
  async #load(index, seconds) {
    const {video} = this.#parts;
    const chosen = this.#chosen;
    this.#part = index;
    const {url, file} = this.#exports[index];
    const source = await withToken(url ?? `${chosen.urls.base}/${file}`).catch((error) => this.#say(error.message));
    if (!source || this.#chosen !== chosen || this.#part !== index) return;
    if (video.getAttribute('src') !== source) {
      video.src = source;
      if (seconds > 0) video.addEventListener('loadedmetadata', () => (video.currentTime = seconds), {once: true});
    } else {
      video.currentTime = seconds;
    }
    video.play().catch(() => {});
  }

  /** Plays the recording that begins where this one ends: a long stream has several in a row. */
  async #continue() {
    const ended = this.#chosen;
    const at = new Date(ended.startedAt.getTime() + this.#offset() * 1000);
    const next = await findMoment(ended.room, at).catch(() => null);
    if (this.#chosen === ended && next?.place === 'at' && next.recording.id !== ended.id) this.#choose(next.recording, next.seconds);
  }

  #offset() {
    return this.#parts.video.currentTime + (this.#exports[this.#part]?.start ?? 0);
  }

  #follow() {
    if (!this.#chosen) return;
    const at = new Date(this.#chosen.startedAt.getTime() + this.#offset() * 1000);
    setTime(this.#parts.at, at);
    this.#timeline.position(this.#chosen.room, at);
  }

  #describe() {
    const recording = this.#chosen;
    const {title, state, gaps, links} = this.#parts;
    setText(title, `${recording.room}, ${clock(recording.startedAt)}`);
    setState(state, recording);
    gaps.replaceChildren(...this.#gapItems(recording));
    links.replaceChildren(
      copyButton(() => pageUrl(`/?room=${encodeURIComponent(recording.room)}&t=${new Date(recording.startedAt.getTime() + this.#offset() * 1000).toISOString()}`),
        {label: 'Copy link to this moment'}),
      h('button', {type: 'button', class: 'small', onclick: () => this.#timeline.focus(recording)}, 'Show whole recording'),
      ...(recording.running ? [] : this.#files(recording)));
  }

  #files(recording) {
    const exports = this.#manifests.get(recording.id)?.exports ?? [{file: 'recording.mp4'}];
    const files = exports.map(({file, bytes: size}) => ({url: `${recording.urls.base}/${file}`, name: file, size}));
    files.push({url: recording.urls.manifest, name: 'manifest.json'});
    return files.map(({url, name, size}) => {
      const text = name === 'manifest.json' ? 'Manifest' : `Download ${name}${size ? ` (${bytes(size)})` : ''}`;
      return fileLink(url, {class: 'button small', download: name === 'manifest.json' ? null : `${recording.room}-${name}`}, text);
    });
  }

  #gapItems(recording) {
    if (recording.running) return [h('li', {}, `${recording.gapCount ? `${count(recording.gapCount, 'gap')} so far` : 'None so far'}. They are listed when the recording is finished.`)];
    if (recording.gapCount === 0) return [h('li', {}, 'No gaps: every moment is recorded.')];
    const more = recording.gapCount - recording.gaps.length;
    return [...recording.gaps.map((gap) => {
      const from = new Date(recording.startedAt.getTime() + gap.from * 1000);
      const seconds = gap.to - gap.from;
      return h('li', {},
        h('button', {type: 'button', class: 'plain', onclick: () => this.#choose(recording, Math.max(0, gap.from - 2))},
          time(from), ` · ${seconds < 10 ? `${seconds.toFixed(1)} s` : duration(seconds)} of ${gap.track ?? 'media'} missing: ${reason(gap)}`));
    }), ...(more > 0 ? [h('li', {}, `${more} more: the manifest lists all.`)] : [])];
  }

  #say(text) {
    setText(this.#parts.note, text);
    this.#parts.note.hidden = !text;
  }

  #stop() {
    clearTimeout(this.#clipTimer);
    this.#clipBytes = 0;
    this.#playlist?.close();
    this.#playlist = null;
    this.#exports = [];
    this.#part = 0;
    this.#parts.video.removeAttribute('src');
    this.#parts.video.load();
  }

  #close() {
    this.#stop();
    const row = [...this.#parts.list.children].find((each) => each.dataset.key === this.#chosen?.id);
    this.#chosen = null;
    this.#parts.player.hidden = true;
    row?.querySelector('button')?.focus();
  }
}

function setState(badge, {state, trouble}) {
  const [words, kind] = state === 'recording' && trouble ? ['Paused', 'bad'] : STATES[state] ?? [state, ''];
  setText(badge, words);
  badge.className = `badge ${kind}`;
}

/** What is wrong with a recording, and the remedy; empty when all is well. */
function troubleOf({state, trouble}) {
  if (!trouble) return '';
  const words = state === 'recording' ? `Paused: ${trouble}.` : state === 'finalising' ? `Not finished yet: ${trouble}.` : `${trouble[0].toUpperCase()}${trouble.slice(1)}.`;
  return state === 'failed' ? words : `${words} ${REMEDIES[trouble] ?? ''}`.trim();
}
