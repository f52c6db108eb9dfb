/**
 * What the console reads from the server: streams, recordings, events. The one place that knows the shape of the answers.
 */
import {at, authorization, instant, json, request} from './common.js';

/** Live and created streams, or past ones (a page of them), newest first. */
export async function streams({state = null, before = null, limit = 100} = {}) {
  const query = new URLSearchParams({limit});
  if (state) query.set('state', state);
  if (before) query.set('before', before);
  return (await listed(`/streams?${query}`, 'streams')).map(stream);
}

export function endStream(id) {
  return request(`/streams/${encodeURIComponent(id)}/end`, {method: 'POST'});
}

/** A page of recordings, newest first; with `from` and `to`, Dates, those that have media from the one to the other. */
export async function recordings({limit = 100, before = null, room = null, from = null, to = null} = {}) {
  const query = new URLSearchParams({limit});
  if (before) query.set('before', before);
  if (room) query.set('room', room);
  if (from) query.set('from', from.toISOString());
  if (to) query.set('to', to.toISOString());
  return (await listed(`/recordings?${query}`, 'recordings')).map(recording);
}

/** Returns the recording with this id, or null. The first recording of a stream has the stream's id. */
export async function recordingById(id) {
  try {
    return recording(camel(await json(`/recordings/${encodeURIComponent(id)}`)));
  } catch (error) {
    if (error.status === 404) return null;
    throw error;
  }
}

/** What a finished recording consists of; null while there is no manifest. */
export async function manifest(recording) {
  if (!recording.urls.manifest || recording.running) return null;
  return camel(await json(recording.urls.manifest));
}

async function listed(path, name) {
  const body = camel(await json(path));
  return Array.isArray(body) ? body : body[name] ?? [];
}

function stream(raw) {
  const live = raw.live?.publisher ?? {};
  return {
    id: raw.id,
    room: raw.room,
    name: raw.name ?? null,
    state: raw.state,
    publishing: raw.publishing ?? raw.state === 'live',
    trouble: raw.trouble ?? [],
    startedAt: instant(raw.startedAt ?? raw.createdAt),
    endedAt: instant(raw.endedAt),
    endReason: raw.endReason ?? null,
    viewers: raw.viewers ?? 0,
    publisher: {
      subject: raw.publisher ?? null,
      bitrate: live.bitrateBps ?? null,
      codecs: [live.videoCodec, live.audioCodec].filter(Boolean),
      lost: live.packets ? live.packetsLost / (live.packets + live.packetsLost) : null,
    },
    outBitrate: raw.live?.viewersBitrateBps ?? null,
  };
}

function recording(raw) {
  const id = raw.id ?? raw.stream;
  const base = at(`/recordings/${encodeURIComponent(id)}`);
  const urls = Object.fromEntries(Object.entries(raw.urls ?? {}).map(([name, path]) => [name, path && at(path)]));
  return {
    id,
    stream: raw.stream ?? id,
    room: raw.room,
    state: raw.state,
    running: raw.state === 'recording' || raw.state === 'finalising',
    startedAt: instant(raw.startedAt),
    endedAt: instant(raw.endedAt),
    seconds: raw.durationSeconds ?? 0,
    bytes: raw.bytes ?? 0,
    gaps: raw.gaps ?? [],
    gapCount: raw.gapCount ?? 0,
    trouble: raw.trouble ?? null,
    urls: {playlist: `${base}/index.m3u8`, manifest: `${base}/manifest.json`, base, ...urls},
  };
}

function camel(value) {
  if (Array.isArray(value)) return value.map(camel);
  if (value === null || typeof value !== 'object') return value;
  return Object.fromEntries(Object.entries(value).map(([key, each]) => [key.replace(/_([a-z])/g, (_, letter) => letter.toUpperCase()), camel(each)]));
}

/**
 * Server-sent events by fetch, since EventSource cannot send a token. `heard({id, name, at, data})`; `connected(boolean)` tells
 * whether the channel stands. Comes back by itself, from where it was. Returns a function that ends it.
 */
export function events(heard, connected) {
  const abort = new AbortController();
  let last = null;
  let pause = 1000;
  const run = async () => {
    while (!abort.signal.aborted) {
      try {
        const headers = {Accept: 'text/event-stream', ...authorization(), ...(last ? {'Last-Event-ID': last} : {})};
        const response = await fetch(at('/events'), {headers, signal: abort.signal, cache: 'no-store'});
        if (!response.ok) throw new Error(`events: ${response.status}`);
        connected(true);
        pause = 1000;
        await read(response.body, (event) => {
          last = event.id || last;
          const body = parse(event.data);
          if (body) heard({id: event.id, name: event.name, at: instant(body.at) ?? new Date(), data: camel(body)});
        });
      } catch {
        // The next round tells.
      }
      if (abort.signal.aborted) return;
      connected(false);
      await new Promise((resolve) => setTimeout(resolve, pause));
      pause = Math.min(pause * 2, 30_000);
    }
  };
  run();
  return () => abort.abort();
}

async function read(body, emit) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = '';
  for (;;) {
    const {value, done} = await reader.read();
    if (done) return;
    const blocks = (rest + value).replaceAll('\r\n', '\n').split('\n\n');
    rest = blocks.pop();
    for (const block of blocks) {
      const event = {id: '', name: 'message', data: []};
      for (const line of block.split('\n')) {
        const [, field, text] = line.match(/^(\w+): ?(.*)$/) ?? [];
        if (field === 'id') event.id = text;
        else if (field === 'event') event.name = text;
        else if (field === 'data') event.data.push(text);
      }
      if (event.data.length) emit({...event, data: event.data.join('\n')});
    }
  }
}

function parse(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}
